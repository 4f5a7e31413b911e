"""Predictions of a model, reduced to small numbers a case: what every input becomes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fair_strategy.metrics.calibration import CalibrationCounts
from fair_strategy.metrics.voxelwise import QuBrats
from fair_strategy.workflows.audit.measures import Floats, Measured


@dataclass(frozen=True)
class Flag:
    """Something about the input that a reader must know; nothing is dropped without one.

    Attributes:
        case_id: "" where it concerns the whole input.
        target: region or quantity; "" where it concerns them all.
        what: a sentence without any sensitive attribute.
    """

    case_id: str
    target: str
    what: str


@dataclass(frozen=True, eq=False)
class Target:
    """A region, a predicted quantity, or the classes: what a model predicts for every case.

    Attributes:
        name: "" where there is one only and it needs no name.
        measured: all measures, the primary one first.
        risk: (N,), the lower the better, e.g. 1 - Dice.
        risk_name: in words.
        uncertainty: (N,), of the case, on any scale, NaN where there is none; None: not given.
        counts: N calibration counts; None: cannot be told.
        claims: what the bins of `counts` hold: "confidence" or "variance".
        volumes: N results of `qu_brats`; None unless there were uncertainty maps.
    """

    name: str
    measured: tuple[Measured, ...]
    risk: Floats
    risk_name: str
    uncertainty: Floats | None = None
    counts: tuple[CalibrationCounts, ...] | None = None
    claims: str = "confidence"
    volumes: tuple[QuBrats, ...] | None = None

    @property
    def primary(self) -> Measured:
        """Dice, accuracy or RMSE."""
        return self.measured[0]

    def named(self, name: str) -> Measured | None:
        """The measure of that name, if it was measured."""
        return next((each for each in self.measured if each.measure.name == name), None)


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that an audit needs of a model's predictions, in the order of the case ids.

    Attributes:
        task: "segmentation", "classification" or "regression".
        case_ids: N, sorted, unique.
        subject_ids: N, the person of each case.
        targets: one or more.
        flags: what a reader must know about the input.
    """

    task: str
    case_ids: tuple[str, ...]
    subject_ids: tuple[str, ...]
    targets: tuple[Target, ...]
    flags: tuple[Flag, ...] = ()

    @property
    def n(self) -> int:
        """Number of cases."""
        return len(self.case_ids)

    @property
    def subjects(self) -> NDArray[np.intp]:
        """(N,), number of the person of each case."""
        return np.unique(self.subject_ids, return_inverse=True)[1]


def missing_flags(target: Target, case_ids: Sequence[str]) -> list[Flag]:
    """A flag for every case that lacks a value of a measure, once a case and reason."""
    flags = []
    for measured in target.measured:
        name = measured.measure.name
        if name == "aurc":  # told once, with the uncertainty
            continue
        lacking = np.flatnonzero(~measured.there)
        flags += [
            Flag(case_ids[i], target.name, f"no value of {name}; left out of it") for i in lacking
        ]
    return flags
