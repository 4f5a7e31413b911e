"""The region of a volume whose entropy counts."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from fair_strategy.metrics.checks import as_spacing, bounding_box

FOREGROUND = 0.5
_MANY_SHIFTS = 300
_ROUNDING = 1 + 1e-9  # three steps of 0.1 mm are within 0.3 mm


def region_of_interest(
    foreground_probability: ArrayLike,
    *,
    spacing_mm: Sequence[float],
    margin_mm: float,
    probability_threshold: float,
) -> NDArray[np.bool_]:
    """Predicted mask (p >= 0.5) dilated by a margin, united with the voxels of p >= a threshold.

    Args:
        foreground_probability: (I, J, K), in [0, 1].
        spacing_mm: three voxel edges.
        margin_mm: Euclidean distance from the nearest mask voxel's centre that still belongs, 0 or
            more; the spacing may differ between the axes.
        probability_threshold: above 0, to 1; low, so that doubtful voxels far away count.
    Returns:
        (I, J, K), boolean; empty if no voxel reaches either threshold.
    Raises:
        ValueError: if an argument is not of that kind.
    References:
        docs/method.md#entropy-of-a-case.
    """
    p = np.asarray(foreground_probability)
    spacing = as_spacing(spacing_mm)
    _check(p, margin_mm, probability_threshold)
    region: NDArray[np.bool_] = p >= probability_threshold
    mask = p >= FOREGROUND
    if mask.any():
        reach = [int(step) for step in np.ceil(margin_mm * _ROUNDING / spacing)]
        box = bounding_box(mask, pad=reach)
        region[box] |= _dilated(mask[box], spacing, reach, margin_mm * _ROUNDING)
    return region


def _dilated(
    mask: NDArray[np.bool_], spacing: NDArray[np.float64], reach: Sequence[int], margin_mm: float
) -> NDArray[np.bool_]:
    """The voxels within the margin of the mask: by shifts if it is narrow, else by distance."""
    if np.prod([2 * step + 1 for step in reach[:2]]) > _MANY_SHIFTS:
        distance = ndimage.distance_transform_edt(~mask, sampling=spacing)
        return np.asarray(distance <= margin_mm)
    # In a rim of that reach no shift runs into the next row: all are shifts along one long row.
    padded = np.pad(mask, [(step, step) for step in reach])
    _, rows, columns = padded.shape
    runs = _runs(padded.ravel(), reach[2])
    dilated = np.zeros(padded.size, dtype=np.bool_)
    for i, j in product(*(range(-step, step + 1) for step in reach[:2])):
        left_mm2 = margin_mm**2 - (i * spacing[0]) ** 2 - (j * spacing[1]) ** 2
        if left_mm2 >= 0:
            run = runs[int(np.sqrt(left_mm2) / spacing[2])]
            _unite(dilated, run, (i * rows + j) * columns)
    inside = tuple(slice(step, step + n) for step, n in zip(reach, mask.shape, strict=True))
    return dilated.reshape(padded.shape)[inside]


def _runs(row: NDArray[np.bool_], longest: int) -> list[NDArray[np.bool_]]:
    """A row grown by 0, 1, ... `longest` voxels each way."""
    grown = [row]
    for step in range(1, longest + 1):
        further = grown[-1].copy()
        _unite(further, row, step)
        _unite(further, row, -step)
        grown.append(further)
    return grown


def _unite(row: NDArray[np.bool_], other: NDArray[np.bool_], step: int) -> None:
    """Add another row, shifted by so many voxels, to a row in place."""
    if step > 0:
        row[step:] |= other[:-step]
    else:
        row[: len(row) + step] |= other[-step:]


def _check(p: NDArray[np.floating], margin_mm: float, probability_threshold: float) -> None:
    if p.ndim != 3:
        raise ValueError(f"foreground_probability must be (I, J, K), got shape {p.shape}")
    if p.size and not (p.min() >= 0 and p.max() <= 1):  # NaN fails it too
        raise ValueError(
            f"foreground_probability must lie in [0, 1], got {p.min():g} to {p.max():g}"
        )
    if not np.isfinite(margin_mm) or margin_mm < 0:
        raise ValueError(f"margin_mm must be a number from 0 upwards, got {margin_mm!r}")
    if not 0 < probability_threshold <= 1:
        raise ValueError(
            f"probability_threshold must be above 0 and at most 1, got {probability_threshold!r}"
        )
