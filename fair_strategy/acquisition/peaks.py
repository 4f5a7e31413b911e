"""Where in a volume the model is least certain."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fair_strategy.metrics.checks import as_affine, bounding_box

_HIGH = 0.2


@dataclass(frozen=True)
class Peak:
    """A local maximum of an entropy map.

    Attributes:
        position_mm: centre of its voxel, RAS mm.
        value: entropy there, in nats.
    """

    position_mm: tuple[float, float, float]
    value: float


def uncertainty_peaks(
    entropy_map: ArrayLike, affine: ArrayLike, *, count: int = 3, min_distance_mm: float = 6.0
) -> tuple[Peak, ...]:
    """The highest local maxima (26 neighbours) of an entropy map that keep a distance.

    Taken greedily, highest first; of equal ones the first by RAS position, so that the result does
    not depend on how the volume is stored.

    Args:
        entropy_map: (I, J, K), in nats.
        affine: 4x4, voxel indices to RAS mm.
        count: at most so many, 0 or more.
        min_distance_mm: between any two, 0 or more.
    Returns:
        Up to `count` peaks, highest first; fewer where the map has no more, none where it is 0.
    Raises:
        ValueError: if an argument is not of that kind.
    """
    values = np.asarray(entropy_map)
    matrix = as_affine(affine)
    _check(values, count, min_distance_mm)
    highest = float(values.max(initial=0))
    if highest <= 0:
        return ()
    # Most maxima are faint and far below the highest few, which are nearly always enough.
    found = _greedy(values, matrix, count, min_distance_mm, above=_HIGH * highest)
    if len(found) == count:
        return found
    return _greedy(values, matrix, count, min_distance_mm, above=0.0)


def _greedy(
    values: NDArray[np.floating],
    matrix: NDArray[np.float64],
    count: int,
    min_distance_mm: float,
    *,
    above: float,
) -> tuple[Peak, ...]:
    voxels = _local_maxima(values, above)
    heights = values[tuple(voxels.T)].astype(np.float64)
    positions = voxels @ matrix[:3, :3].T + matrix[:3, 3]
    rounded = np.round(positions, 6)  # ties by position, not by the affine's rounding
    order = np.lexsort((*rounded.T[::-1], -heights))
    peaks: list[Peak] = []
    while order.size and len(peaks) < count:
        top = positions[order[0]]
        x, y, z = (float(coordinate) for coordinate in top)
        peaks.append(Peak((x, y, z), float(heights[order[0]])))
        distance = np.linalg.norm(positions[order] - top, axis=1)
        order = order[(distance >= min_distance_mm) & (distance > 0)]
    return tuple(peaks)


def _local_maxima(values: NDArray[np.floating], above: float) -> NDArray[np.int64]:
    """(N, 3): voxels above a value that no neighbour exceeds."""
    box = bounding_box(values > above, pad=(1, 1, 1))
    part = np.pad(values[box], 1, constant_values=-1)  # a rim, so that all have 26 neighbours
    flat, (_, j, k) = part.ravel(), part.shape
    tops = np.flatnonzero(flat > above)
    for steps in product((-1, 0, 1), repeat=3):
        tops = tops[flat[tops] >= flat[tops + np.dot(steps, (j * k, k, 1))]]
    return np.stack(np.unravel_index(tops, part.shape), axis=1) + [s.start - 1 for s in box]


def _check(values: NDArray[np.floating], count: int, min_distance_mm: float) -> None:
    if values.ndim != 3:
        raise ValueError(f"entropy_map must be (I, J, K), got shape {values.shape}")
    if values.size and not np.isfinite([values.min(), values.max()]).all():  # NaN shows in both
        raise ValueError("entropy_map must be finite; it holds NaN or inf")
    if count < 0:
        raise ValueError(f"count must be 0 or more, got {count!r}")
    if not np.isfinite(min_distance_mm) or min_distance_mm < 0:
        raise ValueError(f"min_distance_mm must be 0 or more, got {min_distance_mm!r}")
