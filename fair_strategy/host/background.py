"""The one background loop of the server: level-triggered, one worker process at a time.

Every piece of work is a query on the store, not a message: a crash loses nothing, nothing is
queued twice, and any number of clicks is one wake-up.
"""

import atexit
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from fair_strategy.host.copies import Copies
from fair_strategy.host.flushing import Flushing
from fair_strategy.host.sentences import EXPECTED, sentence
from fair_strategy.host.worker import arguments_for
from fair_strategy.store.faults import storage_fault
from fair_strategy.workflows.machine import spare_cores
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)

IDLE_S = 5.0
BUSY_S = 0.5
ANSWER_S = 0.2
RETRY_S = 300.0
"""Work that failed, or that a run left exactly as it was, is tried again so long after it ended."""
LOG_NAME = "worker.log"
LOG_BYTES = 1_000_000


def due(pending: Mapping[str, Any]) -> dict[str, Any]:
    """What there is to do, most urgent first: verb -> model and what makes it necessary."""
    needs = {
        "train": pending["train_due"],
        "score": pending["unscored"],
        "compare": pending["uncompared"],
        # Scoring ends with new plans.
        "plan": pending["plan_stale"] and not pending["unscored"],
    }
    # As many unscored scans as before are other work if a model was published meanwhile.
    return {verb: (pending["model"], need) for verb, need in needs.items() if need}


class Watching(Protocol):
    """Notices that scans came or went, and takes it up."""

    def look(self) -> bool:
        """Look once, if it is time to; whether anything was taken up."""
        ...


class Background:
    """Watches the image folder or the PACS, and runs one worker at a time while there is work.

    Args:
        study: whose work it is.
        watcher: takes up what changed in the folder or the PACS.
        pending: what there is to do, see `desk.pending_work`.
        enabled: False watches the folder and starts no work, not even when it is woken; scoring and
            training are then what somebody starts by hand, as MONAI Label's own processes.
    """

    def __init__(
        self,
        study: Study,
        watcher: Watching,
        *,
        pending: Callable[[Study], Mapping[str, Any]],
        enabled: bool = True,
    ) -> None:
        self._study = study
        self._watcher = watcher
        self._pending = pending
        self._enabled = enabled
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._worker: Worker | None = None
        self._tried: dict[str, tuple[Any, float]] = {}
        self._said = ""
        self._copies = Copies(study)
        self._finished: str | None = None
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)
        self._flushing = Flushing(study.store)

    def start(self) -> None:
        """Start the loop; it ends with the process, and its worker with it."""
        atexit.register(self.stop)
        self._flushing.start()
        self._thread.start()

    def wake(self) -> None:
        """Look for work now instead of in a few seconds; any number of calls is one look."""
        self._wake.set()

    def stop(self) -> None:
        """End the loop and its worker; what the worker had committed stays."""
        atexit.unregister(self.stop)
        self._ending.set()
        self._wake.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout=10)
        try:
            if self._worker is not None:
                self._worker.end()
        finally:
            self._flushing.stop()

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._look()
                self._said = ""
            except EXPECTED as error:
                self._say_once(sentence(error))
            except Exception as error:
                # The loop is the only one: whatever went wrong once must not end it for good.
                if told := storage_fault(error):
                    self._say_once(told)
                else:
                    log.exception("background: a look for work failed; trying again")
            if self._wake.wait(BUSY_S if self._worker else IDLE_S):
                # Whoever woke it is answered first; what comes meanwhile is the same look.
                self._ending.wait(ANSWER_S)
            self._wake.clear()

    def _look(self) -> None:
        self._watch()
        if self._worker is not None and not self._reaped(self._worker):
            return
        self._copies.look(after=self._finished)
        self._finished = None
        if not self._enabled or self._ending.is_set():
            return
        needs = due(self._pending(self._study))
        self._tried = {v: tried for v, tried in self._tried.items() if tried[0] == needs.get(v)}
        now = time.monotonic()
        for verb, need in needs.items():
            # A run that left its work exactly as it was is not repeated at once.
            if verb not in self._tried or now >= self._tried[verb][1] + RETRY_S:
                self._tried[verb] = (need, now)
                log.info("background: %s", verb)
                self._worker = Worker(self._study, verb)
                return

    def _watch(self) -> None:
        # A folder that cannot be taken up must not hold up the work on what was taken up before.
        try:
            self._watcher.look()
        except EXPECTED as error:
            log.error("background: the scans were not taken up: %s", sentence(error))

    def _say_once(self, wrong: str) -> None:
        if wrong != self._said:
            log.error("background: %s", wrong)
        self._said = wrong

    def _reaped(self, worker: "Worker") -> bool:
        code = worker.process.poll()
        if code is None:
            return False
        self._worker = None
        if worker.verb in self._tried:
            self._tried[worker.verb] = (self._tried[worker.verb][0], time.monotonic())
        if code:
            log.error(
                "background: %s failed with code %s: %s (all of it: %s)",
                worker.verb,
                code,
                worker.last_line(),
                worker.log,
            )
        else:
            log.info("background: %s done: %s", worker.verb, worker.last_line())
            self._finished = worker.verb
        return True


class Worker:
    """A running worker process and its log file."""

    def __init__(self, study: Study, verb: str) -> None:
        self.verb = verb
        self.log = study.state_dir / LOG_NAME
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with open(self.log, "ab") as output:
            self._start = output.tell()
            self.process = _spawn([*arguments_for(study, verb), "--with-parent"], output)

    def last_line(self) -> str:
        """The last line that it wrote: what it did."""
        with open(self.log, "rb") as lines:
            lines.seek(self._start)
            written = lines.read().decode("utf-8", errors="replace").strip()
        return written.rpartition("\n")[2][:300]

    def end(self) -> None:
        """Terminate the process and wait for it."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()


def _spawn(arguments: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    threads = str(spare_cores())
    package_root = str(Path(__file__).resolve().parents[2])
    paths = [package_root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return subprocess.Popen(
        [sys.executable, "-m", "fair_strategy.host.worker", *arguments],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={
            **os.environ,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "PYTHONPATH": os.pathsep.join(paths),
        },
    )
