"""Uncertainty of voxels: is it at the errors, and nowhere else?

A voxel is *retained* at a threshold tau if its uncertainty is at most tau. Uncertainty is rescaled
to 0..100 over the whole data set first (`rescale_uncertainty`), so that tau = 100 retains all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fair_strategy.metrics.checks import as_mask, as_mask_pair, as_within, same_shape

THRESHOLDS = tuple(float(tau) for tau in range(101))

_PORTION = 1 << 20  # voxels at a time
_P, _R, _IN = 1, 2, 4  # bits: predicted, in the reference, inside the mask


@dataclass(frozen=True, eq=False)
class QuBrats:
    """The QU-BraTS score of a volume with its three areas and curves.

    Attributes:
        score: (area_dice + 1 - area_ftp + 1 - area_ftn) / 3; 0 to 1 (ideal).
        area_dice: area under `dice`, normalised to [0, 1]; ideal 1.
        area_ftp: area under `ftp`, normalised; ideal 0.
        area_ftn: area under `ftn`, normalised; ideal 0.
        thresholds: (K,), rising.
        dice: (K,), Dice of the retained voxels; 1 where both masks retain none.
        ftp: (K,), share of the true positives that is filtered out.
        ftn: (K,), share of the true negatives that is filtered out.
        retained: (K,), number of voxels retained, inside the mask.
        voxels: number of voxels inside the mask.
    """

    score: float
    area_dice: float
    area_ftp: float
    area_ftn: float
    thresholds: NDArray[np.float64]
    dice: NDArray[np.float64]
    ftp: NDArray[np.float64]
    ftn: NDArray[np.float64]
    retained: NDArray[np.int64]
    voxels: int


def qu_brats(
    prediction: ArrayLike,
    reference: ArrayLike,
    uncertainty: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    thresholds: Sequence[float] | NDArray[np.floating] = THRESHOLDS,
) -> QuBrats:
    """Score that rewards uncertainty at errors only, (A_Dice + 1 - A_FTP + 1 - A_FTN) / 3.

    At each tau the voxels with uncertainty > tau are dropped. Dice is that of the rest,
    FTP = (TP_100 - TP_tau) / TP_100 and FTN = (TN_100 - TN_tau) / TN_100, TP_100 and TN_100 being
    the numbers before any voxel is dropped. The areas are trapezoidal, divided by the span of the
    thresholds. A volume without a true positive loses none: FTP is 0 where TP_100 is 0, and FTN
    where TN_100 is 0, as in the challenge's own program.

    Args:
        prediction: boolean (or 0 and 1), of any shape, one region (label == k).
        reference: the same shape.
        uncertainty: the same shape, in [0, 100], see `rescale_uncertainty`.
        mask: the same shape: voxels in which true positives and negatives are counted (the brain).
            Dice takes all voxels, as in the challenge's program: a false positive outside the
            brain is still one. None: all voxels.
        thresholds: two or more different numbers in [0, 100], in any order.
    Raises:
        ValueError: if an argument is not of that kind, is empty, holds NaN, or has another shape.
    References:
        Mehta et al. 2022, QU-BraTS, MELBA 2022:026, arXiv:2112.10074; its program has 41
        thresholds by default, here there are 101.
    """
    p, r = as_mask_pair(prediction, reference, names=("prediction", "reference"))
    u = as_percent(uncertainty)
    same_shape(u, p, names=("uncertainty", "prediction"))
    inside = np.ones(p.shape, bool) if mask is None else as_mask(mask)
    same_shape(inside, p, names=("mask", "prediction"))
    if not inside.any():
        raise ValueError("mask holds no voxel; give the brain, or None for all voxels")
    levels = as_levels(thresholds, (0.0, 100.0), name="thresholds", at_least=2)
    kinds = _retained_by_kind(p, r, u, inside, levels)
    dice, ftp, ftn = _curves(kinds[:-1], kinds[-1])
    area_dice, area_ftp, area_ftn = (_area(levels, curve) for curve in (dice, ftp, ftn))
    return QuBrats(
        score=(area_dice + (1 - area_ftp) + (1 - area_ftn)) / 3,
        area_dice=area_dice,
        area_ftp=area_ftp,
        area_ftn=area_ftn,
        thresholds=levels,
        dice=dice,
        ftp=ftp,
        ftn=ftn,
        retained=kinds[:-1, _IN:].sum(axis=1),
        voxels=int(kinds[-1, _IN:].sum()),
    )


def rescale_uncertainty(values: ArrayLike, *, low: float, high: float) -> NDArray[np.float64]:
    """Uncertainty on the scale of the thresholds, 100 (u - low) / (high - low).

    Args:
        values: of any shape, within the limits.
        low: smallest uncertainty of the whole data set, all groups and cases, not of this one.
        high: largest uncertainty of the whole data set, above low.
    Returns:
        The same shape, in [0, 100].
    Raises:
        ValueError: if values are empty, NaN, infinite or outside the limits (by more than a
            millionth of their range), or if high is not above low: uncertainties that are all
            equal order nothing.
    """
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(
            f"low must be below high, got {low!r} and {high!r}; where all uncertainties are equal "
            "there is no order of cases, and no curve"
        )
    hint = "; low and high are those of the whole data set"
    inside = as_within(values, (low, high), name="uncertainties", hint=hint)
    return (inside - low) / (high - low) * 100.0


def as_percent(
    uncertainty: ArrayLike, *, name: str = "uncertainties", ndim: int | None = None
) -> NDArray[np.float64]:
    """Uncertainties in float64, all in [0, 100].

    Raises:
        ValueError: if there are none, or one is NaN or outside.
    """
    hint = "; rescale_uncertainty brings them there"
    return as_within(uncertainty, (0.0, 100.0), name=name, hint=hint, ndim=ndim)


def as_levels(
    values: Sequence[float] | NDArray[np.floating],
    limits: tuple[float, float],
    *,
    name: str,
    at_least: int = 1,
) -> NDArray[np.float64]:
    """Different numbers within the limits, rising.

    Raises:
        ValueError: if there are fewer than `at_least`, two are equal, or one is outside.
    """
    levels = np.sort(as_within(values, limits, name=name, ndim=1))
    if levels.size < at_least or (np.diff(levels) == 0).any():
        raise ValueError(
            f"{name} must be {at_least} or more different numbers, got {levels.tolist()}"
        )
    return levels


def _retained_by_kind(
    p: NDArray[np.bool_],
    r: NDArray[np.bool_],
    u: NDArray[np.float64],
    inside: NDArray[np.bool_],
    levels: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Voxels of each of the 8 kinds retained at each level, (K + 1, 8); the last row has all."""
    flat = [array.ravel() for array in (p, r, inside, u)]
    counts = np.zeros((levels.size + 1) * 8, np.int64)
    for start in range(0, p.size, _PORTION):
        one, two, three, doubt = (array[start : start + _PORTION] for array in flat)
        kind = _P * one.astype(np.intp) + _R * two + _IN * three
        first = np.searchsorted(levels, doubt, side="left")  # the first level that retains it
        counts += np.bincount(first * 8 + kind, minlength=counts.size)
    return counts.reshape(-1, 8).cumsum(axis=0)


def _curves(
    kept: NDArray[np.int64], total: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    both, single = kept[:, [3, 7]].sum(axis=1), kept[:, [1, 2, 5, 6]].sum(axis=1)
    size = 2 * both + single
    dice = np.where(size > 0, 2 * both / np.maximum(size, 1), 1.0)
    ftp, ftn = (
        (total[kind] - kept[:, kind]) / max(int(total[kind]), 1) for kind in (_IN + _P + _R, _IN)
    )
    return dice, ftp, ftn


def _area(levels: NDArray[np.float64], curve: NDArray[np.float64]) -> float:
    heights = (curve[1:] + curve[:-1]) / 2
    return float((heights * np.diff(levels)).sum() / (levels[-1] - levels[0]))
