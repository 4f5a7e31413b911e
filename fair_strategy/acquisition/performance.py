"""How well each group is segmented today: mean, interval, and a mean shrunk for the weights."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fair_strategy.metrics.checks import labelled_scores
from fair_strategy.metrics.intervals import t_interval

# Both in units of Dice. The fallback is the case-to-case SD assumed before any group has two cases;
# it counts as one degree of freedom afterwards, so that two equal scores do not mean certainty.
FALLBACK_SD = 0.1
BETWEEN_GROUP_SCALE = 0.1
_TAU_GRID = BETWEEN_GROUP_SCALE * np.tan(np.pi / 2 * (np.arange(400) + 0.5) / 400)


@dataclass(frozen=True)
class GroupPerformance:
    """One group's performance.

    Attributes:
        subgroup: its name.
        n: number of cases.
        mean: of their scores, weighted if weights were given; NaN where n is 0.
        interval: (low, high) of the mean, Student's t; (NaN, NaN) where n is below 2.
        shrunk: the mean drawn towards the other groups' as far as n is small; for the weights. For
            an absent group the worst observed mean; NaN where nothing was observed.
    """

    subgroup: str
    n: int
    mean: float
    interval: tuple[float, float]
    shrunk: float


def group_performance(
    scores: ArrayLike,
    groups: Sequence[object],
    *,
    known_groups: Collection[str],
    weights: ArrayLike | None = None,
    level: float = 0.95,
) -> dict[str, GroupPerformance]:
    """Mean score of each group with n and interval, and its posterior mean among all groups.

    The shrunk mean is that of a normal hierarchical model: group means ~ N(mu, tau^2), mu flat, tau
    half-Cauchy (scale 0.1) integrated on a grid, one within-group SD pooled over the groups.
    Integrating tau, instead of estimating it, never pools the groups fully.

    Args:
        scores: (N,), higher is better (Dice), finite; N may be 0.
        groups: N subgroup labels.
        known_groups: names to report even where they have no case.
        weights: (N,), positive: inverse probabilities of selection, where cases were not drawn at
            random within their group; None for equal ones.
        level: of the interval.
    Returns:
        A performance a group, sorted by name.
    Raises:
        ValueError: if scores, groups or weights are not as many, or not finite.
    References:
        Gelman et al., Bayesian Data Analysis, 3rd ed., 5.4; Gelman 2006, doi:10.1214/06-BA117A;
        weighted mean of Hajek 1971. docs/method.md#performance-of-a-group.
    """
    values, labels = _checked(scores, groups)
    w = _checked_weights(weights, values.size)
    names = sorted({*map(str, labels), *map(str, known_groups)})
    samples = {name: (values[labels == name], w[labels == name]) for name in names}
    shrunk = _shrunk_means({name: s for name, s in samples.items() if s[0].size})
    worst = min((_weighted_mean(*s) for s in samples.values() if s[0].size), default=np.nan)
    return {
        name: _performance(name, *samples[name], shrunk.get(name, float(worst)), level)
        for name in names
    }


def _checked(
    scores: ArrayLike, groups: Sequence[object]
) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    if np.size(scores) == 0 and len(groups) == 0:
        return np.empty(0), np.empty(0, dtype=np.str_)
    return labelled_scores(scores, groups)


def _checked_weights(weights: ArrayLike | None, n: int) -> NDArray[np.float64]:
    if weights is None:
        return np.ones(n)
    w = np.asarray(weights, dtype=np.float64)
    if w.shape != (n,) or not np.isfinite(w).all() or (w <= 0).any():
        raise ValueError(f"weights must be {n} positive numbers, one a score, got {weights!r}")
    return w


def _performance(
    name: str, values: NDArray[np.float64], w: NDArray[np.float64], shrunk: float, level: float
) -> GroupPerformance:
    n = values.size
    mean = _weighted_mean(values, w) if n else float("nan")
    # Linearised standard error of the weighted mean; s / sqrt(n) for equal weights.
    squares = float(((w * (values - mean)) ** 2).sum())
    error = np.sqrt(squares * n / (n - 1)) / w.sum() if n > 1 else np.nan
    return GroupPerformance(name, n, mean, t_interval(mean, float(error), n, level), shrunk)


def _weighted_mean(values: NDArray[np.float64], w: NDArray[np.float64]) -> float:
    return float((w * values).sum() / w.sum())


def _shrunk_means(
    samples: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> dict[str, float]:
    if not samples:
        return {}
    means = np.array([_weighted_mean(values, w) for values, w in samples.values()])
    effective_n = np.array([w.sum() ** 2 / (w**2).sum() for _, w in samples.values()])
    variances = _pooled_variance([values for values, _ in samples.values()]) / effective_n
    return dict(zip(samples, _posterior_means(means, variances).tolist(), strict=True))


def _pooled_variance(samples: list[NDArray[np.float64]]) -> float:
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in samples)
    freedom = sum(values.size - 1 for values in samples)
    return (squares + FALLBACK_SD**2) / (freedom + 1)


def _posterior_means(
    means: NDArray[np.float64], variances: NDArray[np.float64]
) -> NDArray[np.float64]:
    """E[theta_g | means] over the grid of tau; its points have equal prior mass."""
    total = variances[:, None] + _TAU_GRID**2  # (G, T)
    precision = (1 / total).sum(axis=0)
    mu = (means[:, None] / total).sum(axis=0) / precision
    deviation = (means[:, None] - mu) ** 2 / total
    log_posterior = -0.5 * (np.log(precision) + np.log(total).sum(axis=0) + deviation.sum(axis=0))
    mass = np.exp(log_posterior - log_posterior.max())
    pooling = variances[:, None] / total
    posterior = (pooling * mu + (1 - pooling) * means[:, None]) @ (mass / mass.sum())
    # A weighted mean of the means: outside their range by rounding only.
    return np.clip(posterior, means.min(), means.max())
