"""Intervals of an estimate from its standard error."""

from scipy.special import stdtrit


def t_interval(centre: float, standard_error: float, n: float, level: float) -> tuple[float, float]:
    """Student's t interval with n - 1 degrees of freedom; (NaN, NaN) where n is below 2.

    Raises:
        ValueError: unless 0 < level < 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level!r}")
    if n < 2:
        return float("nan"), float("nan")
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * standard_error
    return centre - half, centre + half
