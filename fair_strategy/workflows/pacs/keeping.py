"""Fetched scans of a PACS stay up to a bound: those that were used longest ago make room.

A file's time is that of its last use. One that is removed is fetched again when it is needed, by
the same name and fingerprint; its scores stay.
"""

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fair_strategy.store import plans
from fair_strategy.workflows.exclusive import exclusive
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)

FETCHED = "images"
"""Folder for fetched scans, one below it for each number of instances."""
GRACE_S = 60.0
"""So long after its last use a scan stays: whoever asked for its path opens it meanwhile."""
_STRAY_AFTER_S = 3600.0
_USES = "fetched"
_GB = 1e9


def mark_used(study: Study, path: Path) -> bool:
    """Note that a fetched scan is used now; False if it is not here."""
    with exclusive(study.state_dir, _USES):  # not between a look at its time and its removal
        try:
            os.utime(path)
        except FileNotFoundError:
            return False
    return True


@contextmanager
def scans_stay(study: Study) -> Iterator[None]:
    """Nothing that was fetched is removed meanwhile, by whichever process; afterwards it may be.

    For a training, which holds the paths of all its scans.
    """
    if study.pacs is None:
        yield
        return
    descriptor = _open_lock(study)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)
        make_room(study)


def make_room(study: Study, *, but: Path | None = None) -> None:
    """Remove fetched scans beyond the study's bound, the one used longest ago first.

    Never one that a reader has a lease on, that was used within `GRACE_S`, or `but`; and none at
    all while `scans_stay`. What these take beyond the bound stays, until a later call.

    Args:
        study: of a PACS.
        but: the scan that was just fetched.
    """
    if study.pacs is None or not study.pacs.keep_gb:
        return
    with exclusive(study.state_dir, _USES), _none_must_stay(study) as free:
        if free:
            _remove_beyond(study, study.pacs.keep_gb * _GB, but)


def _remove_beyond(study: Study, most: float, but: Path | None) -> None:
    found = sorted((stat.st_mtime, path, stat.st_size) for path, stat in _fetched(study))
    excess = sum(size for _, _, size in found) - most
    if excess <= 0:
        return
    held = {f"{lease.case_id}.nii.gz" for lease in plans.leases(study.store, time.monotonic())}
    recent = time.time() - GRACE_S
    removed = 0
    for used_at, path, size in found:
        if excess > 0 and used_at <= recent and path != but and path.name not in held:
            path.unlink()
            excess -= size
            removed += 1
    over = f"; {excess / _GB:.2f} GB beyond it are in use" if excess > 0 else ""
    log.info("%d fetched scans removed to keep %.2f GB%s", removed, most / _GB, over)


def _fetched(study: Study) -> Iterator[tuple[Path, os.stat_result]]:
    """Whole files; what a kill cut off long ago is removed."""
    for path in (study.images_dir / FETCHED).glob("*/*"):
        try:
            stat = path.stat()
        except FileNotFoundError:  # one that is being fetched has got its name
            continue
        if not path.name.startswith("."):
            yield path, stat
        elif time.time() - stat.st_mtime > _STRAY_AFTER_S:
            path.unlink(missing_ok=True)


@contextmanager
def _none_must_stay(study: Study) -> Iterator[bool]:
    descriptor = _open_lock(study)
    try:
        yield _is_taken(descriptor)
    finally:
        os.close(descriptor)


def _is_taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open_lock(study: Study) -> int:
    return os.open(study.state_dir / "scans-stay.lock", os.O_RDWR | os.O_CREAT, 0o600)
