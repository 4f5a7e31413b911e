"""Opening, migrating, sharing and leaving the database."""

import dataclasses
import multiprocessing
import os
import pickle
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from fair_strategy.store import Store, StoreError, cases, database, plans, scores
from fair_strategy.store.settings import (
    current_settings,
    get_value,
    set_value,
    settings_version,
)
from fair_strategy.store.statedir import opening, prepare_directory

forked = multiprocessing.get_context("fork")


def pragma(store: Store, name: str) -> object:
    return store.read().execute(f"PRAGMA {name}").fetchone()[0]


def test_the_state_directory_is_its_owners_alone_even_if_it_was_open_before(state_dir):
    state_dir.mkdir(mode=0o755)
    Store.open(state_dir)
    assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700


def test_every_connection_writes_ahead_fully_synchronous_with_foreign_keys(empty):
    assert pragma(empty.store, "journal_mode") == "wal"
    assert pragma(empty.store, "synchronous") == 2
    assert pragma(empty.store, "foreign_keys") == 1


def test_the_busy_timeout_is_the_one_asked_for(state_dir):
    assert pragma(Store.open(state_dir, busy_timeout_s=0.25), "busy_timeout") == 250


def test_a_store_pickles_as_its_path_and_reads_the_same_rows(study):
    copy = pickle.loads(pickle.dumps(study.store))
    assert copy.path == study.store.path
    assert copy.busy_timeout_s == study.store.busy_timeout_s
    assert cases.cases(copy) == cases.cases(study.store)


def test_a_store_never_creates_the_database_that_it_was_told_exists(tmp_path):
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        Store(tmp_path / "nowhere.sqlite3").read()
    assert list(tmp_path.iterdir()) == []


def test_a_study_of_the_first_release_keeps_its_scores_and_takes_features(of_release):
    store = of_release(
        1,
        """INSERT INTO cases (case_id, subject_id, path, fingerprint)
            VALUES ('c0', 's0', '/c0.nii', '10-1');
        INSERT INTO scores
            VALUES ('m', 'h', 'c0', '10-1', '{"roi": 0.25}', 4000.0, '["volume"]', 2.0)""",
    )
    (kept,) = scores.scores(store, "m", "h").values()
    assert (kept.entropies, kept.volume_mm3, kept.flags) == ({"roi": 0.25}, 4000.0, ("volume",))
    assert scores.features(store, "m", "h") == {}
    scores.add_score(store, kept, features=[0.5, 1.0])
    assert scores.features(store, "m", "h")["c0"].tolist() == [0.5, 1.0]


def test_a_study_of_the_second_release_keeps_its_rows_and_takes_what_readers_did(of_release):
    store = of_release(
        2,
        """INSERT INTO cases (case_id, subject_id, path, fingerprint, excluded) VALUES
            ('c0', 's0', '/c0.nii', '10-1', NULL), ('c1', 's1', '/c1.nii', '10-1', 'blurred');
        INSERT INTO plans VALUES (1, 'random', NULL, 1, 7, '{}', '{}', '{}', 3.0, '');
        INSERT INTO plan_rows VALUES (1, 0, 'c0', 'a', NULL, NULL, 40.0, 'audit', 1);
        INSERT INTO decisions VALUES (1, 1, 0, 'c0', 'ann', 100.0);
        INSERT INTO leases VALUES ('c0', 'ann', 60.0, 1);
        INSERT INTO labels VALUES
            ('c0', 'final', '/m.nii.gz', '{}', 'ann', 50.0, 'of before', NULL)""",
    )
    assert cases.case(store, "c1").excluded == "blurred"
    assert cases.case(store, "c1").excluded_by is None
    assert plans.lease_of(store, "c0").client_id == "ann"
    assert (cases.work(store), cases.skip_reasons(store)) == ([], [])
    kept = cases.label(store, "c0")
    assert kept.digest == "of before"
    newer = dataclasses.replace(kept, digest="new", created_at=130.0)
    plans.reveal(store, "c0", "ann")
    cases.save_label(store, newer, by_reader=True, edited_mm3=8.0)
    assert cases.work(store) == [cases.WorkRecord("c0", "new", "ann", 30.0, 8.0, 130.0, True)]


def test_each_thread_has_a_connection_of_its_own(empty):
    found = []
    thread = threading.Thread(target=lambda: found.append(empty.store.read()))
    thread.start()
    thread.join()
    assert found[0] is not empty.store.read()
    assert empty.store.read() is empty.store.read()


def test_a_forked_child_opens_a_connection_of_its_own_and_the_parents_lives_on(study):
    mine = study.store.read()

    def child() -> None:
        own = study.store.read() is not mine
        cases.update_info(study.store, "c0", {"child": own})
        os._exit(0)

    process = forked.Process(target=child)
    process.start()
    process.join()
    assert cases.case(study.store, "c0").info == {"child": True}
    assert study.store.read() is mine


def test_a_transaction_is_undone_whole_when_its_block_fails(empty):
    def write_and_fail() -> None:
        with empty.store.transaction() as connection:
            connection.execute("INSERT INTO key_values VALUES ('a', 'b')")
            raise KeyError("on the way")

    with pytest.raises(KeyError, match="on the way"):
        write_and_fail()
    assert get_value(empty.store, "a") is None
    set_value(empty.store, "a", "c")
    assert get_value(empty.store, "a") == "c"


def test_a_transaction_within_a_transaction_is_refused(empty):
    with (
        pytest.raises(RuntimeError, match="already open"),
        empty.store.transaction(),
        empty.store.transaction(),
    ):
        pass
    assert not empty.store.read().in_transaction


def test_a_second_writer_is_told_after_its_timeout_that_the_database_is_locked(state_dir, empty):
    impatient = Store(empty.store.path, busy_timeout_s=0.01)
    with (
        empty.store.transaction(),
        pytest.raises(sqlite3.OperationalError, match="locked"),
        impatient.transaction(),
    ):
        pass


def test_a_closed_store_opens_again_by_itself(empty):
    connection = empty.store.read()
    empty.store.close()
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("SELECT 1")
    assert current_settings(empty.store) is None


def test_a_database_of_a_newer_release_is_refused_untouched(state_dir, study):
    study.store.read().execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"has version 99.*Upgrade fair_strategy"):
        Store.open(state_dir)
    assert pragma(study.store, "user_version") == 99
    assert len(cases.cases(study.store)) == 6


def test_an_older_database_is_migrated_and_keeps_its_rows(state_dir, study, monkeypatch):
    newer = (*database.MIGRATIONS, ("ALTER TABLE cases ADD COLUMN site TEXT DEFAULT 'here'",))
    monkeypatch.setattr(database, "MIGRATIONS", newer)
    monkeypatch.setattr(database, "SCHEMA_VERSION", len(newer))
    store = Store.open(state_dir)
    rows = store.read().execute("SELECT case_id, site FROM cases").fetchall()
    assert [tuple(row) for row in rows] == [(f"c{n}", "here") for n in range(6)]
    assert pragma(store, "user_version") == len(newer)


def test_plans_of_the_fifth_release_keep_what_they_were_made_from(of_release):
    store = of_release(
        5,
        """INSERT INTO cases (case_id, subject_id, path, fingerprint)
            VALUES ('c0', 's0', '/c0.nii', '10-1');
        INSERT INTO plans VALUES
            (3, 'entropy', 'm', 1, 7, '{"a":1.0}', '{"a":0.8}', '{"of":"three"}', 5.0, 'x'),
            (8, 'random', NULL, 1, 7, '{}', '{}', '{"of":"eight"}', 6.0, 'y');
        INSERT INTO plan_rows VALUES (3, 0, 'c0', 'a', 0.5, 0.6, 50.0, 'audit', 1);
        INSERT INTO decisions VALUES (1, 3, 0, 'c0', 'ann', 5.5)""",
    )
    assert plans.plan(store, 3).inputs == {"of": "three"}
    assert plans.plan(store, 8).inputs == {"of": "eight"}
    assert plans.plan_head(store, "entropy").note == "x"
    assert plans.decision(store, 1).plan_id == 3
    assert plans.handout(store, "c0", "ann").reason == "audit"


def test_a_migration_that_fails_leaves_the_database_as_it_was(state_dir, study, monkeypatch):
    newer = (*database.MIGRATIONS, ("ALTER TABLE cases ADD COLUMN site TEXT", "NONSENSE"))
    monkeypatch.setattr(database, "MIGRATIONS", newer)
    monkeypatch.setattr(database, "SCHEMA_VERSION", len(newer))
    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        Store.open(state_dir)
    columns = [row["name"] for row in study.store.read().execute("PRAGMA table_info(cases)")]
    assert "site" not in columns
    assert pragma(study.store, "user_version") == len(newer) - 1


def test_processes_that_open_a_new_state_directory_at_once_all_succeed(state_dir):
    def child() -> None:
        set_value(Store.open(state_dir), f"{os.getpid()}", "here")
        os._exit(0)

    processes = [forked.Process(target=child) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    store = Store.open(state_dir)
    assert [p.exitcode for p in processes] == [0] * 6
    assert [get_value(store, f"{p.pid}") for p in processes] == ["here"] * 6


def test_opening_waits_while_another_process_creates_or_restores(state_dir):
    prepare_directory(state_dir)

    def child() -> None:
        Store.open(state_dir)
        os._exit(0)

    process = forked.Process(target=child)
    with opening(state_dir):
        process.start()
        process.join(0.5)
        assert process.is_alive()
    process.join(60)
    assert process.exitcode == 0


def test_settings_get_a_new_version_only_when_they_differ_from_the_newest(empty):
    assert current_settings(empty.store) is None
    assert settings_version(empty.store, '{"rule":"a"}') == 1
    assert settings_version(empty.store, '{"rule":"a"}') == 1
    assert settings_version(empty.store, '{"rule":"b"}') == 2
    # Back to earlier settings is a change too: what was in force when stays readable.
    assert settings_version(empty.store, '{"rule":"a"}') == 3
    assert current_settings(empty.store) == (3, '{"rule":"a"}')


def test_a_value_is_replaced_under_its_key(empty):
    set_value(empty.store, "name", "one")
    set_value(empty.store, "name", "two")
    assert get_value(empty.store, "name") == "two"
    assert get_value(empty.store, "other") is None


def test_the_state_directory_is_known_from_the_store(state_dir: Path, empty):
    assert empty.store.state_dir == state_dir.resolve()


def test_writers_of_one_process_wait_for_each_other_and_say_locked_after_the_timeout(state_dir):
    store = Store.open(state_dir, busy_timeout_s=0.2)
    found = []

    def write(value):
        try:
            set_value(store, "who", value)
        except sqlite3.OperationalError as error:
            found.append(str(error))
        finally:
            store.close()

    with store.transaction():
        waiting = threading.Thread(target=write, args=("second",))
        waiting.start()
        waiting.join()
    assert found == ["database is locked"]
    write("third")
    assert get_value(store, "who") == "third"


def _take_a_turn(path):
    with database._turn(path, 1.0):
        pass


def test_a_forked_child_does_not_wait_for_a_writer_that_it_does_not_have(tmp_path):
    with database._turn(tmp_path, 1.0):
        child = forked.Process(target=_take_a_turn, args=(tmp_path,))
        child.start()
        child.join(60)
    assert child.exitcode == 0
