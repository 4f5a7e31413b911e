"""Workers whose functions leave a note of each prediction, and may end the process."""

import os
import signal
import time
import uuid
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

from fair_strategy.workflows.executors import Workers


class Watched(Executor):
    """An executor around that of some workers.

    Attributes:
        workers: the same, with this executor.
        ends: case_id -> how often the process that predicted it ends before it can answer.
        most: the largest number of volumes that were under way at a time.
    """

    def __init__(self, made: Workers, notes: Path):
        notes.mkdir()
        self.inner, self.notes = made.executor, notes
        self.workers = replace(made, executor=self)
        self.ends: dict[str, int] = {}
        self.most = 0
        self._open: list = []

    def submit(self, fn, /, *args):
        future = self.inner.submit(noted, self.notes, self.ends, fn, *args)
        self._open = [f for f in self._open if not f.done()] + [future]
        self.most = max(self.most, len(self._open))
        return future

    @property
    def made(self) -> list[tuple[str, int]]:
        """(case_id, process) of each prediction that was made, in the order of time."""
        lines = [path.read_text().split() for path in self.notes.glob("*.note")]
        return [(case, int(process)) for _, case, process in sorted(lines)]


def noted(notes, ends, function, work):
    result = function(work)
    case, process = work.case_id, os.getpid()
    (notes / f"{uuid.uuid4().hex}.note").write_text(f"{time.time_ns()} {case} {process}")
    for turn in range(ends.get(case, 0)):
        try:
            (notes / f"{case}.{turn}").touch(exist_ok=False)
        except FileExistsError:
            continue
        os.kill(process, signal.SIGKILL)
    return result
