"""A mask in the place of an earlier one: with its row, or not at all.

The file and the row cannot change in one step. So the earlier mask stays at hand until the row of
the new one is committed: a failure in between puts it back at once, a kill at the next start.
"""

import hashlib
import logging
import os
import shutil
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fair_strategy.data.volumes import VolumeError, read_mask
from fair_strategy.store import cases
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)

BEFORE = ".before"
"""Folder beside the masks, on their file system: there a rename needs no space on the disk."""
KEPT = "replaced"
"""Folder of the state directory for masks of before."""

# Two submissions of one mask at once: the file of one must not stand with the row of the other.
_locks = tuple(threading.Lock() for _ in range(64))


def mask_digest(array: NDArray[np.generic]) -> str:
    """sha256 of a mask's voxels, (I, J, K), zero or not; the file's packing does not matter."""
    return hashlib.sha256(np.packbits(array != 0).tobytes()).hexdigest()


@contextmanager
def replacing(study: Study, path: Path) -> Iterator[None]:
    """Write the mask `path` and commit its row in the block; if that fails, it is as before.

    The mask of before is kept in the state directory. One block at a time for one path.
    """
    with _locks[zlib.crc32(str(path).encode()) % len(_locks)]:
        before = _set_aside(study, path)
        try:
            yield
        except BaseException:
            _undo(before, path)
            raise
        if before is not None:
            _keep(study, before)


def settle(study: Study) -> list[str]:
    """Finish what a kill left between a mask and its row; the ids of masks that were put back.

    For the start of the server, while nobody submits.
    """
    rows = {record.path.name: record for record in cases.labels(study.store)}
    put_back = []
    for before in sorted((study.derivatives_root / BEFORE).glob("*")):
        record = rows.get(before.name.partition("_")[2])
        if record is not None and _digest(record.path) != record.digest == _digest(before):
            if record.path.exists():
                _keep(study, record.path)
            os.replace(before, record.path)
            log.warning(
                "%s: its %s mask is that of the last submission that was answered; the one that "
                "was on its way when the server ended is in %s",
                record.case_id,
                record.tag,
                study.state_dir / KEPT,
            )
            put_back.append(record.case_id)
        else:
            _keep(study, before)
    return put_back


def _set_aside(study: Study, path: Path) -> Path | None:
    if not path.exists():
        return None
    before = study.derivatives_root / BEFORE / f"{time.time_ns()}_{path.name}"
    before.parent.mkdir(exist_ok=True)
    try:
        os.link(path, before)
    except OSError:  # a file system without hard links
        shutil.copy2(path, before)
    return before


def _undo(before: Path | None, path: Path) -> None:
    if before is None:
        path.unlink(missing_ok=True)
    else:
        os.replace(before, path)
        before.unlink(missing_ok=True)  # a rename onto the same file does nothing


def _keep(study: Study, path: Path) -> None:
    name = path.name if path.parent.name == BEFORE else f"{time.time_ns()}_{path.name}"
    try:
        (study.state_dir / KEPT).mkdir(exist_ok=True)
        shutil.move(path, study.state_dir / KEPT / name)
    except OSError as error:  # the new mask and its row are there: that is what matters
        log.warning("%s: the mask of before stays there (%s)", path, error.strerror)


def _digest(path: Path) -> str | None:
    try:
        return mask_digest(read_mask(path).array)
    except VolumeError:
        return None
