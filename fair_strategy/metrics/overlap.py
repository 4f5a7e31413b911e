"""Overlap and volume of masks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fair_strategy.metrics.checks import as_mask, as_mask_pair, as_spacing


def dice(prediction: ArrayLike, reference: ArrayLike) -> float:
    """Dice coefficient of two masks, 2 |P and R| / (|P| + |R|).

    Args:
        prediction: boolean (or 0 and 1), of any shape.
        reference: the same shape.
    Returns:
        0 (disjoint) to 1 (equal, ideal); 1 where both are empty.
    Raises:
        ValueError: if the shapes differ, or a mask holds other values than 0 and 1.
    References:
        Dice 1945, doi:10.2307/1932409.
    """
    p, r = as_mask_pair(prediction, reference, names=("prediction", "reference"))
    total = np.count_nonzero(p) + np.count_nonzero(r)
    if total == 0:
        return 1.0
    return 2.0 * np.count_nonzero(p & r) / total


def volume_mm3(mask: ArrayLike, spacing_mm: Sequence[float]) -> float:
    """Volume of a mask, its number of voxels times the volume of one, in mm3.

    Args:
        mask: (I, J, K), boolean (or 0 and 1).
        spacing_mm: three voxel edges.
    Raises:
        ValueError: if the mask or the spacing is not of that kind.
    """
    voxels = np.count_nonzero(as_mask(mask, ndim=3))
    return float(voxels * as_spacing(spacing_mm).prod())
