"""What of the machine, or of the container, this process may use."""

import math
import os
from contextlib import suppress
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """How many cores: of the machine, of this process, of the container's quota."""
    found = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        found = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):  # no control group, or one without a quota
        quota, period = (_GROUP / "cpu.max").read_text(encoding="ascii").split()
        found = min(found, math.ceil(int(quota) / int(period)))
    return max(1, found)


def spare_cores() -> int:
    """As many as work in the background takes, at most as many as ``OMP_NUM_THREADS`` says.

    One is left to those who wait for an answer.
    """
    told = os.environ.get("OMP_NUM_THREADS", "")
    most = int(told) if told.isascii() and told.isdigit() else cores()
    return max(1, min(cores() - 1, most))


def memory_bytes() -> int:
    """How much memory: of the machine, or of the container."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no control group, or one without a limit
        found = min(found, int((_GROUP / "memory.max").read_text(encoding="ascii")))
    return found
