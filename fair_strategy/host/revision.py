"""A value made from the database, made again only when the database has changed."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


class Revision(Generic[T]):
    """Calls `make` once for each state of a database, whoever changed it.

    Args:
        database: an SQLite file.
        make: reads it.
    """

    def __init__(self, database: Path, make: Callable[[], T]) -> None:
        self._database = database
        self._make = make
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._seen: int | None = None
        self._value: T

    def __call__(self) -> T:
        """The value for the database as it is now."""
        with self._lock:
            # Asked before the value is made: a commit in between makes the next call look again.
            revision = self._revision()
            if revision != self._seen:
                self._value = self._make()
                self._seen = revision
            return self._value

    def _revision(self) -> int:
        if self._connection is None:
            # This connection never writes, so its data_version counts every commit of others.
            self._connection = sqlite3.connect(
                f"{self._database.as_uri()}?mode=ro", uri=True, check_same_thread=False
            )
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
