"""Checks of arguments that several measures share."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def as_mask(mask: ArrayLike, *, name: str = "mask", ndim: int | None = None) -> NDArray[np.bool_]:
    """The mask as a boolean array.

    Args:
        mask: bool, or numbers that are all 0 or 1.
        name: how the error calls it.
        ndim: the rank it must have; None for any.
    Raises:
        ValueError: if it has another rank, or holds anything but 0 and 1 (a label map does).
    """
    array = np.asarray(mask)
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axes, got shape {array.shape}")
    if array.dtype == np.bool_:
        return array
    if array.dtype.kind not in "iuf" or not np.isin(array, (0, 1)).all():
        raise ValueError(
            f"{name} must be boolean or hold 0 and 1 only, got dtype {array.dtype}; "
            "choose one label first, as in mask == label"
        )
    return array.astype(np.bool_)


def as_mask_pair(
    first: ArrayLike, second: ArrayLike, *, names: tuple[str, str], ndim: int | None = None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two masks of one shape, as boolean arrays.

    Raises:
        ValueError: as `as_mask`, or if the shapes differ.
    """
    a = as_mask(first, name=names[0], ndim=ndim)
    b = as_mask(second, name=names[1], ndim=ndim)
    if a.shape != b.shape:
        raise ValueError(
            f"{names[0]} and {names[1]} must have one shape, got {a.shape} and {b.shape}"
        )
    return a, b


def as_spacing(spacing_mm: Sequence[float] | ArrayLike) -> NDArray[np.float64]:
    """The three voxel edges in mm.

    Raises:
        ValueError: unless there are three, positive and finite.
    """
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape != (3,) or not np.isfinite(spacing).all() or (spacing <= 0).any():
        raise ValueError(f"spacing_mm must be three positive numbers, got {spacing_mm!r}")
    return spacing


def as_affine(affine: ArrayLike) -> NDArray[np.float64]:
    """A 4x4 affine from voxel indices to RAS mm.

    Raises:
        ValueError: if it has another shape, is not finite, or is singular.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError(f"affine must be a finite 4x4 matrix, got {affine!r}")
    if np.linalg.det(matrix[:3, :3]) == 0:
        raise ValueError(f"affine must be invertible, got {affine!r}")
    return matrix


def bounding_box(mask: NDArray[np.bool_], *, pad: Sequence[int] = (0, 0, 0)) -> tuple[slice, ...]:
    """The smallest box that holds a non-empty mask, grown by `pad` voxels and cut at the array."""
    box = []
    for axis, (size, extra) in enumerate(zip(mask.shape, pad, strict=True)):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        used = np.flatnonzero(mask.any(axis=others))
        box.append(slice(max(int(used[0]) - extra, 0), min(int(used[-1]) + 1 + extra, size)))
    return tuple(box)
