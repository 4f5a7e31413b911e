"""Checks of arguments that several measures share."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_RANGE_TOLERANCE = 1e-6


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
    same_shape(a, b, names=names)
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
    rest = mask  # without the axes done: the first pass is the only one over the whole mask
    for size, extra in zip(mask.shape, pad, strict=True):
        used = np.flatnonzero(rest.reshape(size, -1).any(axis=1))
        box.append(slice(max(int(used[0]) - extra, 0), min(int(used[-1]) + 1 + extra, size)))
        rest = rest[used[0] : used[-1] + 1].any(axis=0)
    return tuple(box)


def as_finite(
    values: ArrayLike, *, name: str, ndim: int | None = None, low: float | None = None
) -> NDArray[np.float64]:
    """The values in float64, at least one, all finite.

    Args:
        values: bool, integers or floats, of any shape.
        name: how the error calls them, in the plural.
        ndim: the rank they must have; None for any.
        low: the smallest value they may have; None for any.
    Raises:
        ValueError: if there are none, if one is NaN or infinite or below `low`, or for another
            rank.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be numbers, got dtype {array.dtype}")
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axes, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} are empty (shape {array.shape}); give at least one")
    array = array.astype(np.float64)
    missing, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    if missing or infinite:
        raise ValueError(
            f"{missing} of {array.size} {name} are NaN and {infinite} are infinite; "
            "drop these first, and say how many"
        )
    if low is not None and array.min() < low:
        raise ValueError(f"{name} must be {low:g} or more, got {array.min():g}")
    return array


def as_within(
    values: ArrayLike,
    limits: tuple[float, float],
    *,
    name: str,
    hint: str = "",
    ndim: int | None = None,
) -> NDArray[np.float64]:
    """The values in float64, all within the limits.

    What a float32 softmax exceeds by its rounding (a millionth of the range) is cut off.

    Args:
        values: as in `as_finite`.
        limits: (lowest, highest), both allowed.
        name: how the error calls them, in the plural.
        hint: what to do, for the end of the error.
        ndim: the rank they must have; None for any.
    Raises:
        ValueError: as `as_finite`, or if a value lies outside the limits.
    """
    array = as_finite(values, name=name, ndim=ndim)
    low, high = limits
    slack = _RANGE_TOLERANCE * (high - low)
    if array.min() < low - slack or array.max() > high + slack:
        raise ValueError(
            f"{name} must lie in [{low:g}, {high:g}], got {array.min():g} to {array.max():g}{hint}"
        )
    return np.clip(array, low, high)


def as_labels(groups: Iterable[object], *, n: int, name: str = "values") -> NDArray[np.str_]:
    """Subgroup labels as text, (n,).

    Raises:
        ValueError: if there are not n of them, or one is None or NaN.
    """
    labels = [_label(label, position) for position, label in enumerate(groups)]
    if len(labels) != n:
        raise ValueError(f"{name} and groups must be as many, got {n} and {len(labels)} labels")
    return np.array(labels, dtype=np.str_)


def labelled_scores(
    scores: ArrayLike, groups: Sequence[object]
) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Scores in float64 and their labels as text, both (N,), checked.

    Raises:
        ValueError: if scores are empty, NaN or infinite, are not as many as the labels, or a label
            is None or NaN.
    """
    values = np.asarray(scores, dtype=np.float64)
    labels = as_labels(groups, n=len(groups))
    if values.ndim != 1 or values.size != labels.size:
        raise ValueError(
            f"scores and groups must be as many, got shape {values.shape} and {labels.size} labels"
        )
    if values.size == 0:
        raise ValueError("scores are empty; give one score and one subgroup a case")
    missing, infinite = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    if missing or infinite:
        raise ValueError(
            f"{missing} of {values.size} scores are NaN and {infinite} are infinite; "
            "drop these cases first, and say how many"
        )
    return values, labels


def same_shape(first: NDArray[Any], second: NDArray[Any], *, names: tuple[str, str]) -> None:
    """Nothing, for two arrays of one shape.

    Raises:
        ValueError: if the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"{names[0]} and {names[1]} must have one shape, got {first.shape} and {second.shape}"
        )


def _label(label: object, position: int) -> str:
    if label is None or (isinstance(label, float) and np.isnan(label)):
        raise ValueError(f"the label of case {position} is {label!r}; name it, or 'unknown'")
    return str(label)
