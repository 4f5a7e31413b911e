"""Images and masks as files: NIfTI and NRRD, in and out, refused with a reason when unusable."""

from __future__ import annotations

import os
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import DTypeLike, NDArray

from fair_strategy.data import formats
from fair_strategy.data.grids import (
    Affine,
    Reorientation,
    Shape,
    VolumeError,
    check_extent,
    checked_affine,
    match_grid,
    spacing_mm,
    to_ras,
)

__all__ = [
    "Affine",
    "LabelMap",
    "Mask",
    "Reorientation",
    "Shape",
    "Volume",
    "VolumeError",
    "match_grid",
    "read_grid",
    "read_image",
    "read_labels",
    "read_mask",
    "replace_file",
    "spacing_mm",
    "sync_folder",
    "to_ras",
    "write_image",
    "write_mask",
]

# What nibabel, pynrrd, gzip and zlib raise on a damaged file; of pynrrd StopIteration for an empty
# file, IndexError for an empty vector.
_DAMAGED = (
    OSError, EOFError, ValueError, StopIteration, IndexError, zlib.error, ImageFileError,
    HeaderDataError, nrrd.NRRDError,
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """An image: `array` (I, J, K) float32, `affine` (4, 4) float64 from voxel to RAS mm."""

    array: NDArray[np.float32]
    affine: Affine

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Length of a voxel along each axis, in mm."""
        return spacing_mm(self.affine)


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """A binary mask: `array` (I, J, K) uint8 of 0 and 1, `affine` (4, 4) from voxel to RAS mm."""

    array: NDArray[np.uint8]
    affine: Affine

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Length of a voxel along each axis, in mm."""
        return spacing_mm(self.affine)


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """Labels: `array` (I, J, K) of whole numbers, `affine` (4, 4) from voxel to RAS mm."""

    array: NDArray[Any]
    affine: Affine

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Length of a voxel along each axis, in mm."""
        return spacing_mm(self.affine)


def read_image(path: Path | str, *, allow_blank: bool = False) -> Volume:
    """The image in a .nii, .nii.gz or .nrrd file, in its own grid.

    Args:
        path: the file.
        allow_blank: take a volume whose voxels are all zero (an uncertainty map may be one).
    Raises:
        VolumeError: no such file, truncated or damaged, not 3D (trailing axes of length 1 are
            dropped), not scalar, NaN or infinite voxels, all voxels zero, no usable affine, an
            extent that is none of a scan.
    """
    path = Path(path)
    with _naming(path):
        array, affine = formats.read(path)
    shape = _three_axes(path, array.shape)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, refused below
        image = array.reshape(shape).astype(np.float32, copy=False)
    finite = np.isfinite(image)
    if not finite.all():
        count = int(image.size - np.count_nonzero(finite))
        raise VolumeError(f"{path}: {count} of {image.size} voxels are NaN or infinite; repair it")
    if not allow_blank and not image.any():
        raise VolumeError(f"{path}: every voxel is zero; is this the right file?")
    matrix = checked_affine(affine, name=str(path))
    check_extent(shape, matrix, name=str(path))
    return Volume(image, matrix)


def read_labels(path: Path | str) -> LabelMap:
    """All labels in a .nii, .nii.gz or .nrrd file, background at 0.

    Raises:
        VolumeError: unreadable as for read_image; values that are no whole numbers.
    """
    path = Path(path)
    with _naming(path):
        array, affine = formats.read(path)
    labels = _whole_numbers(path, array.reshape(_three_axes(path, array.shape)))
    return LabelMap(labels, checked_affine(affine, name=str(path)))


def read_mask(path: Path | str, *, label_value: int | None = None) -> Mask:
    """The binary mask in a .nii, .nii.gz or .nrrd file (also .seg.nrrd of one layer).

    Args:
        path: the file; every voxel holds a whole number.
        label_value: the voxels with this value are the mask. None: the voxels that are not zero,
            which must then all hold one value; no such voxel makes an empty mask.
    Raises:
        VolumeError: unreadable as for read_image; values that are no whole numbers; several
            values and no label_value; no voxel of the label_value.
    """
    found = read_labels(path)
    labels = found.array
    values = [int(value) for value in np.unique(labels[labels != 0])]
    if label_value is None and len(values) > 1:
        raise VolumeError(
            f"{path}: holds several labels ({_listed(values)}); choose one by label_value"
        )
    if label_value is not None and label_value not in values:
        raise VolumeError(
            f"{path}: no voxel has the label_value {label_value} (it holds: {_listed(values)})"
        )
    mask = labels != 0 if label_value is None else labels == label_value
    return Mask(mask.astype(np.uint8), found.affine)


def read_grid(path: Path | str) -> tuple[Shape, Affine]:
    """Shape and affine (voxel to RAS mm) from the header alone; the voxels are not read.

    Raises:
        VolumeError: no such file, no readable header, not 3D, no usable affine.
    """
    path = Path(path)
    with _naming(path):
        shape, affine = formats.read_grid(path)
    return _three_axes(path, shape), checked_affine(affine, name=str(path))


def write_mask(path: Path | str, array: NDArray[np.generic], affine: NDArray[np.floating]) -> None:
    """Write labels (bool or whole numbers 0 to 255) as uint8; see write_image."""
    if array.dtype.kind not in "biu":
        raise TypeError(f"{path}: a mask must be of bool or integers, got {array.dtype}")
    if array.size and not 0 <= int(array.min()) <= int(array.max()) <= 255:
        raise VolumeError(f"{path}: labels must be 0 to 255, got {array.min()} to {array.max()}")
    write_image(path, array, affine, dtype=np.uint8)


def write_image(
    path: Path | str,
    array: NDArray[np.generic],
    affine: NDArray[np.floating],
    dtype: DTypeLike = np.float32,
) -> None:
    """Write a volume so that the file is either the old one or the whole new one.

    The format follows the name: .nii, .nii.gz, or .nrrd (in LPS, as 3D Slicer writes it). The same
    input makes the same bytes. Missing folders are made.

    Args:
        path: where to.
        array: (I, J, K).
        affine: (4, 4), voxel to RAS mm; NIfTI stores it as float32.
        dtype: type of the stored voxels; values are cast, not scaled.
    Raises:
        VolumeError: not three axes, no usable affine, another extension.
    """
    path = Path(path)
    if array.ndim != 3:
        raise VolumeError(f"{path}: a volume must have 3 axes, got shape {array.shape}")
    matrix = checked_affine(affine, name=str(path))
    replace_file(path, formats.encode(path, array.astype(dtype, copy=False), matrix))


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader, a kill or a power cut sees the old or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with part.open("xb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk: a rename outlives a power cut only then."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise VolumeError(f"{path}: no such file") from error
    except VolumeError as error:
        raise VolumeError(f"{path}: {error}") from error
    except _DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise VolumeError(f"{path}: truncated, damaged or not readable ({reason})") from error


def _three_axes(path: Path, shape: tuple[int, ...]) -> Shape:
    axes = list(shape)
    while len(axes) > 3 and axes[-1] == 1:
        axes.pop()
    if len(axes) != 3 or 0 in axes:
        raise VolumeError(
            f"{path}: has shape {tuple(shape)}; a single 3D volume is expected, "
            "so extract one volume first"
        )
    return axes[0], axes[1], axes[2]


def _whole_numbers(path: Path, labels: NDArray[Any]) -> NDArray[Any]:
    if labels.dtype.kind in "biu":
        return labels
    whole = np.rint(labels)
    with np.errstate(invalid="ignore"):  # infinity - infinity: not whole, refused
        # Scaled integers come back a rounding error beside the number that was meant.
        wrong = labels[~(np.abs(labels - whole) <= 1e-3)]
    if wrong.size:
        raise VolumeError(f"{path}: a mask must hold whole numbers, found the value {wrong[0]:g}")
    return whole


def _listed(values: list[int]) -> str:
    shown = ", ".join(map(str, values[:8])) or "only zeros"
    return f"{shown}, .. ({len(values)} labels)" if len(values) > 8 else shown
