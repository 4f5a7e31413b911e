"""Statistics of a simulation: paired tests, areas, correlations and resampling, on plain arrays."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import trapezoid
from scipy.special import ndtr, stdtrit
from scipy.stats import rankdata

DRAWS = 5000
EXACT_UP_TO = 16  # differences; beyond, 2^16 random sign patterns
_RELATIVE_TIE = 1e-9

Floats = NDArray[np.float64]


def sign_flip_p(differences: ArrayLike) -> float:
    """Two-sided p value of paired differences: the share of sign patterns with as large a mean.

    Exact over all 2^n patterns up to n = 16; beyond, a fixed random sample of 2^16 patterns with
    the observed one counted in. With n seeds no p lies below 2 / 2^n: .0078 for 8.

    Args:
        differences: (n,), one a seed; NaN is left out.
    Returns:
        In (0, 1]; NaN where no difference is left.
    References:
        Fisher 1935, The Design of Experiments, section 21.
    """
    given = np.asarray(differences, dtype=np.float64)
    given = given[~np.isnan(given)]
    if not given.size:
        return float("nan")
    signs = _sign_patterns(given.size)
    means = np.abs(signs @ given)
    observed = abs(given.sum())
    as_large = means >= observed - _RELATIVE_TIE * np.abs(given).sum()
    if given.size <= EXACT_UP_TO:
        return float(as_large.mean())
    return float((1 + as_large.sum()) / (1 + as_large.size))


def area_under_budget(n_labelled: ArrayLike, values: ArrayLike) -> float:
    """Area under a measure against the number of annotated scans, divided by the range of it.

    The trapezoids between the first model and the last one, over (last - first number of scans):
    the level that the measure had on average while scans were being annotated, in its own unit.

    Args:
        n_labelled: (R,), number of annotated scans a round, in any order.
        values: (R,), the measure in these rounds.
    Returns:
        NaN with fewer than two different budgets, or where a value is NaN.
    References:
        nnActive (Luth et al., TMLR 2025) calls it AUBC.
    """
    budget, measure = np.asarray(n_labelled, np.float64), np.asarray(values, np.float64)
    order = np.argsort(budget, kind="stable")
    budget, measure = budget[order], measure[order]
    if budget.size < 2 or budget[0] == budget[-1]:
        return float("nan")
    return float(trapezoid(measure, budget) / (budget[-1] - budget[0]))


def partial_spearman(x: ArrayLike, y: ArrayLike, *, given: ArrayLike) -> float:
    """Correlation of the ranks of x and y after the ranks of `given` were regressed out of both.

    Ranks are mid-ranks; the residuals are those of a straight line through the ranks of `given`.

    Args:
        x: (N,); cases in which any of the three is NaN are left out.
        y: (N,).
        given: (N,), what is held fixed.
    Returns:
        -1 to 1; NaN with fewer than 4 cases, or where nothing of x or y is left to vary.
    """
    table = np.array([x, y, given], dtype=np.float64)
    table = table[:, ~np.isnan(table).any(axis=0)]
    if table.shape[1] < 4:
        return float("nan")
    ranks = rankdata(table, axis=1)
    held = np.vstack([np.ones(ranks.shape[1]), ranks[2]]).T
    fitted = held @ np.linalg.lstsq(held, ranks[:2].T, rcond=None)[0]
    return _correlation(*(ranks[:2] - fitted.T))


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Correlation of the mid-ranks of x and y; NaN as `partial_spearman`, from 3 cases on."""
    table = np.array([x, y], dtype=np.float64)
    table = table[:, ~np.isnan(table).any(axis=0)]
    if table.shape[1] < 3:
        return float("nan")
    ranks = rankdata(table, axis=1)
    return _correlation(*(ranks - ranks.mean(axis=1, keepdims=True)))


def resampled_group_means(
    scores: Floats, members: Mapping[str, NDArray[np.intp]], *, rng: np.random.Generator, draws: int
) -> Floats:
    """Group means of test cases drawn with replacement within each group, the same for all runs.

    The runs of one setting share their test set, so a draw takes the same cases in every run: the
    luck of the test set then does not average out over the seeds.

    Args:
        scores: (runs, cases); NaN where a run has no score of a case.
        members: group -> the columns that are its cases.
        rng: the only source of randomness.
        draws: number of resamples.
    Returns:
        (draws, runs, groups), groups in the order of `members`; NaN where a run has none drawn.
    """
    means = np.empty((draws, len(scores), len(members)))
    for place, columns in enumerate(members.values()):
        times = rng.multinomial(columns.size, np.full(columns.size, 1 / columns.size), size=draws)
        own = scores[:, columns]
        known = ~np.isnan(own)
        total = times @ np.where(known, own, 0.0).T
        count = times @ known.T.astype(np.float64)
        means[:, :, place] = np.divide(
            total, count, out=np.full_like(total, np.nan), where=count > 0
        )
    return means


def resampled_seeds(values: Floats, *, rng: np.random.Generator) -> Floats:
    """Means over seeds drawn with replacement, one drawing for each resample of the test cases.

    Args:
        values: (arms, draws, seeds), a measure of each arm that is compared; the drawing of seeds
            is shared by the arms, so that differences and ratios stay paired.
        rng: the only source of randomness.
    Returns:
        (arms, draws).
    """
    _, draws, seeds = values.shape
    drawn = rng.integers(seeds, size=(draws, seeds))
    return np.take_along_axis(values, drawn[None], axis=2).mean(axis=2)


def expanded_percentiles(draws: Floats, *, seeds: int, level: float = 0.95) -> tuple[float, float]:
    """Bootstrap percentiles, moved outwards for the small number of seeds.

    The plain percentile interval of n values is too narrow twice: it takes the normal for Student's
    t, and a variance divided by n for one divided by n - 1. The expanded one takes the percentiles
    Phi(-+ t_{n-1} sqrt(n / (n - 1))) instead of 2.5 and 97.5 %.

    Args:
        draws: (B,), a statistic of each resample.
        seeds: n, the number of seeds that were resampled.
        level: of the interval.
    Returns:
        (low, high); (NaN, NaN) with one seed, or where more draws than one tail holds are NaN.
    References:
        Hesterberg 2015, The American Statistician 69(4), doi:10.1080/00031305.2015.1089789.
    """
    undefined = float(np.isnan(draws).mean()) if draws.size else 1.0
    if seeds < 2 or undefined > (1 - level) / 2:
        return float("nan"), float("nan")
    tail = float(ndtr(stdtrit(seeds - 1, (1 - level) / 2) * np.sqrt(seeds / (seeds - 1))))
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def _sign_patterns(n: int) -> NDArray[np.int8]:
    if n <= EXACT_UP_TO:
        bits = np.arange(2**n)[:, None] >> np.arange(n)
        return (1 - 2 * (bits & 1)).astype(np.int8)
    rng = np.random.default_rng(n)
    return rng.choice(np.array([-1, 1], np.int8), size=(2**EXACT_UP_TO, n))


def _correlation(x: Floats, y: Floats) -> float:
    """Of centred values; NaN where either does not vary beyond rounding."""
    scale = np.sqrt((x @ x) * (y @ y))
    if scale <= 1e-9 * x.size**3:
        return float("nan")
    return float(np.clip((x @ y) / scale, -1.0, 1.0))
