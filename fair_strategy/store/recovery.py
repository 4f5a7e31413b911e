"""Backups of the database, and the way back to one when the file is corrupt."""

import logging
import os
import shutil
import sqlite3
import time
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from fair_strategy.store.errors import ServerRunning, StoreError
from fair_strategy.store.statedir import StateLock, held_here, hold, sync_file

log = logging.getLogger(__name__)

BACKUP_FOLDER = "backups"
RESTORED = "restored_beside"
"""Key of the value that names the damaged file, until what it still tells was taken over."""
_CORRUPT_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True)
class Recovery:
    """A corrupt database was replaced: what was wrong, where it lies now, by which backup."""

    problem: str
    bad_file: Path
    restored_from: Path


def find_problem(path: Path) -> str | None:
    """What SQLite's quick check says is wrong with the file; None if nothing.

    Raises:
        sqlite3.OperationalError: if the file cannot be read at all (locked, no permission).
    """
    # Read-only, or closing would write what is left of the log into the bad file.
    address = f"{path.resolve().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=5.0)) as connection:
            answer = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF not in _CORRUPT_CODES:
            raise
        return str(error)
    return None if answer == "ok" else answer


def backups(state_dir: Path) -> list[Path]:
    """The backups of a state directory, newest first."""
    return sorted((state_dir / BACKUP_FOLDER).glob("state-*.sqlite3"), reverse=True)


def write_backup(source: sqlite3.Connection, state_dir: Path, *, keep: int) -> Path:
    """A checked copy of the open database, the newest of `keep`.

    Raises:
        StoreError: if the copy is corrupt; the earlier backups then stay.
    """
    earlier = backups(state_dir)
    number = int(earlier[0].stem.removeprefix("state-")) + 1 if earlier else 1
    folder = state_dir / BACKUP_FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    part = folder / f".{number}-{os.getpid()}.part"
    try:
        _copy_database(source, part)
        if problem := find_problem(part):
            raise StoreError(f"the database of {state_dir} cannot be backed up: {problem}")
        target = folder / f"state-{number:06d}.sqlite3"
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    sync_file(folder)
    for old in backups(state_dir)[keep:]:
        old.unlink(missing_ok=True)
    return target


def _copy_database(source: sqlite3.Connection, target: Path) -> None:
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        source.backup(copy)
        # A backup is one file: without this it would ask for a -wal and a -shm of its own.
        copy.execute("PRAGMA journal_mode = DELETE")
    sync_file(target)


def recover_if_corrupt(path: Path) -> Recovery | None:
    """Put the newest good backup in the place of a corrupt database, which is kept beside it.

    Returns:
        What was done, also logged as a warning; None if the file is sound or not there yet.

    Raises:
        StoreError: if a server is running on it, or if no good backup exists.
    """
    if not path.exists() or _problem_or_emptied(path) is None:
        return None
    with _alone(path):
        problem = _problem_or_emptied(path)
        if problem is None:  # another process has repaired it meanwhile
            return None
        good = next((copy for copy in backups(path.parent) if find_problem(copy) is None), None)
        if good is None:
            raise StoreError(
                f"{path} is corrupt ({problem}) and there is no good backup in "
                f"{path.parent / BACKUP_FOLDER}; the masks are untouched. Keep a copy of the file, "
                "then move it away to start with an empty database"
            )
        recovery = Recovery(problem, _move_aside(path), good)
        _restore(good, path, beside=recovery.bad_file)
    log.warning(
        "%s was corrupt (%s); restored from %s. The damaged file is kept: %s; the next start of "
        "the server takes over what it still tells of the time after that backup",
        path,
        problem,
        good,
        recovery.bad_file,
    )
    return recovery


def _problem_or_emptied(path: Path) -> str | None:
    # SQLite takes a file of 0 bytes for a new database; with backups it is one that lost its rows.
    if path.stat().st_size == 0:
        return "the file is empty" if backups(path.parent) else None
    return find_problem(path)


def _alone(path: Path) -> AbstractContextManager[StateLock | None]:
    if held_here(path.parent):
        return nullcontext()
    try:
        return hold(path.parent)
    except ServerRunning as error:
        raise StoreError(
            f"{path} is corrupt while a server is running on it; stop the server and start it "
            "again: it restores the newest backup"
        ) from error


def _move_aside(path: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    bad_file = path.with_name(f"{path.name}.corrupt-{stamp}-{time.time_ns() % 10**9:09d}")
    # The write-ahead log goes along: replayed over the backup it would corrupt that as well.
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            os.replace(part, bad_file.with_name(bad_file.name + suffix))
    return bad_file


def _restore(backup_file: Path, path: Path, *, beside: Path) -> None:
    part = path.with_name(f".{path.name}.part")
    shutil.copyfile(backup_file, part)
    # In the copy itself: a kill between the restoration and what follows it must not hide it.
    with (
        closing(sqlite3.connect(part, isolation_level=None)) as connection,
        suppress(
            sqlite3.OperationalError  # a backup of before there was such a table
        ),
    ):
        connection.execute(
            "INSERT OR REPLACE INTO key_values (key, value) VALUES (?, ?)", (RESTORED, beside.name)
        )
    sync_file(part)
    os.replace(part, path)
    sync_file(path.parent)
