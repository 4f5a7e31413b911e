"""The study's database: opened once, a connection a thread, written in short transactions."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from fair_strategy.store.errors import StoreError
from fair_strategy.store.faults import storage_fault
from fair_strategy.store.recovery import Recovery, recover_if_corrupt, write_backup
from fair_strategy.store.schema import MIGRATIONS
from fair_strategy.store.statedir import (  # noqa: F401 - found here by callers
    DATABASE_NAME,
    StateLock,
    hold,
    opening,
    prepare_directory,
    refuse_network_filesystem,
    sync_file,
)

SCHEMA_VERSION = len(MIGRATIONS)

_FULL, _NORMAL = "PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"
_LOG_PAGES = 10_000
"""Whose commit finds so many pages of 4 KiB in the log moves them into the database, and waits."""

# Connections that a forked child inherited: used or closed there, they could harm the parent's.
_inherited: list[sqlite3.Connection] = []


# A thread that finds SQLite's lock taken sleeps for up to 0.1 s and looks again, and whoever comes
# meanwhile goes before it. Threads of one process queue up here instead.
_turns: dict[Path, threading.Lock] = {}
# A lock that another thread held when the process forked would be held for ever.
os.register_at_fork(after_in_child=_turns.clear)


@contextmanager
def _turn(path: Path, timeout_s: float) -> Iterator[None]:
    lock = _turns.setdefault(path, threading.Lock())
    if not lock.acquire(timeout=timeout_s):
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY  # as SQLite's own error has it
        raise error
    try:
        yield
    finally:
        lock.release()


class Store:
    """A path to a prepared database and, for each process and thread, a connection to it.

    It pickles as its path. Use `Store.open`, which prepares the file, once a process start.

    Args:
        path: the database file, which exists.
        busy_timeout_s: how long a statement waits for another writer before
            sqlite3.OperationalError "database is locked".
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = 5.0) -> None:
        self.path = Path(path).resolve()
        self.busy_timeout_s = busy_timeout_s
        self.recovery: Recovery | None = None
        self._local = threading.local()

    @classmethod
    def open(cls, state_dir: Path, *, busy_timeout_s: float = 5.0, check: bool = True) -> "Store":
        """A store in state_dir, which is created, checked, restored or migrated where needed.

        Args:
            state_dir: made private to its owner (0700).
            busy_timeout_s: see `Store`.
            check: look for corruption first; what was restored is then in `.recovery`.

        Raises:
            StoreError: network file system, corrupt without a good backup, a database written by
                a newer version of this package, or a disk that is full or read-only.
        """
        store = cls(prepare_directory(state_dir) / DATABASE_NAME, busy_timeout_s=busy_timeout_s)
        try:
            with opening(store.state_dir):
                store.recovery = recover_if_corrupt(store.path) if check else None
                with closing(_connect(store.path, busy_timeout_s, create=True)) as connection:
                    _use_write_ahead_log(connection, store.path)
                    _migrate(connection, store.path)
        except (sqlite3.Error, OSError) as error:
            told = storage_fault(error)
            if told is None:
                raise
            raise StoreError(f"{store.path}: {told}") from error
        return store

    @property
    def state_dir(self) -> Path:
        """The directory that holds the database and everything else the server writes."""
        return self.path.parent

    def read(self) -> sqlite3.Connection:
        """This thread's connection; outside a transaction each SELECT sees the newest commit."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None and self._local.pid == os.getpid():
            return connection
        if connection is not None:
            _inherited.append(connection)
        self._local.connection = _connect(self.path, self.busy_timeout_s)
        self._local.pid, self._local.waits = os.getpid(), True
        return self._local.connection

    @contextmanager
    def transaction(self, *, wait_for_disk: bool = True) -> Iterator[sqlite3.Connection]:
        """All writes in the block or none: committed at its end, rolled back on any error.

        The write lock is taken at once (BEGIN IMMEDIATE): SQL only in the block, no compute.

        Args:
            wait_for_disk: False where somebody waits for the answer, or where it can be made
                again. Such a commit outlives the process, as any; a power cut may take it, and
                whatever was committed after it, until the next one that waits, or `flush`.
        """
        connection = self.read()
        if connection.in_transaction:
            raise RuntimeError("a transaction is already open in this thread; pass its connection")
        with _turn(self.path, self.busy_timeout_s):
            self._set_waiting(connection, wait_for_disk)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise

    def _set_waiting(self, connection: sqlite3.Connection, wait_for_disk: bool) -> None:
        if self._local.waits != wait_for_disk:
            self._local.waits = None  # whatever interrupts this, the next one sets it again
            connection.execute(_FULL if wait_for_disk else _NORMAL)
            self._local.waits = wait_for_disk

    def flush(self) -> None:
        """Force every commit so far to the disk, without SQLite's lock."""
        # SQLite's locks lie on other files: they would be gone with this one's descriptor.
        with suppress(FileNotFoundError):  # no log: all of it is in the database
            sync_file(self.path.with_name(f"{self.path.name}-wal"))

    def empty_log(self) -> None:
        """Move the log into the database, as far as nobody reads what was before; nobody waits.

        Raises:
            sqlite3.OperationalError: if a transaction is open in this thread.
        """
        self.read().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def close(self) -> None:
        """Close this thread's connection; the next use opens another."""
        if getattr(self._local, "pid", None) == os.getpid():
            self._local.connection.close()
            del self._local.connection, self._local.pid

    def __getstate__(self) -> tuple[Path, float]:
        return self.path, self.busy_timeout_s

    def __setstate__(self, state: tuple[Path, float]) -> None:
        self.__init__(state[0], busy_timeout_s=state[1])  # type: ignore[misc]


def backup(store: Store, *, keep: int = 2) -> Path:
    """A checked copy of the whole database under backups/; the newest `keep` stay.

    Raises:
        StoreError: if the database turns out corrupt; the earlier backups then stay.
    """
    return write_backup(store.read(), store.state_dir, keep=keep)


def _connect(path: Path, busy_timeout_s: float, *, create: bool = False) -> sqlite3.Connection:
    mode = "rwc" if create else "rw"
    # The store keeps connections to their threads itself; `close` at exit may run in another.
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        timeout=busy_timeout_s,
        check_same_thread=False,
    )
    connection.row_factory = sqlite3.Row
    connection.execute(_FULL)
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _use_write_ahead_log(connection: sqlite3.Connection, path: Path) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreError(
            f"{path}: SQLite cannot use its write-ahead log here (journal mode {mode!r}); choose "
            "a local disk with --conf state_dir"
        )


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection, path) == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for migration in MIGRATIONS[_version(connection, path) :]:
            for statement in migration:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # SQLite has rolled back by itself on a full disk
        connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} has version {version}; this release of fair_strategy reads up to "
            f"{SCHEMA_VERSION}. Upgrade fair_strategy, or choose another --conf state_dir"
        )
    return version
