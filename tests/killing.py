"""Work that is killed at its first step on the disk or in the database, its second, and so on."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from fair_strategy.store.database import Store

STEPS = frozenset({"os.remove", "os.rename", "os.rmdir", "os.mkdir", "shutil.rmtree"})
MOST = 500


def killed_at_every_step(work: Callable[[], object], store: Store, folder: Path) -> Iterator[int]:
    """Do the work in a process that is killed before its first step, its second, and so on.

    A step is a change of a folder or a statement of SQL. Yields after each kill, with the folder as
    the kill left it; before the next one the folder is as it was at first. Ends once the work does.

    Args:
        work: what to do; a kill leaves the calling process alone.
        store: whose statements count.
        folder: holds everything that the work changes.
    """
    store.close()
    kept = folder.with_name(f"{folder.name}-before")
    shutil.copytree(folder, kept)
    for number in range(1, MOST):
        if not _killed(work, store, number):
            return
        yield number
        store.close()
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
    raise AssertionError(f"{MOST} steps and no end")


def _killed(work: Callable[[], object], store: Store, number: int) -> bool:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _die_at(store, number)
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the work failed by itself"
    return False


def _die_at(store: Store, number: int) -> None:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if done == number:
            os.kill(os.getpid(), signal.SIGKILL)

    store.read().set_trace_callback(lambda _: step())
    sys.addaudithook(lambda event, _: step() if event in STEPS else None)
