"""Fairness of a score over subgroups: a score and a subgroup label a case.

A measure is a function of the groups' means (or of another aggregate: RMSE is a root of means, not
a mean of case scores). Groups are known by name and come in sorted order. Missing scores are the
caller's to drop: NaN is an error here.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fair_strategy.metrics.checks import labelled_scores
from fair_strategy.metrics.intervals import t_interval

Aggregate = Callable[[NDArray[np.float64]], float]
EQUITY_VARIANTS = ("fairseg", "std")


def mean(scores: NDArray[np.float64]) -> float:
    """Arithmetic mean, the default aggregate."""
    return float(scores.mean())


def root_mean(scores: NDArray[np.float64]) -> float:
    """Square root of the mean; of squared errors, the RMSE."""
    return float(np.sqrt(scores.mean()))


@dataclass(frozen=True)
class GroupSummary:
    """One group's aggregate score, its number of cases, and an interval.

    Attributes:
        mean: the aggregate over the group's cases, by default their mean; NaN where n is 0.
        n: number of cases.
        interval: (low, high) at the level asked for; (NaN, NaN) where n is below 2.
    """

    mean: float
    n: int
    interval: tuple[float, float]


def by_group(
    scores: ArrayLike,
    groups: Sequence[object],
    *,
    higher_is_better: bool = True,
    aggregate: Aggregate = mean,
    known_groups: Collection[str] = (),
    level: float = 0.95,
) -> dict[str, GroupSummary]:
    """Aggregate score, number of cases and interval of each group, by name.

    Args:
        scores: (N,), one a case, finite.
        groups: N subgroup labels.
        higher_is_better: the same for either value; all measures of this module share it.
        aggregate: from the scores of a group to one number.
        known_groups: names that are reported with n = 0 and NaN where they have no case.
        level: of the interval: Student's t with the standard error of the mean, or with the
            jackknife's standard error for another aggregate (the two agree for the mean).
    Returns:
        A summary a group, sorted by name.
    Raises:
        ValueError: if scores are empty, NaN or infinite, or are not as many as the labels.
    """
    values, labels = labelled_scores(scores, groups)
    summaries = {}
    for name in sorted({*labels, *map(str, known_groups)}):
        own = values[labels == name]
        summaries[name] = _summary(own, aggregate, level)
    return summaries


def gap(
    scores: ArrayLike,
    groups: Sequence[object],
    *,
    higher_is_better: bool = True,
    aggregate: Aggregate = mean,
) -> float:
    """Best group's mean minus worst group's mean, without its sign: |best - worst|.

    Args:
        scores: (N,), one a case, finite.
        groups: N subgroup labels.
        higher_is_better: the same for either value.
        aggregate: from the scores of a group to one number.
    Returns:
        0 (ideal, and where there is one group) upwards, in the unit of the scores.
    Raises:
        ValueError: as `by_group`.
    References:
        For two groups the fairness gap of Mehta et al. 2023, arXiv:2303.03242.
    """
    return float(gap_of_means(list(_group_means(scores, groups, aggregate).values())))


def gap_of_means(means: ArrayLike) -> NDArray[np.float64]:
    """Best group's mean minus worst group's mean, of many sets of group means at once.

    Args:
        means: (..., G), a mean a group on the last axis, e.g. of resampled cases.
    Returns:
        (...): the `gap` of each; NaN where a mean is.
    """
    values = np.asarray(means, dtype=np.float64)
    return values.max(axis=-1) - values.min(axis=-1)


def worst_group(
    scores: ArrayLike,
    groups: Sequence[object],
    *,
    higher_is_better: bool = True,
    aggregate: Aggregate = mean,
) -> str:
    """Name of the group with the lowest mean, or with the highest if higher is not better.

    Args:
        scores: (N,), one a case, finite.
        groups: N subgroup labels.
        higher_is_better: False for errors and distances.
        aggregate: from the scores of a group to one number.
    Returns:
        The name; of equal groups the first in sorted order.
    Raises:
        ValueError: as `by_group`.
    """
    means = _group_means(scores, groups, aggregate)
    sign = 1.0 if higher_is_better else -1.0
    return min(means, key=lambda name: sign * means[name])


def standard_deviation(
    scores: ArrayLike,
    groups: Sequence[object],
    *,
    higher_is_better: bool = True,
    aggregate: Aggregate = mean,
    ddof: int = 0,
) -> float:
    """Standard deviation of the groups' means, each group counted once.

    Args:
        scores: (N,), one a case, finite.
        groups: N subgroup labels.
        higher_is_better: the same for either value.
        aggregate: from the scores of a group to one number.
        ddof: the divisor is the number of groups minus this.
    Returns:
        0 (ideal) upwards, in the unit of the scores.
    Raises:
        ValueError: as `by_group`, or if there are not more groups than ddof.
    """
    means = _group_means(scores, groups, aggregate)
    if len(means) <= ddof:
        raise ValueError(f"ddof {ddof} needs more than {ddof} groups, got {sorted(means)}")
    return float(np.std(list(means.values()), ddof=ddof))


def skewed_error_ratio(
    scores: ArrayLike,
    groups: Sequence[object],
    *,
    higher_is_better: bool = True,
    aggregate: Aggregate = mean,
) -> float:
    """Worst group's error over best group's error, (1 - min_g D_g) / (1 - max_g D_g).

    Args:
        scores: (N,), one a case, in [0, 1].
        groups: N subgroup labels.
        higher_is_better: False if the scores are errors themselves: max_g / min_g.
        aggregate: from the scores of a group to one number.
    Returns:
        1 (ideal, and where no group has any error) to infinity (the best group alone has none).
    Raises:
        ValueError: as `by_group`, or if a score lies outside [0, 1].
    References:
        Wang and Deng 2020, arXiv:1911.10692.
    """
    means = _group_means(_unit_scores(scores), groups, aggregate).values()
    low, high = min(means), max(means)
    worst, best = (1.0 - low, 1.0 - high) if higher_is_better else (high, low)
    if worst == best:
        return 1.0
    return float("inf") if best == 0 else worst / best


def equity_scaled(
    scores: ArrayLike,
    groups: Sequence[object],
    *,
    higher_is_better: bool = True,
    aggregate: Aggregate = mean,
    variant: str = "fairseg",
) -> float:
    """Overall score D divided by 1 + disparity: D / (1 + sum_g |D_g - D|), or the std variant.

    Args:
        scores: (N,), one a case, in [0, 1].
        groups: N subgroup labels.
        higher_is_better: False if the scores are errors E; then 1 - (1 - E) / (1 + disparity), the
            same measure of the scores 1 - E turned back into an error.
        aggregate: from scores to one number, for the groups and for D over all cases.
        variant: "fairseg": disparity sum_g |D_g - D|; "std": standard deviation of the groups'
            means, ddof 0.
    Returns:
        0 to D (ideal: no disparity); an error comes back as E (ideal) to 1.
    Raises:
        ValueError: as `by_group`, if a score lies outside [0, 1], or for another variant.
    References:
        "fairseg": Tian et al. 2024, arXiv:2311.02189. "std": Jin et al. 2024, arXiv:2407.00983.
    """
    unit = _unit_scores(scores)
    means = np.array(list(_group_means(unit, groups, aggregate).values()))
    overall = float(aggregate(unit))
    if not higher_is_better:  # |D_g - D| and the standard deviation are the same for 1 - D
        return float(1.0 - equity_of_means(1.0 - means, 1.0 - overall, variant=variant))
    return float(equity_of_means(means, overall, variant=variant))


def equity_of_means(
    means: ArrayLike, overall: ArrayLike, *, variant: str = "fairseg"
) -> NDArray[np.float64]:
    """Overall score divided by 1 + disparity, of many sets of group means at once.

    Args:
        means: (..., G), a mean a group on the last axis, in [0, 1], higher is better.
        overall: (...), the score over all cases of each set.
        variant: as in `equity_scaled`.
    Returns:
        (...): the `equity_scaled` of each; NaN where a mean is.
    Raises:
        ValueError: for another variant.
    """
    if variant not in EQUITY_VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(EQUITY_VARIANTS)}, got {variant!r}")
    values, whole = np.asarray(means, np.float64), np.asarray(overall, np.float64)
    distances = np.abs(values - whole[..., None]).sum(axis=-1)
    return whole / (1.0 + (distances if variant == "fairseg" else values.std(axis=-1)))


def gap_null(
    scores: ArrayLike,
    groups: Sequence[object],
    *,
    rng: np.random.Generator,
    draws: int = 1000,
    aggregate: Aggregate = mean,
) -> NDArray[np.float64]:
    """Gaps after the labels were shuffled among the cases: what chance alone gives.

    With many small groups a large gap is the rule: 8 groups of 5 without any disparity, scores of
    SD 0.06, have a gap of about 0.08.

    Args:
        scores: (N,), one a case, finite.
        groups: N subgroup labels.
        rng: the only source of randomness.
        draws: number of shuffles, 1 or more.
        aggregate: from the scores of a group to one number.
    Returns:
        (draws,), each 0 or more. (1 + number at or above the observed gap) / (1 + draws) is the
        p value of exchangeable labels.
    Raises:
        ValueError: as `by_group`, or for draws below 1.
    """
    if draws < 1:
        raise ValueError(f"draws must be 1 or more, got {draws}")
    values, labels = labelled_scores(scores, groups)
    members = [np.flatnonzero(labels == name) for name in np.unique(labels)]
    null = np.empty(draws)
    for draw in range(draws):
        shuffled = rng.permutation(values)
        means = [float(aggregate(shuffled[own])) for own in members]
        null[draw] = max(means) - min(means)
    return null


def _group_means(
    scores: ArrayLike, groups: Sequence[object], aggregate: Aggregate
) -> dict[str, float]:
    values, labels = labelled_scores(scores, groups)
    return {str(name): float(aggregate(values[labels == name])) for name in np.unique(labels)}


def _unit_scores(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    outside = values[(values < 0) | (values > 1)]
    if outside.size:
        raise ValueError(
            f"this measure needs scores in [0, 1], got {outside.size} outside, first {outside[0]}"
        )
    return values


def _summary(own: NDArray[np.float64], aggregate: Aggregate, level: float) -> GroupSummary:
    n = own.size
    centre = float(aggregate(own)) if n else float("nan")
    error = _standard_error(own, aggregate) if n > 1 else float("nan")
    return GroupSummary(centre, n, t_interval(centre, error, n, level))


def _standard_error(own: NDArray[np.float64], aggregate: Aggregate) -> float:
    n = own.size
    if aggregate in (mean, np.mean):  # the jackknife's closed form
        return float(own.std(ddof=1) / np.sqrt(n))
    left_out = np.array([aggregate(np.delete(own, case)) for case in range(n)])
    return float(np.sqrt((n - 1) * left_out.var()))
