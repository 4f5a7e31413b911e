"""Backups, and what happens to a corrupt database."""

import logging
import multiprocessing
import os
import shutil
import sqlite3

import pytest

from fair_strategy.store import Store, StoreError, cases
from fair_strategy.store.database import backup, hold
from fair_strategy.store.recovery import backups
from fair_strategy.store.settings import get_value, set_value

forked = multiprocessing.get_context("fork")


def overwrite(path, *, start: int = 100, size: int = 3000) -> bytes:
    """Spoil a file in place; returns what it then holds."""
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * size)
    return path.read_bytes()


@pytest.fixture
def backed_up(study):
    """A study with a label, a backup, and a second label after it; closed."""
    study.save("c0")
    backup(study.store)
    study.save("c1")
    study.store.close()
    return study


def bad_files(state_dir):
    found = state_dir.glob("state.sqlite3.corrupt-*")
    return [path for path in found if not path.name.endswith(("-wal", "-shm"))]


def test_a_backup_is_one_file_that_holds_every_row(state_dir, study):
    study.save("c0")
    path = backup(study.store)
    assert os.listdir(path.parent) == [path.name]
    copy = sqlite3.connect(path)
    assert copy.execute("SELECT count(*) FROM cases").fetchone() == (6,)
    assert copy.execute("SELECT case_id, tag FROM labels").fetchall() == [("c0", "final")]
    copy.close()


def test_the_two_newest_backups_are_kept(state_dir, study):
    for value in "1234":
        set_value(study.store, "turn", value)
        backup(study.store)
    kept = []
    for path in backups(state_dir):
        copy = sqlite3.connect(path)
        kept.append(copy.execute("SELECT value FROM key_values").fetchone()[0])
        copy.close()
    assert kept == ["4", "3"]


def test_a_corrupt_database_is_restored_from_its_backup_and_the_bad_file_is_kept(
    state_dir, backed_up, caplog
):
    spoilt = overwrite(backed_up.store.path)
    with caplog.at_level(logging.WARNING):
        store = Store.open(state_dir)
    assert cases.labelled_ids(store) == ["c0"]
    assert store.recovery is not None
    assert [store.recovery.bad_file] == bad_files(state_dir)
    assert store.recovery.bad_file.read_bytes() == spoilt
    assert store.recovery.restored_from == backups(state_dir)[0]
    assert "was corrupt" in caplog.text
    assert str(store.recovery.bad_file) in caplog.text
    assert Store.open(state_dir).recovery is None


def test_the_write_ahead_log_of_a_corrupt_database_is_not_replayed_over_the_backup(
    state_dir, study
):
    backup(study.store)
    set_value(study.store, "after", "the backup")
    # A crash: the log is still there. The copy stands for the directory after it.
    crashed = state_dir.with_name("crashed")
    shutil.copytree(state_dir, crashed)
    assert (crashed / "state.sqlite3-wal").stat().st_size > 0
    overwrite(crashed / "state.sqlite3", start=0, size=1000)
    log = (crashed / "state.sqlite3-wal").read_bytes()
    store = Store.open(crashed)
    assert store.recovery is not None
    kept = store.recovery.bad_file
    assert kept.with_name(kept.name + "-wal").read_bytes() == log
    assert get_value(store, "after") is None
    assert len(cases.cases(store)) == 6


def test_an_emptied_file_is_not_taken_for_a_new_study(state_dir, backed_up):
    os.truncate(backed_up.store.path, 0)
    store = Store.open(state_dir)
    assert store.recovery is not None
    assert store.recovery.problem == "the file is empty"
    assert cases.labelled_ids(store) == ["c0"]


def test_a_corrupt_backup_is_passed_over_for_an_older_one(state_dir, backed_up):
    store = Store.open(state_dir)
    newest = backup(store)
    store.close()
    overwrite(newest)
    overwrite(store.path)
    again = Store.open(state_dir)
    assert again.recovery is not None
    assert again.recovery.restored_from != newest
    assert cases.labelled_ids(again) == ["c0"]


def test_a_corrupt_database_without_a_backup_stops_the_start_and_stays_in_place(state_dir, study):
    study.store.close()
    spoilt = overwrite(study.store.path)
    with pytest.raises(StoreError, match=r"state\.sqlite3 is corrupt .*no good backup"):
        Store.open(state_dir)
    assert study.store.path.read_bytes() == spoilt
    assert bad_files(state_dir) == []


def test_a_corrupt_database_is_not_replaced_under_a_running_server(state_dir, backed_up):
    overwrite(backed_up.store.path)
    ready, done = forked.Pipe()

    def server() -> None:
        hold(state_dir)
        done.send("held")
        done.recv()

    process = forked.Process(target=server)
    process.start()
    assert ready.recv() == "held"
    with pytest.raises(StoreError, match="corrupt while a server is running"):
        Store.open(state_dir)
    process.kill()
    process.join()
    assert bad_files(state_dir) == []
    assert cases.labelled_ids(Store.open(state_dir)) == ["c0"]


def test_the_server_that_holds_the_directory_restores_it(state_dir, backed_up):
    overwrite(backed_up.store.path)
    with hold(state_dir):
        assert cases.labelled_ids(Store.open(state_dir)) == ["c0"]


def test_a_corrupt_database_pushes_no_good_backup_out(state_dir, backed_up):
    before = [path.read_bytes() for path in backups(state_dir)]
    # Past the first page, which holds the schema: the file still opens.
    overwrite(backed_up.store.path, start=4096 * 2, size=4096 * 12)
    for _ in range(3):
        with pytest.raises((StoreError, sqlite3.DatabaseError)):
            backup(Store(backed_up.store.path))
    assert [path.read_bytes() for path in backups(state_dir)] == before


def test_a_locked_database_is_not_taken_for_a_corrupt_one(state_dir, backed_up):
    with backed_up.store.transaction() as connection:
        connection.execute("INSERT INTO key_values VALUES ('a', 'b')")
        assert Store.open(state_dir).recovery is None
