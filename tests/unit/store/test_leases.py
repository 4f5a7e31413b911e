"""Next Sample: who gets which case, for how long, and what a skip does."""

import threading

import numpy as np
import pytest

from fair_strategy.store import Store, cases, plans
from fair_strategy.store.open_rows import refresh_open


def test_a_client_gets_the_first_row_and_everything_known_about_it(study):
    plan_id = plans.latest_plan(study.store, "weighted_entropy").plan_id
    taken = study.taken("ann")
    assert taken == plans.Taken(
        case_id="c0",
        plan_id=plan_id,
        position=0,
        percentile=100.0,
        reason="",
        model="model-a",
        strategy="weighted_entropy",
        decision_id=1,
    )


def test_without_a_plan_nothing_is_handed_out(study):
    assert study.take("ann", strategy="entropy") is None
    assert plans.decisions(study.store) == []


def test_clients_who_ask_one_after_the_other_get_different_cases_until_none_is_left(study):
    clients = [f"client-{n}" for n in range(7)]
    handed = [study.take(client) for client in clients]
    assert handed == ["c0", "c1", "c2", "c3", "c4", "c5", None]


def test_a_case_leased_in_one_strategy_is_leased_in_all(study):
    study.plan("c0", "c1", strategy="random")
    assert study.take("ann") == "c0"
    assert study.take("bob", strategy="random") == "c1"


def test_an_expired_lease_sets_the_case_free_at_its_very_end(study):
    assert study.take("ann", now=0.0, lease_s=60.0) == "c0"
    assert study.take("bob", now=59.9) == "c1"
    assert study.take("eve", now=60.0) == "c0"


def test_leases_survive_a_restart(study, reopened):
    assert study.take("ann", now=0.0) == "c0"
    study.store.close()
    after = reopened()
    assert [lease.case_id for lease in plans.leases(after.store, now=1.0)] == ["c0"]
    assert after.take("bob", now=1.0) == "c1"


def test_asking_again_skips_the_held_case_which_others_may_have_at_once(study):
    assert study.take("ann", now=0.0) == "c0"
    assert study.take("ann", now=1.0) == "c1"
    assert study.take("bob", now=2.0) == "c0"
    assert plans.lease_of(study.store, "c1").client_id == "ann"


def test_a_distinct_client_holds_one_case_at_a_time(study):
    for now in range(4):
        study.take("ann", now=float(now))
    held = [(lease.case_id, lease.client_id) for lease in plans.leases(study.store, now=4.0)]
    assert held == [("c3", "ann")]


def test_a_skipped_case_comes_back_to_its_client_after_the_pause(study):
    assert study.take("ann", now=0.0, skip_s=30.0) == "c0"
    assert study.take("ann", now=10.0, skip_s=30.0) == "c1"
    study.save("c1")
    assert study.take("ann", now=39.9) == "c2"
    study.save("c2")
    assert study.take("ann", now=40.0) == "c0"


def test_when_only_paused_cases_are_left_the_one_whose_pause_ends_first_is_given(study):
    study.plan("c0", "c1", "c2")
    order = [study.take("ann", now=float(now), skip_s=1000.0) for now in range(5)]
    # c0 was skipped first, so it comes first again; then c1; nobody is left empty-handed.
    assert order == ["c0", "c1", "c2", "c0", "c1"]


def test_the_only_case_left_is_given_again_to_the_client_that_skips_it(study):
    study.plan("c0")
    assert [study.take("ann", now=float(now)) for now in range(3)] == ["c0"] * 3


def test_a_lease_that_ran_out_is_no_skip(study):
    assert study.take("ann", now=0.0, lease_s=60.0) == "c0"
    assert study.take("ann", now=61.0, lease_s=60.0) == "c0"


def test_the_shared_id_never_releases_by_asking_again(study):
    assert [study.take("user-xyz", now=float(now)) for now in range(3)] == ["c0", "c1", "c2"]
    assert study.take("ann", now=3.0) == "c3"
    assert len(plans.leases(study.store, now=3.0)) == 4


def test_a_submission_ends_the_lease_and_the_next_case_is_no_skip(study):
    assert study.take("ann", now=0.0) == "c0"
    study.save("c0")
    assert plans.lease_of(study.store, "c0") is None
    cases.delete_label(study.store, "c0", "final")
    # Were c0 in a pause for ann, c1 would come first.
    assert study.take("ann", now=1.0) == "c0"


def test_a_draft_under_another_tag_keeps_the_lease(study):
    study.take("ann")
    study.save("c0", tag="original")
    assert plans.lease_of(study.store, "c0").client_id == "ann"


def test_only_the_holder_can_give_a_case_back(study):
    study.take("ann", now=0.0)
    assert not plans.release(study.store, "c0", "bob", now=1.0, cool_down_s=10.0)
    assert study.take("bob", now=1.0) == "c1"
    assert plans.release(study.store, "c0", "ann", now=1.0, cool_down_s=10.0)
    assert not plans.release(study.store, "c0", "ann", now=1.0, cool_down_s=10.0)
    assert study.take("ann", now=2.0) == "c2"
    assert study.take("eve", now=2.0) == "c0"


def test_a_case_given_back_without_a_pause_is_first_again(study):
    study.take("ann")
    assert plans.release(study.store, "c0", "ann", now=1.0, cool_down_s=0.0)
    assert study.take("ann", now=1.0) == "c0"


def test_a_renewed_lease_lasts_from_now_and_an_expired_one_is_not_renewed(study):
    study.take("ann", now=0.0, lease_s=60.0)
    assert plans.renew(study.store, "ann", now=50.0, lease_s=60.0) == 1
    assert plans.lease_of(study.store, "c0").expires_at == 110.0
    assert plans.renew(study.store, "ann", now=60.0, lease_s=10.0) == 1
    assert plans.lease_of(study.store, "c0").expires_at == 110.0
    assert plans.renew(study.store, "ann", now=110.0, lease_s=60.0) == 0
    assert plans.renew(study.store, "bob", now=60.0, lease_s=60.0) == 0


def test_one_of_the_shared_ids_leases_can_be_renewed_alone(study):
    for _ in range(2):
        study.take("user-xyz", lease_s=60.0)
    assert plans.renew(study.store, "user-xyz", now=30.0, lease_s=60.0, case_id="c1") == 1
    assert [lease.case_id for lease in plans.leases(study.store, now=60.0)] == ["c1"]


def test_what_a_client_holds_is_its_own_last_lease_until_it_ends(study):
    assert plans.held_by(study.store, "ann", now=0.0) is None
    study.take("ann", now=0.0, lease_s=60.0)
    study.take("bob", now=1.0, lease_s=60.0)
    assert plans.held_by(study.store, "ann", now=59.0).case_id == "c0"
    assert plans.held_by(study.store, "ann", now=60.0) is None
    assert plans.held_by(study.store, "bob", now=60.0).case_id == "c1"
    for _ in range(2):  # an id that several share holds several
        study.take("user-xyz", now=2.0, lease_s=60.0)
    assert plans.held_by(study.store, "user-xyz", now=3.0).case_id == "c3"


def test_leases_and_pauses_of_a_clock_that_is_gone_are_set_to_the_new_one(study):
    # A machine that ran for long, then restarts: its monotonic clock begins again near 0.
    study.take("ann", now=1e6, skip_s=30.0)
    study.take("ann", now=1e6 + 1, skip_s=30.0)
    assert plans.renew_all(study.store, now=5.0, lease_s=60.0) == 1
    assert plans.lease_of(study.store, "c1").expires_at == 65.0
    for case_id in ("c1", "c2", "c3", "c4", "c5"):
        study.save(case_id)
    study.plan("c0", "c1")
    cases.delete_label(study.store, "c1", "final")
    assert study.take("ann", now=64.0) == "c1"
    assert study.take("ann", now=65.0) == "c0"


def test_what_a_client_saw_outlives_its_lease(study):
    study.take("ann", now=0.0)
    plans.set_seen_model(study.store, "c0", "ann", "model-a")
    plans.set_seen_model(study.store, "c0", "ann", "model-b")
    assert study.take("bob", now=60.0) == "c0"
    plans.set_seen_model(study.store, "c0", "bob", "model-c")
    assert plans.holder_saw(study.store, "c0", "ann") == "model-b"
    assert plans.holder_saw(study.store, "c0", "bob") == "model-c"
    assert plans.holder_saw(study.store, "c1", "ann") is None


def test_what_is_shown_is_noted_with_the_handing_out_of_that_very_case(study):
    study.take("ann", now=0.0, shown=("c0", "model-a"))
    assert plans.holder_saw(study.store, "c0", "ann") == "model-a"
    study.take("bob", now=0.0, shown=("c0", "model-a"))  # somebody was faster: bob gets c1
    assert plans.holder_saw(study.store, "c0", "bob") is None
    assert plans.holder_saw(study.store, "c1", "bob") is None


def test_of_a_case_from_an_audit_slot_nothing_is_shown_by_handing_it_out(study):
    study.save("c0")
    study.save("c1")
    taken = study.taken("ann", now=0.0, shown=("c2", "model-a"))
    assert (taken.case_id, taken.reason) == ("c2", "audit")
    assert plans.holder_saw(study.store, "c2", "ann") is None


@pytest.mark.parametrize("skip_s", [60.0, 0.0])
def test_the_likely_next_case_is_the_one_that_is_then_handed_out(study, skip_s):
    def likely(strategy: str, client: str) -> str | None:
        shared = client == "user-xyz"
        return plans.likely_next(study.store, strategy, client, skip_s=skip_s, shared_client=shared)

    clients = ("ann", "bob", "ann", "user-xyz", "user-xyz", "bob")
    for now, client in enumerate(clients):
        expected = likely("weighted_entropy", client)
        assert study.take(client, now=float(now), skip_s=skip_s) == expected
    assert likely("unknown", "ann") is None


def test_models_in_use_are_those_before_the_holders_of_leases(study):
    study.take("ann", now=0.0)
    plans.set_seen_model(study.store, "c0", "ann", "model-a")
    plans.set_seen_model(study.store, "c1", "ann", "model-b")
    assert plans.models_in_use(study.store) == {"model-a"}
    study.save("c0")
    assert plans.models_in_use(study.store) == set()


def test_every_handing_out_is_a_decision_that_stays(study):
    study.take("ann", now=0.0)
    study.take("ann", now=1.0)
    study.save("c1")
    newest, first = plans.decisions(study.store)
    assert (first.case_id, first.client_id, first.position) == ("c0", "ann", 0)
    assert (newest.case_id, newest.position, newest.strategy) == ("c1", 1, "weighted_entropy")
    assert plans.decision(study.store, newest.decision_id) == newest
    assert plans.decisions(study.store, limit=1) == [newest]
    with pytest.raises(LookupError, match="no decision 99"):
        plans.decision(study.store, 99)


def test_random_draws_are_the_cases_last_handed_out_by_an_audit_slot(study):
    for client in ("ann", "bob", "eve"):
        study.take(client)
    assert plans.random_draws(study.store) == {"c2"}
    # Handed out again by a plan in which the same case stands for its utility.
    study.plan("c2")
    assert study.take("zoe", now=60.0) == "c2"
    assert plans.random_draws(study.store) == set()


def test_clients_who_ask_at_the_same_moment_never_get_the_same_case(state_dir, empty):
    ids = [f"x{n:03d}" for n in range(48)]
    empty.sync(*ids)
    empty.plan(*ids)
    start, handed = threading.Barrier(8), []

    def reader(number: int) -> None:
        start.wait()
        for turn in range(6):
            handed.append(empty.take(f"reader-{number}-{turn}"))

    threads = [threading.Thread(target=reader, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(handed) == ids


class Room:
    """What should be true of a reading room: kept beside the store, in plain Python."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[str, float]] = {}
        self.labelled: set[str] = set()

    def give(self, case_id: str | None, client: str, now: float, lease_s: float) -> None:
        for other in [c for c, (who, _) in self.held.items() if who == client != "user-xyz"]:
            del self.held[other]
        free = {f"c{n}" for n in range(6)} - self.labelled
        free -= {c for c, (_, end) in self.held.items() if end > now}
        assert (case_id is None) == (not free), "a free case is handed out whenever there is one"
        if case_id is not None:
            assert case_id in free
            self.held[case_id] = (client, now + lease_s)


@pytest.mark.parametrize("seed", range(6))
def test_no_sequence_of_clicks_gives_a_held_or_labelled_case(study, seed):
    rng, room, now = np.random.default_rng(seed), Room(), 0.0
    for _ in range(60):
        now += float(rng.exponential(8.0))
        client = str(rng.choice(["ann", "bob", "eve", "user-xyz"]))
        action = rng.choice(["take", "take", "take", "submit", "undo", "release", "restart"])
        mine = [c for c, (who, end) in room.held.items() if who == client and end > now]
        if action == "take":
            room.give(study.take(client, now=now, lease_s=40.0), client, now, 40.0)
        elif action == "submit" and mine:
            study.save(mine[0])
            room.labelled.add(mine[0])
            del room.held[mine[0]]
        elif action == "undo" and room.labelled:
            cases.delete_label(study.store, undone := min(room.labelled), "final")
            room.labelled.discard(undone)
        elif action == "release" and mine:
            assert plans.release(study.store, mine[0], client, now=now, cool_down_s=20.0)
            del room.held[mine[0]]
        elif action == "restart":
            study.store = Store.open(study.store.state_dir)
        running = {c: who for c, (who, end) in room.held.items() if end > now}
        assert {v.case_id: v.client_id for v in plans.leases(study.store, now)} == running


def label_all(study, case_ids: list[str]) -> None:
    """What `save_label` writes, for many cases in one transaction: the disk is slow."""
    with study.store.transaction() as connection:
        connection.executemany(
            "INSERT INTO labels VALUES (?, 'final', '', '{}', 'ann', 0, '', NULL)",
            ((case_id,) for case_id in case_ids),
        )
        refresh_open(connection, case_ids)


def work_of_next_sample(study) -> int:
    """Tens of SQLite's own instructions that one Next Sample takes: the same on any machine."""
    counted: list[int] = []
    plans.renew(study.store, "ann", now=0.0, lease_s=60.0)  # it commits as a hand-out does
    study.store.read().set_progress_handler(lambda: counted.append(1), 10)
    assert study.take("ann") is not None
    study.store.read().set_progress_handler(None, 0)
    return len(counted)


def test_the_work_of_next_sample_does_not_grow_with_the_number_of_labels(empty):
    ids = [f"x{n:04d}" for n in range(4000)]
    empty.sync(*ids)
    empty.plan(*ids)
    label_all(empty, ids[:10])
    few = work_of_next_sample(empty)
    assert plans.release(empty.store, ids[10], "ann", now=0.0, cool_down_s=0.0)
    label_all(empty, ids[10:3900])
    assert work_of_next_sample(empty) <= few + 5
