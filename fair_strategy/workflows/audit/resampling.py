"""Intervals and nulls of an audit: persons drawn anew within their subgroup, labels dealt anew."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fair_strategy.metrics.fairness import gap_of_means, root_mean
from fair_strategy.metrics.permutation import PermutationNull, permutation_null
from fair_strategy.workflows.audit.grouping import Grouping
from fair_strategy.workflows.audit.measures import Floats, Measured, Metric


@dataclass(frozen=True, eq=False)
class Resamples:
    """How often each case is drawn in each resample.

    Two models on the same cases get the same draws from the same seed, so that the difference of
    their replicates is that of paired cases.

    Attributes:
        counts: (B, N).
    """

    counts: Floats


def draw_resamples(
    labels: NDArray[np.str_], subjects: NDArray[np.intp], *, draws: int, seed: int
) -> Resamples:
    """Persons drawn with replacement within each subgroup, with all their cases."""
    counts = np.zeros((draws, labels.size))
    for number, name in enumerate(np.unique(labels)):
        own = np.flatnonzero(labels == name)
        persons, person = np.unique(subjects[own], return_inverse=True)
        rng = np.random.default_rng([seed, number])
        share = np.full(persons.size, 1 / persons.size)
        counts[:, own] = rng.multinomial(persons.size, share, size=draws)[:, person]
    return Resamples(counts)


def replicates(
    measured: Measured, members: NDArray[np.bool_], resamples: Resamples
) -> NDArray[np.float64]:
    """(B,), the measure of the members in each resample; NaN where it is undefined."""
    own = np.flatnonzero(members & measured.there)
    counts = resamples.counts[:, own]
    if own.size == 0:
        return np.full(len(counts), np.nan)
    if measured.measure.averaged:
        return weighted_means(measured.rows[own], counts, measured.measure.metric)
    rows = measured.rows[own]
    repeats = counts.astype(np.intp)
    return np.array([_of(measured.measure.metric, np.repeat(rows, r, axis=0)) for r in repeats])


def weighted_means(values: Floats, counts: Floats, metric: Metric) -> Floats:
    """Means, or roots of means, of values (N,) or (N, K) drawn `counts` (B, N) times."""
    drawn = counts.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # none drawn: NaN
        means = (counts @ values) / (drawn if values.ndim == 1 else drawn[:, None])
    return np.sqrt(means) if metric is root_mean else means


def interval(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Percentile interval of replicates; (NaN, NaN) where fewer than half are defined."""
    known = values[np.isfinite(values)]
    if known.size < max(2, values.size / 2):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def gap_null_of(
    measured: Measured,
    grouping: Grouping,
    subjects: NDArray[np.intp],
    *,
    rng: np.random.Generator,
    draws: int,
) -> PermutationNull:
    """Gap of the ranked subgroups when their labels are dealt anew among the persons."""
    chosen = np.flatnonzero(grouping.in_ranked & measured.there)
    persons, first, person = np.unique(subjects[chosen], return_index=True, return_inverse=True)
    rows, metric = measured.rows[chosen], measured.measure.metric
    several = persons.size < chosen.size
    compared = np.unique(grouping.labels[chosen])

    def gap(order: Floats, dealt: NDArray[np.str_]) -> float:
        labels = dealt[person] if several else dealt
        return float(gap_of_means([_of(metric, rows[labels == name]) for name in compared]))

    of_persons = grouping.labels[chosen][first]
    if not several:  # np.unique sorted the persons: put their rows in that order
        rows = rows[first]
    return permutation_null(
        np.arange(persons.size), of_persons, rng=rng, statistic=gap, draws=draws, exact_limit=0
    )


def _of(metric: Metric, rows: Floats) -> float:
    return float(metric(rows)) if len(rows) else float("nan")
