"""Folders that the nursery's processes, and nobody else, find read-only."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.nursery import Nursery, wait_until_gone


@contextmanager
def read_only(nursery: Nursery, folder: Path, *, log: Path) -> Iterator[None]:
    """Mount a folder onto itself, read-only, for the length of the block."""
    place = str(folder)
    _run(nursery, log, "mount", "--bind", place, place)
    _run(nursery, log, "mount", "-o", "remount,ro,bind", place)
    try:
        yield
    finally:
        _run(nursery, log, "umount", place)


def _run(nursery: Nursery, log: Path, *command: str) -> None:
    wait_until_gone(nursery.start("subprocess:check_call", command, output=log))
