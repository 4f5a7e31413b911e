"""Notices, by the times of directories, that scans came or went."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

log = logging.getLogger(__name__)

SKIPPED = frozenset({"derivatives", "sourcedata", "code", "labels"})
DEPTH = 3
"""Levels below the image folder in which scans lie: subject, session, anat."""
SHARE = 0.02
"""Share of one core that looking may cost; a slow disk is looked at less often."""
AT_LEAST_EVERY_S = 300.0
"""A file that was overwritten in place leaves its directory's time alone: walk anyway, rarely."""


class Watcher:
    """Calls `refresh` when something in the image folder may have changed.

    Args:
        images_dir: watched; only directories are looked at, never the scans.
        refresh: walks the folder and takes up what changed.
        clock: seconds.
    """

    def __init__(
        self,
        images_dir: Path,
        refresh: Callable[[], object],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = images_dir
        self._refresh = refresh
        self._clock = clock
        self._times = dict(_times(images_dir))
        self._not_before = 0.0
        self._refreshed = clock()

    def look(self) -> bool:
        """Refresh if a directory changed, or if the last refresh is long ago; whether it did.

        A refresh that raises counts as one: what cannot be taken up is tried again when the folder
        changes, or after `AT_LEAST_EVERY_S`.
        """
        started = self._clock()
        if started < self._not_before:
            return False
        due = started - self._refreshed > AT_LEAST_EVERY_S
        try:
            if changed := (due or self._changed()):
                self._refreshed = started
                self._times = dict(_times(self._root))
                self._refresh()
                self._refreshed = self._clock()
        finally:
            self._not_before = self._clock() + (self._clock() - started) / SHARE
        return changed

    def _changed(self) -> bool:
        # A new directory changes the time of the one it lies in: the known ones are enough.
        return any(_time(Path(path)) != then for path, then in self._times.items())


def _times(root: Path, depth: int = DEPTH) -> Iterator[tuple[str, int]]:
    table = root / "participants.tsv"
    if depth == DEPTH:
        yield str(table), _time(table)
    yield str(root), _time(root)
    if depth == 0:
        return
    try:
        with os.scandir(root) as entries:
            below = [e.path for e in entries if e.is_dir() and e.name not in SKIPPED]
    except OSError as error:
        log.warning("cannot look into %s: %s", root.name, error.strerror)
        return
    for path in below:
        yield from _times(Path(path), depth - 1)


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
