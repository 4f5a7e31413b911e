"""What one prediction says of its case: entropies, volume, plausibility, peaks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fair_strategy.acquisition.entropy import case_entropy
from fair_strategy.acquisition.peaks import Peak, uncertainty_peaks
from fair_strategy.acquisition.plausibility import PlausibleRange, implausibilities
from fair_strategy.acquisition.roi import region_of_interest
from fair_strategy.config import StudySettings
from fair_strategy.data.grids import spacing_mm
from fair_strategy.learning.grids import box_grid
from fair_strategy.learning.prediction import Prediction
from fair_strategy.metrics.checks import bounding_box
from fair_strategy.metrics.overlap import volume_mm3
from fair_strategy.metrics.surface import surface_area_mm2

LEFT_CAUDATE = PlausibleRange(
    volume_mm3=(800.0, 9000.0),
    offset_mm=((-35.0, 0.0), (0.0, 55.0), (-30.0, 40.0)),
    max_components=2,
    min_component_mm3=50.0,
)
"""Outside of this a prediction is implausible: adult left caudates measure some 2 to 5.5 ml, and
their centroid lies left of and before the brain's (about -13, +27, +3 mm on MNI152)."""


@dataclass(frozen=True)
class Assessment:
    """What one prediction says of its case.

    Attributes:
        entropies: every variant of the case entropy, in nats (sums: nats x voxels); NaN where the
            ROI is empty.
        volume_mm3: of the predicted mask.
        flags: why the prediction is implausible; empty if it is not.
        peaks: the places of highest uncertainty.
    """

    entropies: dict[str, float]
    volume_mm3: float
    flags: tuple[str, ...]
    peaks: tuple[Peak, ...]


def assess(
    prediction: Prediction,
    settings: StudySettings,
    *,
    expected: PlausibleRange | None = LEFT_CAUDATE,
) -> Assessment:
    """Case entropies, volume, plausibility and peaks of one prediction.

    Args:
        prediction: in the scan's own grid, inside a box of it.
        settings: margin and threshold of the ROI.
        expected: plausible range of the structure; None leaves the check out.
    """
    affine = box_grid(prediction.box, prediction.affine).affine
    mask = prediction.probability >= 0.5
    flags: tuple[str, ...] = ()
    if expected is not None:
        flags = implausibilities(
            mask, affine=affine, head_centre_mm=prediction.head_centre_mm, expected=expected
        )
    spacing = spacing_mm(prediction.affine)
    return Assessment(
        entropies=_entropies(prediction, mask, spacing, settings),
        volume_mm3=volume_mm3(mask, spacing),
        flags=flags,
        peaks=uncertainty_peaks(prediction.entropy, affine),
    )


def _entropies(
    prediction: Prediction,
    mask: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    settings: StudySettings,
) -> dict[str, float]:
    inside = prediction.entropy
    roi = region_of_interest(
        prediction.probability,
        spacing_mm=spacing,
        margin_mm=settings.margin_mm,
        probability_threshold=settings.roi_threshold,
    )
    # Outside of the box the network is certain: its entropy there is 0, its voxels still count.
    total = case_entropy(inside, reduction="sum")
    found = {"entropy": total / float(np.prod(prediction.shape)), "entropy_sum": total}
    if not roi.any():
        return found | dict.fromkeys(("masked_mean", "masked_sum", "per_boundary"), float("nan"))
    near = bounding_box(roi)
    inside, roi = inside[near], roi[near]
    found["masked_mean"] = case_entropy(inside, roi=roi)
    found["masked_sum"] = case_entropy(inside, roi=roi, reduction="sum")
    found["per_boundary"] = (
        case_entropy(
            inside,
            roi=roi,
            reduction="per_boundary",
            boundary_area_mm2=surface_area_mm2(mask, spacing),
        )
        if mask.any()
        else float("nan")
    )
    if prediction.mutual_information is not None:
        found["mutual_information"] = case_entropy(prediction.mutual_information[near], roi=roi)
    return found
