"""Sees to it that what did not wait for the disk is there soon: hand-outs, scores and plans."""

import logging
import threading
import time
from collections.abc import Callable

from fair_strategy.store.database import Store
from fair_strategy.store.faults import storage_fault

log = logging.getLogger(__name__)

FLUSH_S = 2.0
EMPTY_S = 60.0
"""The commit after the log was emptied waits for the disk once: not too often."""


class Flushing:
    """A thread of its own: the background waits for a PACS, for a copy, for its own repairs.

    Args:
        store: whose commits are forced to the disk, whichever process made them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ending = threading.Event()
        self._emptied = time.monotonic()
        self._failing: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="flushing", daemon=True)

    def start(self) -> None:
        """Begin; it ends with the process, or by `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """End it, after one more time."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        ending = False
        while not ending:
            ending = self._ending.wait(FLUSH_S)
            self._try("what was handed out last is not on the disk yet", self._store.flush)
            if time.monotonic() - self._emptied >= EMPTY_S:
                self._try("the database's log was not emptied", self._store.empty_log)
                self._emptied = time.monotonic()

    def _try(self, otherwise: str, work: Callable[[], None]) -> None:
        try:
            work()
            self._failing.discard(otherwise)
        except Exception as error:  # whatever goes wrong once must not end the thread for good
            if otherwise not in self._failing:
                log.error("%s: %s", otherwise, storage_fault(error) or error)
            self._failing.add(otherwise)
