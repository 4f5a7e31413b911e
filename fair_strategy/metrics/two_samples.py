"""The difference between the means of two independent samples."""

import numpy as np
from numpy.typing import ArrayLike

from fair_strategy.metrics.intervals import t_interval


def welch_interval(
    better: ArrayLike, worse: ArrayLike, *, level: float = 0.95
) -> tuple[float, float]:
    """Interval of mean(better) - mean(worse) of two independent samples of unequal variance.

    Args:
        better: (N,), finite.
        worse: (M,), finite.
        level: of the interval.
    Returns:
        (low, high); (NaN, NaN) where N or M is below 2; the difference itself twice where no
        sample varies.
    Raises:
        ValueError: unless 0 < level < 1.
    References:
        Welch 1947, doi:10.1093/biomet/34.1-2.28.
    """
    samples = [np.asarray(own, dtype=np.float64) for own in (better, worse)]
    if min(own.size for own in samples) < 2:
        return float("nan"), float("nan")
    squares = [float(own.var(ddof=1)) / own.size for own in samples]
    total = sum(squares)
    spread = sum(s**2 / (own.size - 1) for s, own in zip(squares, samples, strict=True))
    freedom = total**2 / spread if spread else 1.0
    centre = float(samples[0].mean() - samples[1].mean())
    return t_interval(centre, float(np.sqrt(total)), freedom + 1, level)
