"""A damaged database gives what can still be read of it to the copy in its place."""

import sqlite3

import pytest

from fair_strategy.store import Store, cases, plans, readings, scores
from fair_strategy.store.database import backup
from fair_strategy.store.readings import CONSENSUS, Agreement
from fair_strategy.store.recovery import RESTORED
from fair_strategy.store.salvage import salvage
from fair_strategy.store.scores import ModelRecord
from fair_strategy.store.settings import get_value
from tests.unit.store.test_readings import ask_for, due, read


def spoil(path, table: str) -> None:
    """Overwrite the first page of a table, once all is in the file itself."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    asked = "SELECT rootpage FROM sqlite_master WHERE name = ?"
    (page,) = connection.execute(asked, (table,)).fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)


@pytest.fixture
def later(study):
    """A study with a copy of its database, and with rows of each kind since."""
    study.save("c0", info={"comment": "before"})
    backup(study.store)
    study.save("c0", info={"comment": "corrected"}, created_at=2.5, digest="of the correction")
    study.take("ann")
    study.save("c1")
    cases.exclude(study.store, "c5", "blurred", by="ann")
    cases.freeze_split(study.store, {"sub-c4": "audit"})
    study.plan("c2", "c3")
    scores.add_model(study.store, ModelRecord("new", study.store.path, "trained", 1.0, {}))
    scores.publish(study.store, "new")
    return study


def restored(state_dir):
    store = Store.open(state_dir)
    assert store.recovery is not None
    return store, store.recovery.bad_file


def test_rows_of_the_time_after_the_copy_come_back(state_dir, later):
    before = plans.decisions(later.store)
    later.store.close()
    spoil(later.store.path, "skips")
    store, bad_file = restored(state_dir)
    assert cases.labelled_ids(store) == ["c0"]
    taken = salvage(store, bad_file)
    assert cases.label(store, "c0").info == {"comment": "corrected"}
    assert cases.label(store, "c1").client_id == "reader"
    assert [w.label_digest for w in cases.work(store, superseded=True)] == []
    assert plans.decisions(store) == before
    assert cases.case(store, "c5").excluded == "blurred"
    assert cases.splits(store) == {"sub-c4": "audit"}
    assert [r.case_id for r in plans.rows(store, 2)] == ["c2", "c3"]
    assert taken["labels"] == 2
    assert taken["plans"] == 1
    assert store.read().execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_case_that_came_back_labelled_is_not_handed_out_again(state_dir, later):
    later.store.close()
    spoil(later.store.path, "skips")
    store, bad_file = restored(state_dir)
    salvage(store, bad_file)
    assert "c1" not in cases.unlabelled_ids(store)
    assert "c5" not in cases.unlabelled_ids(store)


def test_no_model_becomes_current_by_a_damaged_file(state_dir, later):
    later.store.close()
    spoil(later.store.path, "skips")
    store, bad_file = restored(state_dir)
    salvage(store, bad_file)
    assert "new" in {m.checksum for m in scores.models(store)}
    assert scores.current_model(store) is None


def test_rows_whose_parents_are_lost_are_left_out(state_dir, later):
    later.store.close()
    spoil(later.store.path, "plans")
    store, bad_file = restored(state_dir)
    taken = salvage(store, bad_file)
    assert "plans" not in taken
    assert "plan_rows" not in taken
    assert cases.label(store, "c1") is not None
    assert store.read().execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_file_of_noise_gives_nothing_and_does_not_fail(state_dir, later):
    later.store.close()
    later.store.path.write_bytes(b"\xa5" * 20_000)
    store, bad_file = restored(state_dir)
    assert salvage(store, bad_file) == {}
    assert bad_file.read_bytes() == b"\xa5" * 20_000


def test_the_copy_itself_tells_that_something_is_to_be_taken_over(state_dir, later):
    later.store.close()
    spoil(later.store.path, "skips")
    store, bad_file = restored(state_dir)
    assert get_value(store, RESTORED) == bad_file.name


@pytest.fixture
def read_by_two(study):
    """Since the copy: c0 read by two and closed, c1 by one of them."""
    ask_for(study, 2)
    backup(study.store)
    made_of = [read(study, "c0", "ann"), read(study, "c0", "bob")]
    final = study.label("c0", client_id=CONSENSUS, digest="made of 2", created_at=20.0)
    pair = Agreement("c0", "ann", "bob", 0.75, 1.5, 20.0)
    assert readings.save_consensus(study.store, final, made_of, [pair], now=0.0)
    read(study, "c1", "ann")
    study.store.close()
    return study


def readers(store, case_id):
    return [record.client_id for record in readings.readings(store, case_id)]


def test_readings_and_agreements_come_back(state_dir, read_by_two):
    spoil(read_by_two.store.path, "skips")
    read_by_two.store, bad_file = restored(state_dir)
    taken = salvage(read_by_two.store, bad_file)
    store = read_by_two.store
    assert (taken["readings"], taken["agreements"]) == (3, 1)
    assert readers(store, "c0") == ["ann", "bob"]
    assert due(read_by_two, 2) == []
    assert [a.dice for a in readings.agreements(store)] == [0.75]
    assert readings.is_blind(store, "c1", now=0.0)
    read_by_two.plan("c1", "c2")
    assert read_by_two.take("ann") == "c2"
    assert read_by_two.take("bob") == "c1"


def test_readings_that_cannot_be_read_are_told_by_their_labels(state_dir, read_by_two):
    spoil(read_by_two.store.path, "readings")
    read_by_two.store, bad_file = restored(state_dir)
    taken = salvage(read_by_two.store, bad_file)
    assert "readings" not in taken
    assert readers(read_by_two.store, "c0") == ["ann", "bob"]
    assert readers(read_by_two.store, "c1") == ["ann"]
    assert due(read_by_two, 2) == ["c0"]


def test_a_reading_whose_label_is_lost_does_not_count(state_dir, read_by_two):
    spoil(read_by_two.store.path, "labels")
    read_by_two.store, bad_file = restored(state_dir)
    taken = salvage(read_by_two.store, bad_file)
    assert "readings" not in taken
    assert {"c0", "c1"} <= set(cases.unlabelled_ids(read_by_two.store))
    count = read_by_two.store.read().execute("SELECT count(*) FROM readings").fetchone()[0]
    assert count == 0


def test_a_final_label_older_than_its_readings_is_due_to_be_made_again(state_dir, read_by_two):
    store = Store.open(state_dir)
    with store.transaction() as connection:
        connection.execute("UPDATE labels SET created_at = 5.0 WHERE tag = 'final'")
    store.close()
    spoil(store.path, "skips")
    read_by_two.store, bad_file = restored(state_dir)
    salvage(read_by_two.store, bad_file)
    assert due(read_by_two, 2) == ["c0"]
