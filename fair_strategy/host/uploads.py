"""Files that come in over HTTP: their suffix, and a new scan's place in the image folder."""

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fastapi import HTTPException

from fair_strategy.data.cohort import CohortError
from fair_strategy.data.volumes import VolumeError, read_image
from fair_strategy.host.sentences import sentence
from fair_strategy.store import cases
from fair_strategy.workflows.intake import refresh
from fair_strategy.workflows.study import Study, StudyError

log = logging.getLogger(__name__)

MAX_BYTES = 2 * 1024**3
"""An uploaded file may have so many: a whole head at 0.5 mm in double precision has half of it."""
SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd")
_BIDS_ID = re.compile(r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?(?:_[a-z]+-[A-Za-z0-9]+)*_T1w")


def suffix_of(name: str) -> str:
    """The file type that a name ends in; empty if it is none of ours."""
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")


def checked_suffix(name: str) -> str:
    """`suffix_of`, but a name of another type is a ValueError."""
    suffix = suffix_of(name)
    if not suffix:
        raise ValueError(f"{name[:80]!r}: expected a file named {', '.join(SUFFIXES)}")
    return suffix


@contextmanager
def received(file: BinaryIO, name: str) -> Iterator[Path]:
    """An uploaded file on disk, under its own suffix, for the length of the block.

    What is wrong with the file is told under the name that its sender knows, not under where it
    lies here.

    Raises:
        ValueError: if the name is of a type that is not read here, or the file is too large.
    """
    suffix = checked_suffix(name)
    with tempfile.TemporaryDirectory(prefix="upload-") as folder:
        path = Path(folder) / f"upload{suffix}"
        with open(path, "wb") as copy:
            copy_bounded(file, copy)
        with told_as(name[-80:], path):
            yield path


@contextmanager
def told_as(name: str, path: Path) -> Iterator[None]:
    """Raise what is wrong with a file anew, under a name that its sender knows."""
    try:
        yield
    except VolumeError as error:
        raise VolumeError(str(error).replace(str(path), name)) from error
    except HTTPException as error:  # the datastore's, which is a sentence already
        told = str(error.detail).replace(str(path), name)
        raise HTTPException(error.status_code, told) from error


def copy_bounded(file: BinaryIO, copy: BinaryIO, *, most: int | None = None) -> None:
    """Copy a file of at most so many bytes, MAX_BYTES by default; a larger one is a ValueError."""
    most = left = MAX_BYTES if most is None else most
    while chunk := file.read(1024**2):
        left -= len(chunk)
        if left < 0:
            raise ValueError(f"the file is too large: expected at most {most} bytes")
        copy.write(chunk)


def place_scan(study: Study, case_id: str, file: Path) -> Path:
    """Copy a new scan into the image folder, where a walk finds it under `case_id`; its path.

    Raises:
        ValueError: if it cannot be read, if the id is taken or is not a BIDS id in a BIDS folder,
            or if the folder is read-only.
    """
    suffix = checked_suffix(file.name)
    if study.pacs is not None:
        raise StudyError("the scans of this study come from a PACS; store the new one there")
    if case_id in cases.present_ids(study.store):
        raise StudyError(f"{case_id!r} is there already; a scan is never overwritten")
    read_image(file)
    target = study.images_dir / _folder_of(study.images_dir, case_id) / f"{case_id}{suffix}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy_without_overwriting(file, target)
    except OSError as error:
        raise StudyError(
            f"{case_id}{suffix}: cannot be put into the image folder ({error.strerror})"
        ) from error
    try:
        refresh(study)
    except CohortError as error:
        # The scan is in its place; what is wrong elsewhere in the folder is not its sender's.
        log.error("after %s was put in: %s", target.name, sentence(error))
    return target


def _folder_of(images_dir: Path, case_id: str) -> Path:
    if not any(p.is_dir() for p in images_dir.glob("sub-*")):
        return Path()
    parts = _BIDS_ID.fullmatch(case_id)
    if parts is None:
        raise StudyError(
            f"{case_id!r}: expected a BIDS name such as sub-01_T1w or sub-01_ses-1_T1w"
        )
    return Path(*filter(None, parts.groups()), "anat")


def _copy_without_overwriting(file: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        shutil.copyfile(file, partial)
        os.link(partial, target)
    finally:
        partial.unlink(missing_ok=True)
