"""How good a model is on the test set, which no run ever labels."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fair_strategy.data.grids import spacing_mm
from fair_strategy.learning.checkpoint import Model
from fair_strategy.learning.inference import predict
from fair_strategy.metrics.overlap import dice
from fair_strategy.metrics.surface import average_surface_distance_mm
from fair_strategy.workflows.simulation.cohorts import KnownCase, KnownCohort


@dataclass(frozen=True)
class TestedCase:
    """One test scan: Dice, surface distance (NaN if either mask is empty), true volume."""

    case_id: str
    subgroup: str
    dice: float
    surface_distance_mm: float
    true_volume_mm3: float


def tested(model: Model, cohort: KnownCohort) -> list[TestedCase]:
    """Every test scan by the whole path of inference, in its own grid; by case_id."""
    return [_tested(model, case) for _, case in sorted(cohort.cases.items())]


def by_subgroup(cases: Iterable[TestedCase]) -> dict[str, dict[str, float]]:
    """Mean and SD (ddof 1) of Dice and mean surface distance of each subgroup, with n.

    The surface distance is the mean over the scans that have one.
    """
    groups: dict[str, list[TestedCase]] = {}
    for case in cases:
        groups.setdefault(case.subgroup, []).append(case)
    return {name: _summary(own) for name, own in sorted(groups.items())}


def _tested(model: Model, case: KnownCase) -> TestedCase:
    image, truth = case.read()
    prediction = predict(model, image)
    mask, true = prediction.whole_mask(), truth.array != 0
    return TestedCase(
        case_id=case.case_id,
        subgroup=case.subgroup,
        dice=dice(mask, true),
        surface_distance_mm=average_surface_distance_mm(mask, true, spacing_mm(image.affine)),
        true_volume_mm3=case.true_volume_mm3(),
    )


def _summary(cases: list[TestedCase]) -> dict[str, float]:
    scores = np.array([c.dice for c in cases])
    distances = np.array([c.surface_distance_mm for c in cases])
    known = distances[np.isfinite(distances)]
    return {
        "n_test": len(cases),
        "dice": float(scores.mean()),
        "dice_sd": float(scores.std(ddof=1)) if len(cases) > 1 else float("nan"),
        "surface_distance_mm": float(known.mean()) if known.size else float("nan"),
    }
