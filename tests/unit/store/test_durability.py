"""Nothing that was acknowledged is lost: not to another writer, not to a kill."""

import multiprocessing
import os
import time
from multiprocessing.connection import Connection

import numpy as np

from fair_strategy.store import Store, cases, plans
from fair_strategy.store.recovery import find_problem

forked = multiprocessing.get_context("fork")


def test_two_processes_that_write_at_once_lose_nothing(study):
    ids = [f"c{n}" for n in range(6)]

    def reader() -> None:
        for turn in range(60):
            case_id = ids[turn % 6]
            cases.save_label(study.store, study.label(case_id, f"t{turn}", info={"turn": turn}))
            cases.update_info(study.store, case_id, {f"reader {turn}": turn})
        os._exit(0)

    def scorer() -> None:
        for turn in range(120):
            cases.update_info(study.store, ids[turn % 6], {f"score {turn}": turn})
        os._exit(0)

    processes = [forked.Process(target=reader), forked.Process(target=scorer)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0, 0]
    kept = {key for case in cases.cases(study.store) for key in case.info}
    expected = {f"reader {n}" for n in range(60)} | {f"score {n}" for n in range(120)}
    assert kept == expected
    turns = {r.tag: (r.info["turn"], r.client_id) for r in cases.labels(study.store)}
    assert turns == {f"t{n}": (n, "reader") for n in range(60)}


def save_for_ever(study, first: int, acknowledge: Connection) -> None:
    """Lease and label cases in turn, saying each number once its label is saved."""
    study.store = Store.open(study.store.state_dir)
    for number in range(first, 100_000):
        case_id = f"k{number}"
        cases.add(study.store, study.scans(case_id)[0])
        study.save(case_id, info={"number": number, "long": "x" * 500})
        acknowledge.send(number)


def kill_at_a_random_moment(study, first: int, rng: np.random.Generator) -> int:
    """Run a writer from number `first`, kill it, and return the last number it acknowledged."""
    listen, acknowledge = forked.Pipe(duplex=False)
    process = forked.Process(target=save_for_ever, args=(study, first, acknowledge))
    process.start()
    acknowledge.close()
    last = listen.recv()
    for _ in range(int(rng.integers(0, 8))):
        last = listen.recv()
    time.sleep(float(rng.uniform(0.0, 0.006)))
    process.kill()
    process.join()
    try:
        while True:
            last = listen.recv()
    except EOFError:
        return last


def test_a_writer_killed_twenty_times_has_lost_no_acknowledged_label(study, rng):
    study.store.close()
    first = 0
    for _ in range(20):
        last = kill_at_a_random_moment(study, first, rng)
        store = Store.open(study.store.state_dir)
        kept = {r.case_id: r for r in cases.labels(store)}
        missing = [n for n in range(last + 1) if f"k{n}" not in kept]
        assert missing == []
        assert all(r.info["number"] == int(c[1:]) for c, r in kept.items())
        assert all(r.client_id == "reader" and len(r.info["long"]) == 500 for r in kept.values())
        assert store.recovery is None
        store.close()
        first = last + 1
    assert find_problem(study.store.path) is None


def test_a_kill_between_hand_out_and_commit_leaves_neither_lease_nor_decision(study):
    def child() -> None:
        with study.store.transaction() as connection:
            connection.execute(
                "INSERT INTO decisions (plan_id, position, case_id, client_id, created_at) "
                "SELECT max(plan_id), 0, 'c0', 'ann', 0 FROM plans"
            )
            connection.execute("INSERT INTO leases VALUES ('c0', 'ann', 1e9, 1)")
            os._exit(9)

    process = forked.Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 9
    assert plans.decisions(study.store) == []
    assert study.take("bob") == "c0"
