"""Maps of a segmentation -> evidence, one case in memory at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fair_strategy.acquisition.roi import region_of_interest
from fair_strategy.data.bids import subject_of
from fair_strategy.data.volumes import (
    LabelMap,
    read_labels,
)
from fair_strategy.metrics.calibration import CalibrationCounts, calibration_counts
from fair_strategy.metrics.overlap import dice, volume_mm3
from fair_strategy.metrics.surface import average_surface_distance_mm
from fair_strategy.metrics.voxelwise import QuBrats, qu_brats, rescale_uncertainty
from fair_strategy.workflows.audit.case_maps import CaseMaps, axes_of, regions_of
from fair_strategy.workflows.audit.evidence import Evidence, Flag, Target, missing_flags
from fair_strategy.workflows.audit.layout import CaseFiles, Regions
from fair_strategy.workflows.audit.segmentation import VOLUME, scored_target
from fair_strategy.workflows.audit.settings import AuditSettings

_ROI_THRESHOLD = 0.1


@dataclass(frozen=True, eq=False)
class _Record:
    """What is kept of a region of a case."""

    scores: Mapping[str, float]
    uncertainty: float | None
    counts: CalibrationCounts | None
    volume: QuBrats | None
    remarks: tuple[str, ...]


def read_maps(
    cases: Sequence[CaseFiles], regions: Regions | None, settings: AuditSettings
) -> Evidence:
    """Evidence from maps. Every file is read twice: once for the range of the uncertainties.

    Args:
        cases: from `find_cases`.
        regions: name -> label values; None: one region for every label of the references, or of
            all labels where the only prediction is one probability.
        settings: margin and bins.
    Raises:
        VolumeError, CohortError: naming file and case.
    """
    chosen = regions or _labels_found(cases)
    limits = _uncertainty_limits(cases, chosen)
    records: dict[str, list[_Record]] = {name: [] for name in chosen}
    for case in cases:
        for name, maps in regions_of(case, chosen):
            records[name].append(_reduce(maps, limits.get(name), settings))
    ids = tuple(case.case_id for case in cases)
    names = {name: name if len(chosen) > 1 or regions else "" for name in chosen}
    targets = tuple(_target(names[name], own) for name, own in records.items())
    flags = [
        Flag(case_id, names[name], remark)
        for name, own in records.items()
        for case_id, record in zip(ids, own, strict=True)
        for remark in record.remarks
    ]
    flags += [flag for target in targets for flag in missing_flags(target, ids)]
    flags += [
        Flag("", names[name], "all uncertainties are equal: no QU-BraTS score, no curve of voxels")
        for name, (low, high) in limits.items()
        if low == high
    ]
    return Evidence("segmentation", ids, tuple(map(subject_of, ids)), targets, tuple(flags))


def _labels_found(cases: Sequence[CaseFiles]) -> Regions:
    found = sorted({v for case in cases for v in _values(read_labels(case.reference))})
    if all(case.prediction is None and list(case.probability) == [""] for case in cases) and all(
        axes_of(case.probability[""]) == 3 for case in cases
    ):
        return {"foreground": tuple(found) or (1,)}
    return {f"label {value}": (value,) for value in found or [1]}


def _values(labels: LabelMap) -> list[int]:
    return [int(value) for value in np.unique(labels.array) if value != 0]


def _uncertainty_limits(
    cases: Sequence[CaseFiles], regions: Regions
) -> dict[str, tuple[float, float]]:
    """Smallest and largest uncertainty of each region over the whole data set."""
    limits: dict[str, tuple[float, float]] = {}
    for case in cases:
        for name, maps in regions_of(case, regions):
            if maps.uncertainty is not None:
                low, high = limits.get(name, (np.inf, -np.inf))
                limits[name] = (
                    min(low, float(maps.uncertainty.min())),
                    max(high, float(maps.uncertainty.max())),
                )
    return limits


def _reduce(maps: CaseMaps, limits: tuple[float, float] | None, settings: AuditSettings) -> _Record:
    predicted = volume_mm3(maps.prediction, maps.spacing_mm)
    drawn = volume_mm3(maps.reference, maps.spacing_mm)
    remarks = []
    if not drawn:
        remarks.append("the reference is empty")
    if not predicted:
        remarks.append("the prediction is empty")
    scores = {
        "dice": dice(maps.prediction, maps.reference),
        "surface_distance_mm": average_surface_distance_mm(
            maps.prediction, maps.reference, maps.spacing_mm
        ),
        "volume_error": (predicted - drawn) / drawn if drawn else float("nan"),
        VOLUME: drawn,
    }
    return _Record(
        scores,
        _case_uncertainty(maps, settings),
        _near_counts(maps, settings),
        _qu_brats(maps, limits),
        tuple(remarks),
    )


def _case_uncertainty(maps: CaseMaps, settings: AuditSettings) -> float | None:
    """Mean over the region of interest of the prediction; of an empty one, over the volume."""
    if maps.uncertainty is None:
        return None
    shown = maps.prediction if maps.probability is None else maps.probability
    region = region_of_interest(
        shown.astype(np.float32),
        spacing_mm=maps.spacing_mm,
        margin_mm=settings.margin_mm,
        probability_threshold=_ROI_THRESHOLD,
    )
    values = maps.uncertainty[region] if region.any() else maps.uncertainty
    return float(values.mean(dtype=np.float64))


def _near_counts(maps: CaseMaps, settings: AuditSettings) -> CalibrationCounts | None:
    """Confidence against correctness of the voxels near either contour.

    Far background is certain and right in any model: it would hide all the rest.
    """
    if maps.probability is None:
        return None
    near = region_of_interest(
        (maps.prediction | maps.reference).astype(np.float32),
        spacing_mm=maps.spacing_mm,
        margin_mm=settings.margin_mm,
        probability_threshold=0.5,
    )
    near |= maps.probability >= _ROI_THRESHOLD
    if not near.any():
        return CalibrationCounts.empty(bins=settings.bins)
    p = maps.probability[near].astype(np.float64)
    predicted = maps.prediction[near]
    confidence = np.where(predicted, p, 1 - p)
    return calibration_counts(confidence, predicted == maps.reference[near], bins=settings.bins)


def _qu_brats(maps: CaseMaps, limits: tuple[float, float] | None) -> QuBrats | None:
    if maps.uncertainty is None or limits is None or limits[0] == limits[1]:
        return None
    scaled = rescale_uncertainty(maps.uncertainty, low=limits[0], high=limits[1])
    return qu_brats(maps.prediction, maps.reference, scaled, mask=maps.mask)


def _target(name: str, records: Sequence[_Record]) -> Target:
    scores = {key: np.array([r.scores[key] for r in records]) for key in records[0].scores}
    counts = [r.counts for r in records if r.counts is not None]
    volumes = [r.volume for r in records if r.volume is not None]
    unsure = [r.uncertainty for r in records if r.uncertainty is not None]
    return scored_target(
        name,
        scores,
        np.array(unsure) if unsure else None,
        counts=counts or None,
        volumes=volumes or None,
    )
