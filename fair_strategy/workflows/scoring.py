"""From scan to score: predict once, reduce to case entropies, store; compare labels with it."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fair_strategy.acquisition.entropy import case_entropy
from fair_strategy.acquisition.peaks import Peak, uncertainty_peaks
from fair_strategy.acquisition.plausibility import PlausibleRange, implausibilities
from fair_strategy.acquisition.roi import region_of_interest
from fair_strategy.config import StudySettings
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.data.grids import VolumeError, spacing_mm
from fair_strategy.data.volumes import Volume, read_image
from fair_strategy.learning.checkpoint import Model
from fair_strategy.learning.grids import box_grid
from fair_strategy.learning.inference import Prediction, half, predict
from fair_strategy.metrics.checks import bounding_box
from fair_strategy.metrics.overlap import volume_mm3
from fair_strategy.metrics.surface import surface_area_mm2
from fair_strategy.store import cases, predictions, scores
from fair_strategy.store.cases import CaseRecord
from fair_strategy.store.predictions import StoredPrediction
from fair_strategy.store.scores import ScoreRecord
from fair_strategy.workflows.models import current_model
from fair_strategy.workflows.sources import image_path
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)

LEFT_CAUDATE = PlausibleRange(
    volume_mm3=(800.0, 9000.0),
    offset_mm=((-35.0, 0.0), (0.0, 55.0), (-30.0, 40.0)),
    max_components=2,
    min_component_mm3=50.0,
)
"""Outside of this a prediction is implausible: adult left caudates measure some 2 to 5.5 ml, and
their centroid lies left of and before the brain's (about -13, +27, +3 mm on MNI152)."""

_MISSED_IN_A_ROW = 3

# One volume at a time: two forward passes side by side would double the memory, not the speed.
_one_forward_pass = threading.Lock()


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


@dataclass
class ScoringReport:
    """What one scoring run did; ids and counts only."""

    scored: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    unavailable: int = 0
    seconds: float = 0.0


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


def score_study(
    study: Study,
    *,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> ScoringReport:
    """Score every case that the current model has not scored yet, one commit a volume.

    An unreadable volume is noted with its case and left out; the run goes on. One that a PACS
    does not send stays unscored, for a later run; after three in a row the run ends.

    Args:
        limit: at most so many volumes.
        progress: called with (done, total) after each volume.
        stop: asked before each volume; True ends the run early, nothing is lost.
    """
    started = time.monotonic()
    report = ScoringReport()
    model = current_model(study)
    todo = _labelled_first(study, scores.unscored(study.store, model.checksum, study.settings_hash))
    todo = todo[:limit]
    missed = 0
    for done, (record, volume) in enumerate(_read_ahead(study, todo), start=1):
        if stop() or missed == _MISSED_IN_A_ROW:
            break
        missed = missed + 1 if isinstance(volume, ArchiveUnavailable) else 0
        try:
            if isinstance(volume, VolumeError | ArchiveUnavailable):
                raise volume
            predict_case(study, record, model=model, volume=volume)
            report.scored += 1
        except ArchiveUnavailable as error:
            report.unavailable += 1
            log.warning("%s: scored later: %s", record.case_id, error)
        except VolumeError as error:
            cases.mark_unreadable(study.store, record.case_id, record.fingerprint, str(error))
            report.unreadable[record.case_id] = str(error)
            log.warning("left out: %s", error)
        if progress:
            progress(done, len(todo))
    report.seconds = time.monotonic() - started
    return report


def ensure_prediction(study: Study, case_id: str) -> StoredPrediction:
    """The current model's prediction of a case: from the store, or made and scored now.

    Raises:
        UnknownCaseError: for an unknown case.
        VolumeError: if the scan cannot be read.
        ArchiveUnavailable: if a PACS does not send it.
    """
    record = cases.case(study.store, case_id)
    model = current_model(study)
    key = (study.state_dir, model.checksum, case_id, record.fingerprint)
    stored = predictions.read_prediction(*key)
    if stored is not None:  # nobody waits for another's forward pass to read what is there
        return stored
    path = image_path(study, record)  # nor for another's download
    with _one_forward_pass:
        stored = predictions.read_prediction(*key)
        return stored or predict_case(study, record, model=model, volume=read_image(path))


def predict_case(
    study: Study, record: CaseRecord, *, model: Model, volume: Volume
) -> StoredPrediction:
    """Predict one case, write the prediction, then commit its score.

    Raises:
        VolumeError: if the network cannot take the volume (its extent does not fit the memory).
    """
    prediction = predict_volume(model, volume, study.settings, name=record.case_id)
    assessment = assess(prediction, study.settings)
    stored = _stored(record, model.checksum, prediction, assessment)
    predictions.write_prediction(study.state_dir, stored)
    scores.add_score(
        study.store,
        ScoreRecord(
            case_id=record.case_id,
            fingerprint=record.fingerprint,
            model=model.checksum,
            settings_hash=study.settings_hash,
            entropies=assessment.entropies,
            volume_mm3=assessment.volume_mm3,
            flags=assessment.flags,
            created_at=time.time(),
        ),
        features=prediction.features,
    )
    return stored


def predict_volume(
    model: Model, volume: Volume, settings: StudySettings, *, name: str
) -> Prediction:
    """`predict` with the study's passes and seed; whatever one volume provokes is a VolumeError."""
    try:
        return predict(model, volume, passes=settings.passes, seed=settings.seed)
    except (MemoryError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise VolumeError(
            f"{name}: cannot be segmented, shape {volume.array.shape}, "
            f"voxels of {' x '.join(f'{s:.3g}' for s in volume.spacing_mm)} mm: {reason}"
        ) from error


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


def _stored(
    record: CaseRecord, checksum: str, prediction: Prediction, assessment: Assessment
) -> StoredPrediction:
    return StoredPrediction(
        case_id=record.case_id,
        model=checksum,
        fingerprint=record.fingerprint,
        shape=prediction.shape,
        affine=prediction.affine,
        box=np.array([(s.start, s.stop) for s in prediction.box]),
        mask=prediction.probability >= 0.5,
        entropy=half(prediction.entropy),
        peaks=tuple((p.position_mm, p.value) for p in assessment.peaks),
        flags=assessment.flags,
        route=prediction.route,
        trust=prediction.trust,
    )


def _labelled_first(study: Study, case_ids: list[str]) -> list[CaseRecord]:
    labelled = cases.labelled_ids(study.store)
    wanted = set(case_ids)
    records = [c for c in cases.cases(study.store) if c.case_id in wanted]
    # The weights come from labelled cases: scored first, a plan made early is already fair.
    return sorted(records, key=lambda c: (c.case_id not in labelled, c.case_id))


def _read_ahead(
    study: Study, records: list[CaseRecord]
) -> Iterator[tuple[CaseRecord, Volume | VolumeError | ArchiveUnavailable]]:
    """Read the next volume while this one is in the network."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        ahead = [(r, reader.submit(_read, study, r)) for r in records[:1]]
        for following in [*records[1:], None]:
            if not ahead:
                return
            record, future = ahead.pop()
            volume = future.result()
            if following is not None:
                ahead.append((following, reader.submit(_read, study, following)))
            yield record, volume


def _read(study: Study, record: CaseRecord) -> Volume | VolumeError | ArchiveUnavailable:
    try:
        return read_image(image_path(study, record))
    except (VolumeError, ArchiveUnavailable) as error:
        return error
    except FileNotFoundError:
        return VolumeError(f"{record.path.name}: expected a scan, the file is gone")
