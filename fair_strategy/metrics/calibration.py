"""Calibration: does a confidence of 0.8 come true 8 times of 10, a variance as that squared error?

Predictions fall into bins of equal width by what the model claimed (confidence, or variance). A bin
is open below and closed above, (edge, next edge], and the first also holds its lower edge: with 10
bins, 0 and 0.1 fall into the first, 1 into the last. These are the bins of Guo et al. 2017 and of
scikit-learn's calibration_curve. `CalibrationCounts` of parts (cases, batches) add up to those of
the whole, so that the voxels of one case at a time need to be in memory.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fair_strategy.metrics.checks import as_finite, as_mask, as_within, same_shape

BINS = 10


@dataclass(frozen=True, eq=False)
class Reliability:
    """What a reliability diagram shows, bin by bin.

    Attributes:
        edges: (B + 1,), rising; a bin is (edge, next edge], the first holds its lower edge too.
        counts: (B,), predictions in the bin.
        confidence: (B,), their mean confidence (regression: mean variance); NaN where there is
            none.
        accuracy: (B,), their share of correct ones (regression: mean squared error); NaN where
            there is none.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CalibrationCounts:
    """Number and sums of predictions a bin: what every measure of this module is made from.

    Attributes:
        limits: lower edge of the first bin, upper edge of the last.
        counts: (B,), predictions in the bin.
        claimed: (B,), sum of their confidence (regression: of their variance).
        observed: (B,), number of correct ones (regression: sum of their squared errors).
    """

    limits: tuple[float, float]
    counts: NDArray[np.int64]
    claimed: NDArray[np.float64]
    observed: NDArray[np.float64]

    @classmethod
    def empty(
        cls, *, bins: int = BINS, limits: tuple[float, float] = (0.0, 1.0)
    ) -> "CalibrationCounts":
        """Counts of no prediction, to which others are added.

        Raises:
            ValueError: for bins below 1 or limits that do not rise.
        """
        size = len(_edges(bins, limits)) - 1
        return cls(_as_limits(limits), np.zeros(size, np.int64), np.zeros(size), np.zeros(size))

    def __add__(self, other: "CalibrationCounts") -> "CalibrationCounts":
        """Counts of both parts together.

        Raises:
            ValueError: if the bins differ.
        """
        if self.limits != other.limits or self.counts.size != other.counts.size:
            raise ValueError(
                f"only counts of the same bins add up, got {self.counts.size} over {self.limits} "
                f"and {other.counts.size} over {other.limits}"
            )
        return CalibrationCounts(
            self.limits,
            self.counts + other.counts,
            self.claimed + other.claimed,
            self.observed + other.observed,
        )

    @property
    def n(self) -> int:
        """Number of predictions."""
        return int(self.counts.sum())

    def reliability(self) -> Reliability:
        """Edges, counts and means a bin."""
        used = np.where(self.counts > 0, self.counts, np.nan)
        edges = _edges(self.counts.size, self.limits)
        return Reliability(edges, self.counts.copy(), self.claimed / used, self.observed / used)

    def expected_error(self) -> float:
        """Mean over the predictions of their bin's |observed - claimed|; NaN where n is 0."""
        if self.n == 0:
            return float("nan")
        return float(np.abs(self.observed - self.claimed).sum() / self.n)

    def average_error(self) -> float:
        """Mean over the bins that are not empty of |observed - claimed|; NaN where n is 0."""
        used = self.counts > 0
        if not used.any():
            return float("nan")
        return float(np.mean(np.abs(self.observed - self.claimed)[used] / self.counts[used]))


def calibration_counts(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = BINS
) -> CalibrationCounts:
    """Number, summed confidence and number of correct predictions in each bin of confidence.

    Args:
        confidence: of any shape, in [0, 1].
        correct: the same shape, boolean or 0 and 1.
        bins: their number, of equal width over [0, 1].
    Returns:
        Counts that can be added to those of other cases with the same bins.
    Raises:
        ValueError: if either is empty or not of that kind, the shapes differ, or bins is below 1.
    """
    claimed = as_within(
        confidence, (0.0, 1.0), name="confidences", hint="; give probabilities, not logits"
    )
    observed = as_mask(correct, name="correct")
    same_shape(claimed, observed, names=("confidence", "correct"))
    return _binned(claimed, observed, bins, (0.0, 1.0))


def variance_counts(
    squared_error: ArrayLike,
    variance: ArrayLike,
    *,
    limits: tuple[float, float],
    bins: int = BINS,
) -> CalibrationCounts:
    """Number, summed variance and summed squared error of the predictions in each bin of variance.

    Args:
        squared_error: of any shape, 0 or more.
        variance: the same shape, within the limits.
        limits: smallest and largest variance of all parts that will be added up.
        bins: their number, of equal width between the limits.
    Returns:
        Counts that can be added to those of other cases with the same bins and limits.
    Raises:
        ValueError: if either is empty or not of that kind, the shapes differ, limits are not two
            rising numbers from 0 upwards, or bins is below 1.
    """
    low, high = _as_limits(limits)
    if low < 0:
        raise ValueError(f"limits of a variance must be 0 or more, got {limits!r}")
    claimed = as_within(
        variance, (low, high), name="variances", hint="; give limits that span all parts"
    )
    observed = as_finite(squared_error, name="squared errors", low=0.0)
    same_shape(observed, claimed, names=("squared_error", "variance"))
    return _binned(claimed, observed, bins, (low, high))


def reliability(confidence: ArrayLike, correct: ArrayLike, *, bins: int = BINS) -> Reliability:
    """Mean confidence and accuracy in each bin of confidence: a reliability diagram.

    Args:
        confidence: of any shape, in [0, 1].
        correct: the same shape, boolean or 0 and 1.
        bins: their number, of equal width over [0, 1].
    Raises:
        ValueError: as `calibration_counts`.
    References:
        DeGroot and Fienberg 1983, doi:10.2307/2987588.
    """
    return calibration_counts(confidence, correct, bins=bins).reliability()


def expected_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = BINS
) -> float:
    """Mean distance of accuracy from confidence, sum_b (n_b / N) |acc_b - conf_b|.

    Args:
        confidence: of any shape, in [0, 1].
        correct: the same shape, boolean or 0 and 1.
        bins: their number, of equal width over [0, 1].
    Returns:
        0 (ideal) to 1.
    Raises:
        ValueError: as `calibration_counts`.
    References:
        Naeini et al. 2015, doi:10.1609/aaai.v29i1.9602; Guo et al. 2017, arXiv:1706.04599.
    """
    return calibration_counts(confidence, correct, bins=bins).expected_error()


def average_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = BINS
) -> float:
    """Distance of accuracy from confidence, each bin that is not empty counted once.

    Unlike the expected error it is not ruled by the voxels of which any model is certain.

    Args:
        confidence: of any shape, in [0, 1].
        correct: the same shape, boolean or 0 and 1.
        bins: their number, of equal width over [0, 1].
    Returns:
        0 (ideal) to 1.
    Raises:
        ValueError: as `calibration_counts`.
    References:
        Neumann, Zisserman and Vedaldi 2018, Relaxed softmax, NeurIPS workshop on machine learning
        for intelligent transportation systems.
    """
    return calibration_counts(confidence, correct, bins=bins).average_error()


def uncertainty_calibration_error(
    squared_error: ArrayLike,
    variance: ArrayLike,
    *,
    bins: int = BINS,
    limits: tuple[float, float] | None = None,
) -> float:
    """Mean distance of squared error from predicted variance, sum_b (n_b / N) |MSE_b - MV_b|.

    Args:
        squared_error: of any shape, 0 or more.
        variance: the same shape, 0 or more; the total one, where there are several kinds.
        bins: their number, of equal width between the limits.
        limits: (low, high) of the bins; None: smallest and largest variance given. Give the same
            for all groups that are compared.
    Returns:
        0 (ideal) upwards, in the squared unit of the prediction.
    Raises:
        ValueError: as `variance_counts`.
    References:
        Laves et al. 2020, Well-calibrated regression uncertainty in medical imaging, PMLR 121.
    """
    if limits is None:
        claimed = as_finite(variance, name="variances", low=0.0)
        low, high = float(claimed.min()), float(claimed.max())
        limits = (low, high if high > low else np.nextafter(low, np.inf))  # all equal: one bin
    return variance_counts(squared_error, variance, bins=bins, limits=limits).expected_error()


def _binned(
    claimed: NDArray[np.float64],
    observed: NDArray[np.float64] | NDArray[np.bool_],
    bins: int,
    limits: tuple[float, float],
) -> CalibrationCounts:
    edges = _edges(bins, limits)
    slot = np.searchsorted(edges[1:-1], claimed.ravel(), side="left")

    def total(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(slot, weights=weights.ravel(), minlength=bins).astype(np.float64)

    counts = np.bincount(slot, minlength=bins)
    return CalibrationCounts(limits, counts, total(claimed), total(observed.astype(np.float64)))


def _edges(bins: int, limits: tuple[float, float]) -> NDArray[np.float64]:
    if isinstance(bins, bool) or not isinstance(bins, int | np.integer) or bins < 1:
        raise ValueError(f"bins must be a whole number from 1 upwards, got {bins!r}")
    return np.linspace(*_as_limits(limits), int(bins) + 1)


def _as_limits(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = map(float, limits)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"limits must be two finite numbers, the lower first, got {limits!r}")
    return low, high
