"""Maps of a segmentation -> evidence, one case in memory at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fair_strategy.acquisition.entropy import predictive_entropy
from fair_strategy.acquisition.roi import region_of_interest
from fair_strategy.data import formats
from fair_strategy.data.bids import subject_of
from fair_strategy.data.volumes import (
    LabelMap,
    VolumeError,
    match_grid,
    read_image,
    read_labels,
)
from fair_strategy.metrics.calibration import CalibrationCounts, calibration_counts
from fair_strategy.metrics.overlap import dice, volume_mm3
from fair_strategy.metrics.surface import average_surface_distance_mm
from fair_strategy.metrics.voxelwise import QuBrats, qu_brats, rescale_uncertainty
from fair_strategy.workflows.audit.evidence import Evidence, Flag, Target, missing_flags
from fair_strategy.workflows.audit.layout import CaseFiles, Regions
from fair_strategy.workflows.audit.segmentation import VOLUME, scored_target
from fair_strategy.workflows.audit.settings import AuditSettings

_SUM_TOLERANCE = 1e-3
_ROI_THRESHOLD = 0.1


@dataclass(frozen=True, eq=False)
class CaseMaps:
    """One region of one case, in memory.

    Attributes:
        prediction: (I, J, K), boolean.
        reference: the same shape.
        probability: of the region, or None.
        uncertainty: on the scale of the file, or entropy of `probability`, or None.
        mask: or None.
        spacing_mm: three voxel edges.
    """

    prediction: NDArray[np.bool_]
    reference: NDArray[np.bool_]
    probability: NDArray[np.float32] | None
    uncertainty: NDArray[np.floating] | None
    mask: NDArray[np.bool_] | None
    spacing_mm: tuple[float, float, float]


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
        for name, maps in _regions_of(case, chosen):
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
        _axes(case.probability[""]) == 3 for case in cases
    ):
        return {"foreground": tuple(found) or (1,)}
    return {f"label {value}": (value,) for value in found or [1]}


def _values(labels: LabelMap) -> list[int]:
    return [int(value) for value in np.unique(labels.array) if value != 0]


def _axes(path: Path) -> int:
    if path.suffix == ".npz":
        return 4
    shape = list(formats.read_grid(path)[0])
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    return len(shape)


def _uncertainty_limits(
    cases: Sequence[CaseFiles], regions: Regions
) -> dict[str, tuple[float, float]]:
    """Smallest and largest uncertainty of each region over the whole data set."""
    limits: dict[str, tuple[float, float]] = {}
    for case in cases:
        for name, maps in _regions_of(case, regions):
            if maps.uncertainty is not None:
                low, high = limits.get(name, (np.inf, -np.inf))
                limits[name] = (
                    min(low, float(maps.uncertainty.min())),
                    max(high, float(maps.uncertainty.max())),
                )
    return limits


def _regions_of(case: CaseFiles, regions: Regions) -> Iterator[tuple[str, CaseMaps]]:
    """Each region of a case; its volumes are let go with the iterator."""
    reference = read_labels(case.reference)
    predicted = None if case.prediction is None else _labels(case.prediction, reference)
    mask = None if case.mask is None else _labels(case.mask, reference) != 0
    classes = _classes(case, reference, regions)
    for name, labels in regions.items():
        probability = _probability(case, name, regions, reference, classes)
        if predicted is not None:
            own = np.isin(predicted, labels)
        elif probability is not None:
            own = probability >= 0.5
        else:
            raise VolumeError(
                f"case {case.case_id}: neither a prediction nor a probability of region {name!r}"
            )
        yield (
            name,
            CaseMaps(
                own,
                np.isin(reference.array, labels),
                probability,
                _uncertainty(case, name, reference, probability),
                mask,
                reference.spacing_mm,
            ),
        )


def _labels(path: Path, reference: LabelMap) -> NDArray[np.integer]:
    found = read_labels(path)
    return _onto(path, found.array, found.affine, reference)


def _map(path: Path, reference: LabelMap) -> NDArray[np.float32]:
    found = read_image(path, allow_blank=True)
    return _onto(path, found.array, found.affine, reference)


def _onto(path: Path, array: NDArray, affine: NDArray[np.floating], reference: LabelMap) -> NDArray:
    try:
        return match_grid(array, affine, reference.array.shape, reference.affine)
    except VolumeError as error:
        raise VolumeError(
            f"{path}: {error}".replace("the mask", "this map").replace(
                "the image's grid", "the grid of the reference"
            )
        ) from None


def _classes(case: CaseFiles, reference: LabelMap, regions: Regions) -> NDArray[np.float32] | None:
    """(C, I, J, K), probabilities of all classes, where the case has them."""
    path = case.probability.get("")
    if path is None or _axes(path) == 3:
        return None
    if path.suffix == ".npz":
        probs, affine = _nnunet_probabilities(path), reference.affine
    else:
        last, affine = formats.read(path)
        probs = np.moveaxis(last, -1, 0)
    if not np.isfinite(probs).all():
        raise VolumeError(f"{path}: probabilities hold NaN or infinite values; repair it")
    probs = np.stack([_onto(path, each, affine, reference) for each in probs])
    if probs.min() < 0 or probs.max() > 1:
        raise VolumeError(
            f"{path}: values {probs.min():g} to {probs.max():g}; give probabilities, not logits"
        )
    apart = np.abs(probs.sum(axis=0) - 1)
    if apart.max() > _SUM_TOLERANCE:
        voxel = tuple(int(i) for i in np.unravel_index(apart.argmax(), apart.shape))
        total = float(probs.sum(axis=0)[voxel])
        raise VolumeError(
            f"{path}: the probabilities of voxel {voxel} sum to {total:g}, "
            "not 1; for regions that overlap give probability_<region> maps"
        )
    highest = max(max(labels) for labels in regions.values())
    if highest >= len(probs):
        raise VolumeError(
            f"{path}: {len(probs)} classes, but a region holds label {highest}; "
            "class c must be label c"
        )
    return probs


def _nnunet_probabilities(path: Path) -> NDArray[np.float32]:
    """nnU-Net stores (C, Z, Y, X), as SimpleITK orders axes; here (C, X, Y, Z)."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            probs = np.asarray(archive["probabilities"], dtype=np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise VolumeError(f"{path}: expected nnU-Net's array 'probabilities': {error}") from None
    if probs.ndim != 4:
        raise VolumeError(f"{path}: probabilities have shape {probs.shape}, not (C, Z, Y, X)")
    return probs.transpose(0, 3, 2, 1)


def _probability(
    case: CaseFiles,
    name: str,
    regions: Regions,
    reference: LabelMap,
    classes: NDArray[np.float32] | None,
) -> NDArray[np.float32] | None:
    if name in case.probability:
        path = case.probability[name]
    elif classes is not None:
        # Of a sum of float32 probabilities a rounding error above 1 is left.
        return np.minimum(classes[list(regions[name])].sum(axis=0), np.float32(1))
    elif "" in case.probability:
        path = case.probability[""]
        if len(regions) > 1:
            raise VolumeError(
                f"{path}: one probability, but {len(regions)} regions ({', '.join(regions)}); give "
                "probability_<region> maps, or one map of all classes"
            )
    else:
        return None
    probability = _map(path, reference)
    if probability.min() < 0 or probability.max() > 1:
        raise VolumeError(
            f"{path}: values {probability.min():g} to {probability.max():g}; a probability lies "
            "in [0, 1]"
        )
    return probability


def _uncertainty(
    case: CaseFiles, name: str, reference: LabelMap, probability: NDArray[np.float32] | None
) -> NDArray[np.floating] | None:
    path = case.uncertainty.get(name) or case.uncertainty.get("")
    if path is not None:
        return _map(path, reference)
    if probability is None:
        return None
    return predictive_entropy(np.stack([1 - probability, probability])[None])


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
