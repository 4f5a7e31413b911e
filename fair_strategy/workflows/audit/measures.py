"""What is measured: a name, a unit, which way is better, and a number from the rows of some cases.

Every measure is a function of rows, a row a case, so that groups, bootstrap, permutation null and
curves of what is retained need no second definition.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fair_strategy.metrics.calibration import CalibrationCounts
from fair_strategy.metrics.classification import balanced_accuracy, macro_auroc
from fair_strategy.metrics.fairness import mean, root_mean
from fair_strategy.metrics.uncertainty import risk_coverage

Floats = NDArray[np.float64]
Metric = Callable[[Floats], float]
HIGHER, LOWER, ZERO, NEITHER = "higher", "lower", "zero", "neither"


@dataclass(frozen=True)
class Measure:
    """What one number of the report is.

    Attributes:
        name: in the tables and in audit.json.
        title: in the report.
        better: "higher", "lower", "zero" (the nearer to 0 the better, the sign tells the
            direction), or "neither" (a description, no score).
        metric: from the rows of some cases to the number.
        unit: after the number; "" for none.
        tested: whether its gap belongs to the family of tests that findings come from.
        bounded: whether the score lies in [0, 1], so that ratio and equity-scaled score exist.
        about: one line for readers.
    """

    name: str
    title: str
    better: str
    metric: Metric
    unit: str = ""
    tested: bool = False
    bounded: bool = False
    about: str = ""

    @property
    def averaged(self) -> bool:
        """Whether the number is a mean, or a root of a mean, of one value a case."""
        return self.metric in (mean, root_mean)


@dataclass(frozen=True, eq=False)
class Measured:
    """A measure and the rows (N,) or (N, M) of all cases; NaN in a row: missing for that case."""

    measure: Measure
    rows: Floats

    @property
    def there(self) -> NDArray[np.bool_]:
        """(N,), whether the case has a row."""
        return ~np.isnan(self.rows if self.rows.ndim == 1 else self.rows.sum(axis=1))


def balanced_accuracy_of(rows: Floats) -> float:
    """Balanced accuracy of rows (reference class, p of each class)."""
    return balanced_accuracy(rows[:, 0], rows[:, 1:].argmax(axis=1))


def macro_auroc_of(rows: Floats) -> float:
    """Macro AUROC of rows (reference class, p of each class)."""
    return macro_auroc(rows[:, 0], rows[:, 1:])


def aurc_of(rows: Floats) -> float:
    """AURC of rows (risk, uncertainty)."""
    return risk_coverage(rows[:, 0], rows[:, 1]).aurc


def excess_aurc_of(rows: Floats) -> float:
    """E-AURC of rows (risk, uncertainty)."""
    return risk_coverage(rows[:, 0], rows[:, 1]).e_aurc


def count_rows(counts: Sequence[CalibrationCounts]) -> Floats:
    """(N, 3 B): counts, claimed and observed of each case."""
    return np.array([np.concatenate([c.counts, c.claimed, c.observed]) for c in counts])


def total_counts(rows: ArrayLike, limits: tuple[float, float]) -> CalibrationCounts:
    """Counts of the cases together, from `count_rows`."""
    counts, claimed, observed = np.asarray(rows, np.float64).sum(axis=0).reshape(3, -1)
    return CalibrationCounts(limits, np.rint(counts).astype(np.int64), claimed, observed)


def claimed_minus_observed(counts: Sequence[CalibrationCounts]) -> Floats:
    """(N,), mean confidence minus share of right ones of each case; NaN where it has none."""
    n = np.array([c.n or np.nan for c in counts])
    return np.array([c.claimed.sum() - c.observed.sum() for c in counts]) / n


def calibration(
    counts: Sequence[CalibrationCounts], limits: tuple[float, float], of: str
) -> list[Measured]:
    """ECE and average calibration error, bin by bin over all predictions of the cases given."""
    rows = count_rows(counts)
    about = f"distance of what came true from what was claimed, over {of}; grows where n is small"
    return [
        Measured(
            Measure("ece", "Expected calibration error", LOWER,
                    lambda some: total_counts(some, limits).expected_error(), about=about),
            rows,
        ),
        Measured(
            Measure("average_calibration_error", "Average calibration error", LOWER,
                    lambda some: total_counts(some, limits).average_error(),
                    about=f"{about}; each bin counts the same"),
            rows,
        ),
    ]  # fmt: skip


def selective(risk: Floats, uncertainty: Floats, of: str) -> list[Measured]:
    """AURC and E-AURC: does the model know which of a group's cases it gets wrong?"""
    rows = np.stack([risk, uncertainty], axis=1)
    return [
        Measured(
            Measure("aurc", "Area under risk-coverage", LOWER, aurc_of,
                    about=f"mean {of} as cases are set aside, the least certain first"),
            rows,
        ),
        Measured(
            Measure("e_aurc", "Excess area under risk-coverage", LOWER, excess_aurc_of, tested=True,
                    about="the same above that of the perfect order; 0: the most uncertain cases "
                    "are the worst ones"),
            rows,
        ),
    ]  # fmt: skip
