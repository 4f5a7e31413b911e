"""Predictions on disk: predictions/<model>/<case>.npz, written once, read by everyone."""

import io
import json
import logging
import os
import re
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fair_strategy.store.statedir import sync_file

log = logging.getLogger(__name__)

FOLDER = "predictions"
_SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_STRAY_AFTER_S = 3600.0
_ENDING = 1024
"""Bytes in which an archive's last record lies, 22 of its own and the comment."""

PeakTuple = tuple[tuple[float, float, float], float]


@dataclass(frozen=True, eq=False)
class PredictedMask:
    """What one model marked in one scan, cropped to a box in the scan's own grid.

    Attributes:
        shape: of the whole scan, (I, J, K).
        affine: (4, 4), voxel to RAS mm.
        box: (3, 2) ints, first and one past the last voxel along each axis.
        mask: bool, of the box's shape.
        fingerprint: of the file that was predicted.
    """

    case_id: str
    model: str
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    box: NDArray[np.int64]
    mask: NDArray[np.bool_]
    fingerprint: str


@dataclass(frozen=True, eq=False)
class StoredPrediction(PredictedMask):
    """One model's whole answer for one scan: what it marked, and how sure it is.

    Attributes:
        entropy: float16, of the box's shape, in nats.
        peaks: of the uncertainty, highest first: ((x, y, z) in RAS mm, value in nats).
        flags: names of what is implausible. route: how the structure was found.
        trust: of the localisation, in [0, 1].
    """

    entropy: NDArray[np.float16]
    peaks: tuple[PeakTuple, ...]
    flags: tuple[str, ...]
    route: str
    trust: float


Decoded = TypeVar("Decoded", bound=PredictedMask)


def write_prediction(state_dir: Path, record: StoredPrediction) -> Path:
    """Write a prediction: whole or not at all, even through a kill or a power cut.

    Raises:
        ValueError: if case_id or model is no safe file name, or the arrays do not fit the box.
    """
    path = _path(state_dir, record.model, record.case_id)
    _check_geometry(record)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{record.case_id}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with part.open("wb") as file:
            key = _key(record.model, record.case_id, record.fingerprint)
            file.write(pack(_to_arrays(record), comment=key))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync_file(path.parent)
    return path


def pack(arrays: Mapping[str, NDArray[Any]], *, comment: bytes = b"") -> bytes:
    """The arrays as an .npz file, compressed as fast as can be.

    NumPy's own way takes three to four times as long for a file that is 5 % smaller.

    Args:
        arrays: by name.
        comment: of the archive; stands at the end of the file.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        archive.comment = comment
    return packed.getvalue()


def has_prediction(state_dir: Path, model: str, case_id: str, fingerprint: str) -> bool:
    """Whether `read_prediction` will find one, told from the end of its file.

    One whose arrays are damaged counts: that is found out, and mended, when they are read.

    Raises:
        ValueError: if case_id or model is no safe file name.
    """
    try:
        told = _comment(_ending(_path(state_dir, model, case_id)))
    except FileNotFoundError:
        return False
    if not told:  # damaged, or of a release before, which wrote none
        return read_prediction(state_dir, model, case_id, fingerprint) is not None
    return told == _key(model, case_id, fingerprint)


def _key(model: str, case_id: str, fingerprint: str) -> bytes:
    return json.dumps([model, case_id, fingerprint]).encode()


def _ending(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _ENDING))
        return file.read()


def _comment(archive: bytes) -> bytes:
    """The comment of a zip archive; empty if there is none, or no archive."""
    start = archive.rfind(b"PK\x05\x06")
    return archive[start + 22 :] if start >= 0 else b""


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
    return _read(_path(state_dir, model, case_id), model, case_id, fingerprint, _decode)


def read_predicted_mask(
    state_dir: Path, model: str, case_id: str, fingerprint: str
) -> PredictedMask | None:
    """What `read_prediction` returns, or None as there, without the time for what is not the mask.

    The other arrays are not looked at: where only they are damaged, the mask is returned, and the
    file is left to `read_prediction`.

    Raises:
        ValueError: if case_id or model is no safe file name.
    """
    return _read(_path(state_dir, model, case_id), model, case_id, fingerprint, _decode_mask)


def _read(
    path: Path, model: str, case_id: str, fingerprint: str, decode: Callable[["_Members"], Decoded]
) -> Decoded | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            record = decode(_Members(archive))
        _check_identity(record, model, case_id, end=content[-_ENDING:])
        _check_geometry(record)
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


def _check_identity(record: PredictedMask, model: str, case_id: str, *, end: bytes) -> None:
    told = _comment(end)
    if told and told != _key(record.model, record.case_id, record.fingerprint):
        raise ValueError("its end is torn")
    if (record.model, record.case_id) != (model, case_id):
        raise ValueError(f"it is of case {record.case_id!r} and model {record.model!r}")


def _check_geometry(record: PredictedMask) -> None:
    box = record.box
    if len(record.shape) != 3 or record.affine.shape != (4, 4) or box.shape != (3, 2):
        raise ValueError(f"prediction of {record.case_id}: shape, affine or box is malformed")
    if (box[:, 0] < 0).any() or (box[:, 1] < box[:, 0]).any() or (box[:, 1] > record.shape).any():
        raise ValueError(
            f"prediction of {record.case_id}: box {box.tolist()} leaves {record.shape}"
        )
    size = tuple((box[:, 1] - box[:, 0]).tolist())
    shapes = {"mask": record.mask.shape}
    if isinstance(record, StoredPrediction):
        shapes["entropy"] = record.entropy.shape
    if any(shape != size for shape in shapes.values()):
        told = ", ".join(f"{name} of {shape}" for name, shape in shapes.items())
        raise ValueError(f"prediction of {record.case_id}: box of {size}, {told}")


def _to_arrays(record: StoredPrediction) -> dict[str, NDArray[Any]]:
    text = {
        "case_id": record.case_id,
        "model": record.model,
        "flags": record.flags,
        "route": record.route,
        "fingerprint": record.fingerprint,
    }
    return {
        "text": np.array(json.dumps(text)),
        "shape": np.asarray(record.shape, dtype=np.int64),
        "affine": np.asarray(record.affine, dtype=np.float64),
        "box": np.asarray(record.box, dtype=np.int64),
        "mask": np.asarray(record.mask, dtype=np.bool_),
        "entropy": np.asarray(record.entropy, dtype=np.float16),
        "peaks": np.array([(*p, v) for p, v in record.peaks], dtype=np.float64).reshape(-1, 4),
        "trust": np.asarray(record.trust, dtype=np.float64),
    }


class _Members:
    """The arrays of an .npz file by name, each read when it is asked for.

    In one piece, so that its checksum is compared always. NumPy's own NpzFile opens each twice.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def __getitem__(self, name: str) -> NDArray[Any]:
        member = io.BytesIO(self._archive.read(f"{name}.npy"))
        array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
        return array

    @cached_property
    def text(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(str(self["text"]))
        return found


def _decode_mask(members: _Members) -> PredictedMask:
    i, j, k = members["shape"].tolist()
    return PredictedMask(
        case_id=members.text["case_id"],
        model=members.text["model"],
        shape=(i, j, k),
        affine=members["affine"],
        box=members["box"],
        mask=members["mask"],
        fingerprint=members.text["fingerprint"],
    )


def _decode(members: _Members) -> StoredPrediction:
    return StoredPrediction(
        **vars(_decode_mask(members)),
        entropy=members["entropy"],
        peaks=tuple(((x, y, z), value) for x, y, z, value in members["peaks"].tolist()),
        flags=tuple(members.text["flags"]),
        route=members.text["route"],
        trust=float(members["trust"]),
    )
