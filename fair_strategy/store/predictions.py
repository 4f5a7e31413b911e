"""Predictions on disk: predictions/<model>/<case>.npz, written once, read by everyone."""

import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fair_strategy.store.prediction_format import (
    ENDING,
    Decoded,
    PeakTuple,
    PredictedMask,
    StoredPrediction,
    comment,
    decode,
    decode_mask,
    encode,
    key,
)
from fair_strategy.store.statedir import sync_file

__all__ = [
    "FOLDER",
    "PeakTuple",
    "PredictedMask",
    "StoredPrediction",
    "full_entropy",
    "full_mask",
    "has_prediction",
    "predicted_by",
    "prune",
    "read_predicted_mask",
    "read_prediction",
    "voxels_apart",
    "write_prediction",
]

log = logging.getLogger(__name__)

FOLDER = "predictions"
_SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_STRAY_AFTER_S = 3600.0


def write_prediction(state_dir: Path, record: StoredPrediction) -> Path:
    """Write a prediction: whole or not at all, even through a kill or a power cut.

    Raises:
        ValueError: if case_id or model is no safe file name, or the arrays do not fit the box.
    """
    path = _path(state_dir, record.model, record.case_id)
    content = encode(record)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{record.case_id}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync_file(path.parent)
    return path


def has_prediction(state_dir: Path, model: str, case_id: str, fingerprint: str) -> bool:
    """Whether `read_prediction` will find one, told from the end of its file.

    One whose arrays are damaged counts: that is found out, and mended, when they are read.

    Raises:
        ValueError: if case_id or model is no safe file name.
    """
    try:
        told = comment(_ending(_path(state_dir, model, case_id)))
    except FileNotFoundError:
        return False
    if not told:  # damaged, or of a release before, which wrote none
        return read_prediction(state_dir, model, case_id, fingerprint) is not None
    return told == key(model, case_id, fingerprint)


def predicted_by(state_dir: Path, model: str) -> set[str]:
    """Ids of the cases of which a file of this model lies there, whatever is in it."""
    return {file.name.removesuffix(".npz") for file in Path(state_dir, FOLDER, model).glob("*.npz")}


def _ending(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - ENDING))
        return file.read()


def read_prediction(
    state_dir: Path, model: str, case_id: str, fingerprint: str
) -> StoredPrediction | None:
    """The stored prediction of the file as it is now.

    Returns:
        None if there is none, if it was made from another file (fingerprint), or if it is
        corrupt: then it is removed, with a warning, so that it is made again.

    Raises:
        ValueError: if case_id or model is no safe file name.
    """
    return _read(_path(state_dir, model, case_id), model, case_id, fingerprint, decode)


def read_predicted_mask(
    state_dir: Path, model: str, case_id: str, fingerprint: str
) -> PredictedMask | None:
    """What `read_prediction` returns, or None as there, without the time for what is not the mask.

    The other arrays are not looked at: where only they are damaged, the mask is returned, and the
    file is left to `read_prediction`.

    Raises:
        ValueError: if case_id or model is no safe file name.
    """
    return _read(_path(state_dir, model, case_id), model, case_id, fingerprint, decode_mask)


def _read(
    path: Path, model: str, case_id: str, fingerprint: str, decoded: Callable[[bytes], Decoded]
) -> Decoded | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        record = decoded(content)
        if (record.model, record.case_id) != (model, case_id):
            raise ValueError(f"it is of case {record.case_id!r} and model {record.model!r}")
    except Exception as error:  # each layer of a damaged zip raises its own kind
        log.warning("prediction %s is corrupt (%s) and was removed", path, error)
        path.unlink(missing_ok=True)
        return None
    return record if record.fingerprint == fingerprint else None


def full_mask(record: PredictedMask) -> NDArray[np.uint8]:
    """The mask in the scan's whole grid, (I, J, K): 1 inside, 0 elsewhere."""
    whole = np.zeros(record.shape, dtype=np.uint8)
    whole[_slices(record)] = record.mask
    return whole


def full_entropy(record: StoredPrediction) -> NDArray[np.float32]:
    """The entropy map in the scan's whole grid, (I, J, K), in nats; 0 outside the box."""
    whole = np.zeros(record.shape, dtype=np.float32)
    whole[_slices(record)] = record.entropy
    return whole


def voxels_apart(record: PredictedMask, mask: NDArray[np.uint8]) -> int:
    """How many voxels of `mask` (of the whole scan's shape, 0 and 1) differ from the prediction."""
    inside = mask[_slices(record)]
    outside = int(np.count_nonzero(mask)) - int(np.count_nonzero(inside))
    return outside + int(np.count_nonzero(inside.astype(np.bool_) != record.mask))


def prune(state_dir: Path, keep: Collection[str]) -> list[str]:
    """Delete the predictions of all models but those of `keep`; return whose were deleted."""
    deleted = []
    for folder in sorted((Path(state_dir) / FOLDER).glob("*")):
        if folder.name not in keep:
            shutil.rmtree(folder, ignore_errors=True)
            deleted.append(folder.name)
        else:
            _remove_strays(folder)
    return deleted


def _remove_strays(folder: Path) -> None:
    """Remove what a killed writer left; an hour is longer than any write takes."""
    for part in folder.glob(".*.part"):
        if time.time() - part.stat().st_mtime > _STRAY_AFTER_S:
            part.unlink(missing_ok=True)


def _path(state_dir: Path, model: str, case_id: str) -> Path:
    for what, name in (("model", model), ("case_id", case_id)):
        if not _SAFE_NAME.fullmatch(name) or ".." in name:
            raise ValueError(
                f"{what} {name!r} is no safe file name: letters, digits, '_', '-' and '.', no "
                "leading dot, no '..', at most 128"
            )
    return Path(state_dir, FOLDER, model, f"{case_id}.npz")


def _slices(record: PredictedMask) -> tuple[slice, slice, slice]:
    (i0, i1), (j0, j1), (k0, k1) = record.box.tolist()
    return slice(i0, i1), slice(j0, j1), slice(k0, k1)
