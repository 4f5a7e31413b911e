"""Processes that meet a volume which is too large, one that kills them, or a closed folder."""

import os
import resource
import signal
import sys
from pathlib import Path

from fair_strategy.host import worker
from fair_strategy.store import Store, StoreError
from fair_strategy.workflows import outcomes


def score_within(more_bytes: int, arguments: list[str]) -> None:
    """Score with so much more memory than the process has already."""
    taken = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmData")
    )
    worker.bound_memory(taken + more_bytes)
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == taken + more_bytes
    worker.main(arguments)


def score_until_killed_by(name: str, arguments: list[str]) -> None:
    """Score; the system kills the process when it reads the volume of that name."""
    read = outcomes.read_image

    def deadly(path: Path) -> object:
        if Path(path).name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(path)

    outcomes.read_image = deadly
    worker.main(arguments)


def open_store(state_dir: str) -> None:
    """Open a state directory; say the sentence if it is refused."""
    try:
        Store.open(Path(state_dir)).close()
    except StoreError as error:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
