"""Sees to it that what did not wait for the disk is there soon: hand-outs, scores and plans."""

import logging
import sqlite3
import threading
import time

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
        self._said = ""
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
            try:
                self._once()
                self._said = ""
            except (OSError, sqlite3.Error) as error:
                self._say_once(storage_fault(error) or str(error))

    def _once(self) -> None:
        self._store.flush()
        if time.monotonic() - self._emptied >= EMPTY_S:
            self._store.empty_log()
            self._emptied = time.monotonic()

    def _say_once(self, wrong: str) -> None:
        if wrong != self._said:
            log.error("what was handed out last is not on the disk yet: %s", wrong)
        self._said = wrong
