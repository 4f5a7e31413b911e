"""Predicted quantities, as measures of an audit."""

import numpy as np

from fair_strategy.metrics.calibration import variance_counts
from fair_strategy.metrics.fairness import mean, root_mean
from fair_strategy.workflows.audit.evidence import Target
from fair_strategy.workflows.audit.measures import (
    LOWER,
    NEITHER,
    ZERO,
    Floats,
    Measure,
    Measured,
    calibration,
    selective,
)
from fair_strategy.workflows.audit.settings import AuditSettings


def regressed(
    name: str,
    truth: Floats,
    error: Floats,
    uncertainty: Floats | None,
    variance: Floats | None,
    settings: AuditSettings,
) -> Target:
    """What a regression did: RMSE as a root of a mean, its bias, and whether it knows its errors.

    The calibration of a variance is told by z = squared error - variance, whose mean is 0 where
    the variances are right.
    """
    squared = error**2
    measured = _errors(truth, error, squared)
    counts, limits = None, (0.0, 1.0)
    if variance is not None:
        limits = _limits(variance)
        counts = tuple(
            variance_counts([s], [v], limits=limits, bins=settings.bins)
            for s, v in zip(squared, variance, strict=True)
        )
        measured += _knowledge(squared, variance, calibration(counts, limits, "all cases")[0])
    if uncertainty is not None:
        measured += selective(squared, uncertainty, "squared error")
    return Target(name, tuple(measured), squared, "squared error", uncertainty, counts, "variance")


def _errors(truth: Floats, error: Floats, squared: Floats) -> list[Measured]:
    return [
        Measured(
            Measure("rmse", "Root mean squared error", LOWER, root_mean, tested=True,
                    about="root of the mean of the squared errors, not a mean of errors"),
            squared,
        ),
        Measured(
            Measure("mae", "Mean absolute error", LOWER, mean, about="mean size of the error"),
            np.abs(error),
        ),
        Measured(
            Measure("mean_error", "Mean error", ZERO, mean, tested=True,
                    about="above 0: predicted too high; below: too low"),
            error,
        ),
        Measured(
            Measure("reference", "Reference value", NEITHER, mean, about="what was to be told"),
            truth,
        ),
    ]  # fmt: skip


def _knowledge(squared: Floats, variance: Floats, uce: Measured) -> list[Measured]:
    """Whether the variances are of the size of the squared errors."""
    return [
        Measured(
            Measure("overconfidence", "Squared error minus variance", ZERO, mean, tested=True,
                    about="above 0: errors are larger than the model claims; below: smaller"),
            squared - variance,
        ),
        Measured(
            Measure("uce", "Uncertainty calibration error", LOWER, uce.measure.metric,
                    about="distance of squared error from variance, bin by bin"),
            uce.rows,
        ),
    ]  # fmt: skip


def _limits(variance: Floats) -> tuple[float, float]:
    """Lowest and highest, and never an empty range."""
    low, high = float(variance.min()), float(variance.max())
    return low, high if high > low else float(np.nextafter(low, np.inf))
