"""Processes that are killed by the hundred: forked from one that has imported everything already.

    python -m tests.faults.nursery MODULE...

imports the modules, then forks once for each line of its standard input. A server that takes eight
seconds of one core to start is there in one, and runs the same code.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[2]
GONE_WITHIN_S = 60.0


class Nursery:
    """Forks processes that call a function; use it in a ``with`` block.

    Args:
        modules: imported once, before the first fork.
        within: a command that runs another one, such as ``unshare``.
    """

    def __init__(self, *modules: str, within: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [*within, sys.executable, "-m", "tests.faults.nursery", *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        self._alive: set[int] = set()
        if self._answer() != "ready":
            raise RuntimeError(f"cannot import {', '.join(modules)}; see standard error")

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_: object) -> None:
        for pid in list(self._alive):
            kill(pid)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    @property
    def pid(self) -> int:
        """Of the process that forks; what is mounted for it is below /proc/PID/root."""
        return self._process.pid

    def start(self, call: str, *arguments: Any, output: Path) -> int:
        """The process id of a new process that calls `module:function`; it appends to `output`."""
        assert self._process.stdin is not None
        order = {"call": call, "arguments": arguments, "output": str(output)}
        self._process.stdin.write(json.dumps(order, default=str) + "\n")
        self._process.stdin.flush()
        pid = int(self._answer())
        self._alive = {p for p in self._alive if is_alive(p)} | {pid}
        return pid


def is_alive(pid: int) -> bool:
    """Whether a process of that id is there and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def kill(*pids: int) -> None:
    """kill -9, and wait until all of them are gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until_gone(*pids)


def wait_until_gone(*pids: int, within_s: float = GONE_WITHIN_S) -> None:
    """Wait for processes to end; TimeoutError if one does not."""
    end = time.monotonic() + within_s
    while any(map(is_alive, pids)):
        if time.monotonic() > end:
            raise TimeoutError(f"processes {pids}: not gone within {within_s} s")
        time.sleep(0.002)


def children(pid: int) -> list[int]:
    """Ids of the processes that a process has started, and of those that these have."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *children(child)]
    return found


def main() -> None:
    """Import, then fork for each line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an import prints is no answer
    for module in sys.argv[1:]:
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the killed
    _say(answers, "ready")
    for line in iter(sys.stdin.readline, ""):
        pid = os.fork()
        if pid == 0:
            _become(json.loads(line))
        _say(answers, str(pid))


def _say(answers: TextIO, word: str) -> None:
    answers.write(f"{word}\n")
    answers.flush()


def _become(order: dict[str, Any]) -> None:
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        module, _, function = order["call"].partition(":")
        getattr(importlib.import_module(module), function)(*order["arguments"])
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
