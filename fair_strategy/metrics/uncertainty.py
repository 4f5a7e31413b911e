"""Uncertainty of cases: is a model unsure where it is wrong, and for whom?

This module has risk-coverage curves and the detection of errors. Measures of voxels
(`qu_brats`) and curves of a metric by group (`filtered_metric_curve`) are imported from
`fair_strategy.metrics.voxelwise` and `fair_strategy.metrics.selective`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from fair_strategy.metrics.checks import as_finite, as_labels, as_mask, same_shape
from fair_strategy.metrics.classification import auroc, average_precision
from fair_strategy.metrics.selective import (
    MetricCurve,
    coverage_metric_curve,
    filtered_metric_curve,
    filtered_volume_curve,
)
from fair_strategy.metrics.voxelwise import THRESHOLDS, QuBrats, qu_brats, rescale_uncertainty

__all__ = [
    "THRESHOLDS",
    "ErrorAssociation",
    "ErrorDetection",
    "MetricCurve",
    "QuBrats",
    "RiskCoverage",
    "coverage_metric_curve",
    "error_association",
    "error_detection",
    "filtered_metric_curve",
    "filtered_volume_curve",
    "qu_brats",
    "rescale_uncertainty",
    "risk_coverage",
    "risk_coverage_by_group",
]


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """Risk of the most certain part of the cases, over the size of that part.

    Attributes:
        coverage: (N,), 1/N, 2/N ... 1: the part of the cases that is kept, the most certain first.
        risk: (N,), their mean risk.
        aurc: mean of `risk`; ideal: that of the oracle.
        e_aurc: aurc minus the AURC of the oracle, which orders the cases by their risk; 0 (ideal)
            upwards.
        n: number of cases.
    """

    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]
    aurc: float
    e_aurc: float
    n: int


def risk_coverage(risk: ArrayLike, uncertainty: ArrayLike) -> RiskCoverage:
    """Mean risk of the k most certain cases, k = 1 to N, and the area under that curve.

    Cases of equal uncertainty have no order among themselves: at each k the curve is its mean over
    all their orders (within the tie every case stands for the tie's mean risk). So the result does
    not depend on the order of the input.

    Args:
        risk: (N,), finite, the lower the better: 1 - Dice, 0 and 1 for right and wrong, or a
            squared error.
        uncertainty: (N,), finite, on any scale; only its order counts.
    Raises:
        ValueError: if either is empty or not of that kind, or they are not as many.
    References:
        Geifman, Uziel and El-Yaniv 2019, arXiv:1805.08206; the oracle is the empirical one.
    """
    risks = as_finite(risk, name="risks", ndim=1)
    doubts = as_finite(uncertainty, name="uncertainties", ndim=1)
    same_shape(risks, doubts, names=("risk", "uncertainty"))
    curve = _selective_risk(risks, doubts)
    aurc = float(curve.mean())
    oracle = float(_selective_risk(risks, risks).mean())
    coverage = np.arange(1, risks.size + 1) / risks.size
    # No order is better than the oracle's; below it is rounding.
    return RiskCoverage(coverage, curve, aurc, max(aurc - oracle, 0.0), risks.size)


def risk_coverage_by_group(
    risk: ArrayLike,
    uncertainty: ArrayLike,
    groups: Iterable[object],
    *,
    known_groups: Collection[str] = (),
) -> dict[str, RiskCoverage]:
    """Risk-coverage curve of each group among its own cases, by name.

    Args:
        risk: (N,), as in `risk_coverage`.
        uncertainty: (N,).
        groups: N subgroup labels.
        known_groups: names that are reported with n = 0, NaN and empty curves where they have no
            case.
    Returns:
        Sorted by name. A group with one case has its risk as AURC, and E-AURC 0 by necessity.
    Raises:
        ValueError: as `risk_coverage`, or for a label that is None or NaN.
    """
    risks = as_finite(risk, name="risks", ndim=1)
    doubts = as_finite(uncertainty, name="uncertainties", ndim=1)
    same_shape(risks, doubts, names=("risk", "uncertainty"))
    labels = as_labels(groups, n=risks.size, name="risks")
    nan, none = float("nan"), np.empty(0)
    return {
        name: risk_coverage(risks[own], doubts[own])
        if own.any()
        else RiskCoverage(none, none, nan, nan, 0)
        for name, own in _members(labels, known_groups)
    }


@dataclass(frozen=True)
class ErrorDetection:
    """How well uncertainty tells a group's wrong cases from its right ones.

    Attributes:
        n: number of cases.
        errors: number of wrong ones.
        auroc: chance that a wrong case is more uncertain than a right one; ideal 1, 0.5 by chance;
            NaN unless there are both.
        auprc: average precision, wrong cases being the positives; ideal 1, errors / n by chance;
            NaN unless there are both.
    """

    n: int
    errors: int
    auroc: float
    auprc: float


def error_detection(
    error: ArrayLike,
    uncertainty: ArrayLike,
    groups: Iterable[object],
    *,
    known_groups: Collection[str] = (),
) -> dict[str, ErrorDetection]:
    """AUROC and average precision of uncertainty as a detector of errors, by group.

    Args:
        error: (N,), boolean or 0 and 1: is the case wrong? (A wrong class, or a Dice below what is
            usable.)
        uncertainty: (N,), finite.
        groups: N subgroup labels.
        known_groups: names that are reported with n = 0 and NaN where they have no case.
    Returns:
        Sorted by name.
    Raises:
        ValueError: if error or uncertainty is empty or not of that kind, they and the labels are
            not as many, or a label is None or NaN.
    """
    wrong = as_mask(error, name="error", ndim=1)
    doubts = as_finite(uncertainty, name="uncertainties", ndim=1)
    same_shape(wrong, doubts, names=("error", "uncertainty"))
    labels = as_labels(groups, n=wrong.size, name="errors")
    return {
        name: _detection(wrong[own], doubts[own]) for name, own in _members(labels, known_groups)
    }


@dataclass(frozen=True)
class ErrorAssociation:
    """Correlation of uncertainty with the size of the error within a group.

    Attributes:
        n: number of cases.
        pearson: linear correlation, -1 to 1 (ideal); NaN below 3 cases or where either is constant.
        spearman: the same of the ranks, ties at their mean rank.
    """

    n: int
    pearson: float
    spearman: float


def error_association(
    error: ArrayLike,
    uncertainty: ArrayLike,
    groups: Iterable[object],
    *,
    known_groups: Collection[str] = (),
) -> dict[str, ErrorAssociation]:
    """Correlation of uncertainty with the size of the error, by group.

    Args:
        error: (N,), finite, the larger the worse: 1 - Dice, or an absolute error.
        uncertainty: (N,), finite.
        groups: N subgroup labels.
        known_groups: names that are reported with n = 0 and NaN where they have no case.
    Returns:
        Sorted by name.
    Raises:
        ValueError: if error or uncertainty is empty or not of that kind, they and the labels are
            not as many, or a label is None or NaN.
    """
    errors = as_finite(error, name="errors", ndim=1)
    doubts = as_finite(uncertainty, name="uncertainties", ndim=1)
    same_shape(errors, doubts, names=("error", "uncertainty"))
    labels = as_labels(groups, n=errors.size, name="errors")
    return {
        name: ErrorAssociation(
            int(own.sum()),
            _correlation(errors[own], doubts[own]),
            _correlation(rankdata(errors[own]), rankdata(doubts[own])),
        )
        for name, own in _members(labels, known_groups)
    }


def _selective_risk(risks: NDArray[np.float64], doubts: NDArray[np.float64]) -> NDArray[np.float64]:
    _, tie, sizes = np.unique(doubts, return_inverse=True, return_counts=True)
    means = np.bincount(tie, weights=risks) / sizes
    return np.cumsum(np.repeat(means, sizes)) / np.arange(1, risks.size + 1)


def _members(
    labels: NDArray[np.str_], known_groups: Collection[str]
) -> list[tuple[str, NDArray[np.bool_]]]:
    names = sorted({*labels.tolist(), *map(str, known_groups)})
    return [(name, labels == name) for name in names]


def _detection(wrong: NDArray[np.bool_], doubts: NDArray[np.float64]) -> ErrorDetection:
    n, errors = wrong.size, int(wrong.sum())
    if errors in (0, n):
        return ErrorDetection(n, errors, float("nan"), float("nan"))
    return ErrorDetection(n, errors, auroc(doubts, wrong), average_precision(doubts, wrong))


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if a.size < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
