"""When the running server copies its database: after each round, and now and then between."""

import logging
import sqlite3
import time
from collections.abc import Callable

from fair_strategy.host.sentences import sentence
from fair_strategy.store import StoreError
from fair_strategy.store.database import backup
from fair_strategy.store.faults import storage_fault
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)

EVERY_S = 600.0
AFTER = frozenset({"score", "train"})
"""Work that ends a round: plans and models of a whole round are in the copy."""


class Copies:
    """Copies the database of a study when it is time to.

    Args:
        study: whose database it is.
        clock: seconds.
    """

    def __init__(self, study: Study, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._study = study
        self._clock = clock
        self._last = clock()  # the server's start has made one
        self._state = self._now()

    def look(self, *, after: str | None = None) -> bool:
        """Make a copy if one is due; whether it was made. One that fails is said in the log.

        Args:
            after: the work that has just been finished, if any.
        """
        due = after in AFTER or self._clock() - self._last >= EVERY_S
        if not due or self._now() == self._state:
            return False
        self._last = self._clock()
        try:
            backup(self._study.store)
        except (sqlite3.Error, OSError, StoreError) as error:
            told = storage_fault(error) or sentence(error)
            log.error("no copy of the database was made: %s", told)
            return False
        self._state = self._now()
        return True

    def _now(self) -> tuple[tuple[int, int], ...]:
        """What changes when the database is written."""
        path = self._study.store.path
        files = (path, path.with_name(f"{path.name}-wal"))
        found = (file.stat() for file in files if file.exists())
        return tuple((status.st_mtime_ns, status.st_size) for status in found)
