"""What the disk or SQLite itself refuses becomes a sentence; everything else stays an error."""

import errno
import os
import resource
import sqlite3

import pytest

from fair_strategy.store import Store, StoreError
from fair_strategy.store.faults import storage_fault
from fair_strategy.store.settings import set_value


def raised(call):
    with pytest.raises((OSError, sqlite3.Error)) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_to_be_full(code):
    assert "disk is full" in storage_fault(OSError(code, os.strerror(code)))


def test_a_file_larger_than_the_process_may_write_is_said(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        error = raised(lambda: (tmp_path / "large").write_bytes(b"x" * (1 << 21)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "larger than" in storage_fault(error)


def test_a_database_that_another_connection_has_locked_is_said_to_be_locked(state_dir, empty):
    impatient = Store(empty.store.path, busy_timeout_s=0.01)
    with empty.store.transaction():
        error = raised(lambda: set_value(impatient, "a", "b"))
    assert "locked" in storage_fault(error)


def test_a_database_that_was_opened_for_reading_alone_may_not_be_written(empty):
    connection = sqlite3.connect(f"{empty.store.path.as_uri()}?mode=ro", uri=True)
    error = raised(lambda: connection.execute("DELETE FROM cases"))
    connection.close()
    assert "read-only" in storage_fault(error)


def test_a_file_that_is_no_database_is_said_to_be_damaged(tmp_path):
    (tmp_path / "x").write_bytes(b"\xa5" * 5000)
    connection = sqlite3.connect(tmp_path / "x")
    error = raised(lambda: connection.execute("SELECT * FROM sqlite_master"))
    connection.close()
    assert "damaged" in storage_fault(error)


@pytest.mark.parametrize(
    "error", [ValueError("x"), FileNotFoundError(2, "x"), ConnectionError("x"), OSError("x")]
)
def test_other_errors_are_none_of_the_disks(error):
    assert storage_fault(error) is None


def test_an_error_of_our_own_sql_is_none_of_the_disks(empty):
    error = raised(lambda: empty.store.read().execute("SELECT nothing FROM cases"))
    assert storage_fault(error) is None


def test_a_state_directory_whose_database_cannot_be_opened_is_refused_by_a_sentence(state_dir):
    (state_dir / "state.sqlite3").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"state\.sqlite3: not done"):
        Store.open(state_dir, check=False)
