"""Curves of a metric by group as the uncertain part of the predictions is dropped.

EM is a group's value of the evaluation metric, FG the gap between groups. Three ways to drop:
cases above a threshold tau on their uncertainty (`filtered_metric_curve`), all but the most certain
share of the cases (`coverage_metric_curve`), and voxels above tau within each case
(`filtered_volume_curve`, from the curves of `qu_brats`). Wanted as more is dropped: FG falls, and
EM does not get worse. Read the retained numbers beside it: a gap also closes where one group's
cases have all been dropped.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fair_strategy.metrics.checks import as_finite, as_labels
from fair_strategy.metrics.fairness import mean
from fair_strategy.metrics.voxelwise import THRESHOLDS, QuBrats, as_levels, as_percent

Metric = Callable[[NDArray[np.float64]], float]
COVERAGES = tuple(percent / 100 for percent in range(5, 101, 5))
MINIMUM = 2
WITHIN = ("all", "group")


@dataclass(frozen=True, eq=False)
class MetricCurve:
    """EM of each group and FG, at each of K levels.

    Attributes:
        levels: (K,), rising: thresholds tau, or shares of the cases.
        by_group: name -> (K,), EM; NaN where too few cases are retained, or where the metric is
            undefined.
        overall: (K,), the same of all cases together.
        gap: (K,), FG: largest minus smallest EM of the groups that are large enough with all their
            cases; NaN where one of these is NaN, and everywhere unless there are two such groups.
        retained: name -> (K,), number of cases (or voxels) retained.
        retained_overall: (K,).
        n: name -> number of cases (or voxels) before any was dropped; 0 for a group without cases.
    """

    levels: NDArray[np.float64]
    by_group: dict[str, NDArray[np.float64]]
    overall: NDArray[np.float64]
    gap: NDArray[np.float64]
    retained: dict[str, NDArray[np.int64]]
    retained_overall: NDArray[np.int64]
    n: dict[str, int]

    def coverage(self, group: str | None = None) -> NDArray[np.float64]:
        """Share of a group's cases (or voxels) that is retained at each level; None: of all.

        Returns:
            (K,), 0 to 1; NaN for a group without cases.
        """
        if group is None:
            return self.retained_overall / sum(self.n.values())
        return self.retained[group] / (self.n[group] or np.nan)


def filtered_metric_curve(
    rows: ArrayLike,
    uncertainty: ArrayLike,
    groups: Iterable[object],
    *,
    metric: Metric = mean,
    thresholds: Sequence[float] | NDArray[np.floating] = THRESHOLDS,
    minimum: int = MINIMUM,
    known_groups: Collection[str] = (),
) -> MetricCurve:
    """EM_tau and FG_tau: metric and gap of the cases whose uncertainty is at most tau.

    Args:
        rows: (N,) or (N, M): what the metric needs of each case, a row a case. Scores for the mean,
            1 and 0 for accuracy, squared errors for an RMSE; reference class and prediction for a
            balanced accuracy or an AUC.
        uncertainty: (N,), in [0, 100], rescaled over the whole data set.
        groups: N subgroup labels.
        metric: from the rows that are retained (in the order given) to one number. `root_mean` of
            squared errors is the RMSE: a root of a mean, not a mean of case errors. Is only called
            with `minimum` rows or more, and may give NaN (an AUC where one class is left).
        thresholds: different numbers in [0, 100], in any order.
        minimum: fewer retained cases of a group (or in all) give NaN.
        known_groups: names that are reported with n = 0 and NaN where they have no case.
    Returns:
        The curves; at tau = 100 EM is the metric of all cases of the group, FG the plain gap.
    Raises:
        ValueError: if rows or uncertainty are empty or not of that kind, they and the labels are
            not as many, a label is None or NaN, or minimum is below 1.
    References:
        Mehta, Shui and Arbel 2023, arXiv:2303.03242; their plots have 100 - tau on the x axis.
    """
    doubts = as_percent(uncertainty, ndim=1)
    levels = as_levels(thresholds, (0.0, 100.0), name="thresholds")
    cases = _cases(rows, doubts, groups, minimum, known_groups)
    return _curve(cases, metric, levels, doubts[:, None] <= levels)


def coverage_metric_curve(
    rows: ArrayLike,
    uncertainty: ArrayLike,
    groups: Iterable[object],
    *,
    metric: Metric = mean,
    coverages: Sequence[float] | NDArray[np.floating] = COVERAGES,
    within: str = "all",
    minimum: int = MINIMUM,
    known_groups: Collection[str] = (),
) -> MetricCurve:
    """Metric and gap of the most certain share of the cases.

    At each coverage c the threshold is the smallest uncertainty that retains c of the cases or
    more: cases of equal uncertainty stay or go together, so that more may be retained than asked
    for. `coverage()` of the result says what was.

    Args:
        rows: (N,) or (N, M), as in `filtered_metric_curve`.
        uncertainty: (N,), finite, on any scale; only its order counts.
        groups: N subgroup labels.
        metric: from the rows that are retained to one number.
        coverages: different numbers above 0, to 1, in any order.
        within: "all": one threshold for all cases, so that a group of which the model is less sure
            loses more of its cases; "group": each group keeps that share of its own cases.
        minimum: fewer retained cases of a group (or in all) give NaN.
        known_groups: names that are reported with n = 0 and NaN where they have no case.
    Returns:
        The curves, levels being the coverages; `overall` is of all that is retained.
    Raises:
        ValueError: as `filtered_metric_curve`, or for another `within`.
    """
    if within not in WITHIN:
        raise ValueError(f"within must be one of {', '.join(WITHIN)}, got {within!r}")
    doubts = as_finite(uncertainty, name="uncertainties", ndim=1)
    levels = as_levels(coverages, (0.0, 1.0), name="coverages")
    if levels[0] == 0:
        raise ValueError("coverages must be above 0: of no case there is no metric")
    cases = _cases(rows, doubts, groups, minimum, known_groups)
    kept = np.zeros((doubts.size, levels.size), bool)
    pools = [np.ones(doubts.size, bool)] if within == "all" else list(cases.members().values())
    for own in pools:
        kept[own] = doubts[own, None] <= _thresholds_of(doubts[own], levels)
    return _curve(cases, metric, levels, kept)


def filtered_volume_curve(
    volumes: Sequence[QuBrats],
    groups: Iterable[object],
    *,
    metric: Metric = mean,
    minimum: int = MINIMUM,
    known_groups: Collection[str] = (),
) -> MetricCurve:
    """EM_tau and FG_tau of a segmentation: Dice of each case's voxels at most tau uncertain.

    Every case stays; voxels are dropped within it.

    Args:
        volumes: N results of `qu_brats`, a case each, with the same thresholds.
        groups: N subgroup labels.
        metric: from the Dice of a group's cases to one number.
        minimum: groups of fewer cases give NaN.
        known_groups: names that are reported with n = 0 and NaN where they have no case.
    Returns:
        The curves; `retained` and `n` count voxels (of the mask that `qu_brats` was given).
    Raises:
        ValueError: if there is no volume, thresholds differ, volumes and labels are not as many, a
            label is None or NaN, or minimum is below 1.
    References:
        Mehta, Shui and Arbel 2023, arXiv:2303.03242.
    """
    if not volumes:
        raise ValueError("volumes are empty; give one result of qu_brats a case")
    levels = volumes[0].thresholds
    if any(not np.array_equal(volume.thresholds, levels) for volume in volumes):
        raise ValueError("all volumes must have the same thresholds; give qu_brats the same")
    dice = np.stack([volume.dice for volume in volumes])
    retained = np.stack([volume.retained for volume in volumes])
    sizes = np.array([volume.voxels for volume in volumes])
    cases = _cases(dice, sizes, groups, minimum, known_groups)
    members = cases.members()
    by_group = {name: _volume_metric(dice[own], metric, minimum) for name, own in members.items()}
    return MetricCurve(
        levels,
        by_group,
        _volume_metric(dice, metric, minimum),
        _gap(by_group, [name for name, own in members.items() if own.sum() >= minimum]),
        {name: retained[own].sum(axis=0) for name, own in members.items()},
        retained.sum(axis=0),
        {name: int(sizes[own].sum()) for name, own in members.items()},
    )


@dataclass(frozen=True, eq=False)
class _Cases:
    rows: NDArray[np.float64]
    labels: NDArray[np.str_]
    names: list[str]
    minimum: int

    def members(self) -> dict[str, NDArray[np.bool_]]:
        return {name: self.labels == name for name in self.names}


def _cases(
    rows: ArrayLike,
    each: NDArray[np.float64] | NDArray[np.int64],
    groups: Iterable[object],
    minimum: int,
    known_groups: Collection[str],
) -> _Cases:
    values = as_finite(rows, name="rows")
    if values.ndim not in (1, 2) or len(values) != each.size:
        raise ValueError(
            f"rows must be one a case, (N,) or (N, M), got shape {values.shape} "
            f"for {each.size} cases"
        )
    if isinstance(minimum, bool) or not isinstance(minimum, int | np.integer) or minimum < 1:
        raise ValueError(f"minimum must be a whole number from 1 upwards, got {minimum!r}")
    labels = as_labels(groups, n=each.size, name="rows")
    names = sorted({*labels.tolist(), *map(str, known_groups)})
    return _Cases(values, labels, names, int(minimum))


def _curve(
    cases: _Cases, metric: Metric, levels: NDArray[np.float64], kept: NDArray[np.bool_]
) -> MetricCurve:
    members = cases.members()
    retained = {name: np.count_nonzero(kept[own], axis=0) for name, own in members.items()}
    by_group = {
        name: _metric(cases.rows[own], kept[own], metric, cases.minimum)
        for name, own in members.items()
    }
    return MetricCurve(
        levels,
        by_group,
        _metric(cases.rows, kept, metric, cases.minimum),
        _gap(by_group, [name for name, own in members.items() if own.sum() >= cases.minimum]),
        retained,
        np.count_nonzero(kept, axis=0),
        {name: int(own.sum()) for name, own in members.items()},
    )


def _metric(
    rows: NDArray[np.float64], kept: NDArray[np.bool_], metric: Metric, minimum: int
) -> NDArray[np.float64]:
    """The metric of the kept rows at each level; the sets are nested, so each once a size."""
    values = np.full(kept.shape[1], np.nan)
    known: dict[int, float] = {}
    for level, size in enumerate(np.count_nonzero(kept, axis=0).tolist()):
        if size >= minimum:
            if size not in known:
                known[size] = float(metric(rows[kept[:, level]]))
            values[level] = known[size]
    return values


def _volume_metric(dice: NDArray[np.float64], metric: Metric, minimum: int) -> NDArray[np.float64]:
    if len(dice) < minimum:
        return np.full(dice.shape[1], np.nan)
    return np.array([float(metric(scores)) for scores in dice.T])


def _gap(by_group: dict[str, NDArray[np.float64]], large: list[str]) -> NDArray[np.float64]:
    if len(large) < 2:
        return np.full(len(next(iter(by_group.values()))), np.nan)
    values = np.stack([by_group[name] for name in large])
    return values.max(axis=0) - values.min(axis=0)  # NaN where one is


def _thresholds_of(
    doubts: NDArray[np.float64], coverages: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Smallest uncertainty at which each share is retained; of no case, infinity."""
    if doubts.size == 0:
        return np.full(coverages.size, np.inf)
    wanted = np.ceil(np.round(coverages * doubts.size, 9)).astype(int)  # 0.07 * 100 is above 7
    return np.sort(doubts)[wanted - 1]
