"""Scores of a segmented region, a number a case, as measures of an audit."""

from collections.abc import Mapping, Sequence

import numpy as np

from fair_strategy.metrics.calibration import CalibrationCounts
from fair_strategy.metrics.fairness import mean
from fair_strategy.metrics.voxelwise import QuBrats
from fair_strategy.workflows.audit.evidence import Target
from fair_strategy.workflows.audit.measures import (
    HIGHER,
    LOWER,
    NEITHER,
    ZERO,
    Floats,
    Measure,
    Measured,
    calibration,
    claimed_minus_observed,
    selective,
)

VOLUME = "reference_volume_mm3"
SCORES: Mapping[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("dice", "Dice", HIGHER, mean, tested=True, bounded=True,
                about="overlap with the reference, 1 is perfect; lower for small structures at the "
                "same error of the contour"),
        Measure("surface_distance_mm", "Surface distance", LOWER, mean, "mm", tested=True,
                about="mean distance between the contours; needs both"),
        Measure("volume_error", "Relative volume error", ZERO, mean, tested=True,
                about="(predicted - reference) / reference volume; below 0: drawn too small"),
        Measure(VOLUME, "Reference volume", NEITHER, mean, "mm³",
                about="size of the structure itself"),
        Measure("overconfidence", "Confidence minus accuracy", ZERO, mean, tested=True,
                about="over voxels near either contour; above 0: claims more than comes true"),
        Measure("qu_brats", "QU-BraTS score", HIGHER, mean, tested=True, bounded=True,
                about="uncertain at errors and nowhere else; 1 is perfect"),
        Measure("area_dice", "QU-BraTS: area of Dice", HIGHER, mean, bounded=True,
                about="Dice as uncertain voxels are dropped"),
        Measure("area_ftp", "QU-BraTS: true positives dropped", LOWER, mean, bounded=True,
                about="right foreground of which the model was unsure"),
        Measure("area_ftn", "QU-BraTS: true negatives dropped", LOWER, mean, bounded=True,
                about="right background of which the model was unsure"),
    )
}  # fmt: skip
"""Every score of a case that a table can hold; the command computes the same ones from maps."""
QU_BRATS = {
    "qu_brats": "score",
    "area_dice": "area_dice",
    "area_ftp": "area_ftp",
    "area_ftn": "area_ftn",
}


def scored_target(
    name: str,
    scores: Mapping[str, Floats],
    uncertainty: Floats | None,
    *,
    counts: Sequence[CalibrationCounts] | None = None,
    volumes: Sequence[QuBrats] | None = None,
) -> Target:
    """A region from its scores a case.

    Args:
        name: of the region.
        scores: name of `SCORES` -> (N,), with `dice`.
        uncertainty: (N,), of the cases.
        counts: of the voxels of each case near either contour.
        volumes: results of `qu_brats`.
    """
    known = dict(scores)
    measured = [Measured(SCORES[each], known[each]) for each in SCORES if each in known]
    if counts is not None:
        measured.append(Measured(SCORES["overconfidence"], claimed_minus_observed(counts)))
        measured += calibration(counts, (0.0, 1.0), "voxels near either contour")
    if volumes is not None:
        measured += [
            Measured(SCORES[column], np.array([getattr(v, field) for v in volumes]))
            for column, field in QU_BRATS.items()
        ]
    risk = 1 - np.asarray(known["dice"])
    if uncertainty is not None:
        measured += selective(risk, uncertainty, "1 - Dice")
    return Target(
        name,
        tuple(measured),
        risk,
        "1 - Dice",
        uncertainty,
        None if counts is None else tuple(counts),
        volumes=None if volumes is None else tuple(volumes),
    )
