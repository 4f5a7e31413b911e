"""From scan to score: predict once, reduce to case entropies, store; compare labels with it."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import chain, islice, takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fair_strategy.config import StudySettings
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.data.grids import VolumeError
from fair_strategy.data.volumes import Volume, read_image
from fair_strategy.learning.checkpoint import Model
from fair_strategy.learning.inference import Prediction, half, predict
from fair_strategy.store import cases, predictions, scores
from fair_strategy.store.cases import CaseRecord
from fair_strategy.store.predictions import StoredPrediction
from fair_strategy.store.scores import ScoreRecord
from fair_strategy.workflows.assessment import Assessment, assess
from fair_strategy.workflows.attempts import DEATHS, Attempts, reason
from fair_strategy.workflows.executors import Killed, Workers, as_finished
from fair_strategy.workflows.models import ModelFile, current_model, current_model_file
from fair_strategy.workflows.sources import image_path
from fair_strategy.workflows.study import Study, StudyError
from fair_strategy.workflows.work import Work

log = logging.getLogger(__name__)

_MISSED_IN_A_ROW = 3
_WRITTEN_BEHIND = 16
"""So many outcomes may wait for the disk, each some MB."""
_TOO_LARGE = "does not fit into the memory"

# One volume at a time: two forward passes side by side would double the memory, not the speed.
_one_forward_pass = threading.Lock()


@dataclass(frozen=True)
class Outcome:
    """All that one forward pass leaves of a case, not yet written anywhere.

    Attributes:
        features: (C,) float32; None if the network reports none.
    """

    stored: StoredPrediction
    assessment: Assessment
    features: NDArray[np.float32] | None


Found = tuple[CaseRecord, Outcome | str | ArchiveUnavailable]
"""A scan and its outcome; or why it has none, for good or for now."""


@dataclass
class ScoringReport:
    """What one scoring run did; ids and counts only."""

    scored: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    unavailable: int = 0
    seconds: float = 0.0


def score_study(
    study: Study,
    *,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    workers: Workers | None = None,
) -> ScoringReport:
    """Score every case that the current model has not scored yet, each committed as it comes.

    An unreadable volume is noted with its case and left out; the run goes on. One that a PACS
    does not send stays unscored, for a later run; after three in a row the run ends.

    Args:
        limit: at most so many volumes.
        progress: called with (done, total) after each volume, when it is written.
        stop: asked before each volume; True ends the run early, nothing is lost.
        workers: where volumes are read and predicted; None for this process, which reads the
            next one meanwhile. Everything is written here alone.
    Raises:
        WorkersLost: if all workers are gone; what came back is in the store.
        StudyError: for workers and scans in a PACS, which only this process can ask.
    """
    started = time.monotonic()
    report = ScoringReport()
    model = current_model_file(study)
    todo = _labelled_first(study, scores.unscored(study.store, model.checksum, study.settings_hash))
    todo = todo[:limit]
    wanted = takewhile(lambda _: not stop(), todo)
    if workers is None:
        found = _here(study, wanted, model, stop)
    else:
        found = _on(workers, study, wanted, model)
    missed = 0
    for done, (record, outcome) in enumerate(_kept(study, found), start=1):
        _note(study, report, record, outcome)
        if progress:
            progress(done, len(todo))
        missed = missed + 1 if isinstance(outcome, ArchiveUnavailable) else 0
        if missed == _MISSED_IN_A_ROW:
            break
    report.seconds = time.monotonic() - started
    return report


def _note(
    study: Study,
    report: ScoringReport,
    record: CaseRecord,
    outcome: Outcome | str | ArchiveUnavailable,
) -> None:
    if isinstance(outcome, Outcome):
        report.scored += 1
    elif isinstance(outcome, ArchiveUnavailable):
        report.unavailable += 1
        log.warning("%s: scored later: %s", record.case_id, outcome)
    else:
        cases.mark_unreadable(study.store, record.case_id, record.fingerprint, outcome)
        report.unreadable[record.case_id] = outcome
        log.warning("left out: %s", outcome)


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
        return stored or predict_case(study, record, model=model, volume=_read(path))


def predict_case(
    study: Study, record: CaseRecord, *, model: Model, volume: Volume
) -> StoredPrediction:
    """Predict one case, write the prediction, then commit its score.

    Raises:
        VolumeError: if the network cannot take the volume (its extent does not fit the memory).
    """
    outcome = _outcome(model, volume, study.settings, (record.case_id, record.fingerprint))
    _keep(study, [outcome])
    return outcome.stored


def predict_work(work: Work) -> Outcome | str:
    """The outcome of one volume, or why there is none; reads, and writes nothing.

    Raises:
        StudyError: if the worker does not fit the work.
        ModelError: if the model cannot be loaded here.
    """
    model = work.begin()
    try:
        volume = _read(work.path)
        return _outcome(model, volume, work.settings, (work.case_id, work.fingerprint))
    except VolumeError as error:
        return str(error)


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


def _here(
    study: Study, records: Iterable[CaseRecord], file: ModelFile, stop: Callable[[], bool]
) -> Iterator[Found]:
    model = file.load()
    attempts = Attempts(study.state_dir, file.checksum)
    suspects: list[CaseRecord] = []

    def trusted() -> Iterator[CaseRecord]:
        for record in records:
            if attempts.deaths(record):
                suspects.append(record)
            else:
                attempts.begin(record)
                yield record

    def alone() -> Iterator[tuple[CaseRecord, Future[Volume]]]:
        for record in takewhile(lambda _: not stop(), suspects):
            deaths = attempts.deaths(record)
            attempts.begin(record)
            if deaths >= DEATHS:
                yield record, _refused(reason(record, deaths))
            else:
                yield from _read_ahead(study, [record])

    try:
        for record, reading in chain(_read_ahead(study, trusted()), alone()):
            try:
                key = (record.case_id, record.fingerprint)
                outcome: Outcome | str | ArchiveUnavailable = _outcome(
                    model, reading.result(), study.settings, key
                )
            except ArchiveUnavailable as error:
                outcome = error
            except VolumeError as error:
                outcome = str(error)
            attempts.end(record)
            yield record, outcome
    finally:
        attempts.close()


def _refused(why: str) -> Future[Volume]:
    future: Future[Volume] = Future()
    future.set_exception(VolumeError(why))
    return future


def _on(
    workers: Workers, study: Study, records: Iterable[CaseRecord], model: ModelFile
) -> Iterator[Found]:
    if study.pacs is not None:
        raise StudyError("scans in a PACS are scored without --cluster: no worker can fetch them")
    asked: dict[str, CaseRecord] = {}

    def work(record: CaseRecord) -> Work:
        asked[record.case_id] = record
        key = (record.case_id, record.path, record.fingerprint)
        return Work(*key, model, study.settings, workers.threads)

    for done, outcome in as_finished(workers, predict_work, map(work, records)):
        record = asked.pop(done.case_id)
        if isinstance(outcome, Killed):
            yield record, f"{record.path.name}: {outcome.reason}"
        else:
            yield record, outcome


def _outcome(
    model: Model, volume: Volume, settings: StudySettings, key: tuple[str, str]
) -> Outcome:
    """Predict and assess.

    Args:
        key: case_id and fingerprint.
    Raises:
        VolumeError: if the network cannot take the volume.
    """
    try:
        prediction = predict_volume(model, volume, settings, name=key[0])
        assessment = assess(prediction, settings)
        stored = _stored(key, model.checksum, prediction, assessment)
    except MemoryError as error:
        raise VolumeError(f"{key[0]}: {_TOO_LARGE}, shape {volume.array.shape}") from error
    return Outcome(stored, assessment, prediction.features)


def _keep(study: Study, outcomes: Sequence[Outcome]) -> None:
    """Write the predictions, then commit their scores, all at once."""
    for outcome in outcomes:
        predictions.write_prediction(study.state_dir, outcome.stored)
    scores.add_scores(study.store, [(_score(study, o), o.features) for o in outcomes])


def _score(study: Study, outcome: Outcome) -> ScoreRecord:
    stored, assessment = outcome.stored, outcome.assessment
    return ScoreRecord(
        case_id=stored.case_id,
        fingerprint=stored.fingerprint,
        model=stored.model,
        settings_hash=study.settings_hash,
        entropies=assessment.entropies,
        volume_mm3=assessment.volume_mm3,
        flags=assessment.flags,
        created_at=time.time(),
    )


def _kept(study: Study, found: Iterable[Found]) -> Iterator[Found]:
    """The same, each outcome once it is written; that is done while the next one is computed.

    What comes while one is written is committed together: one volume at a time where a forward
    pass takes longer than the disk, and many where it does not. An error of `found` is raised
    after all that it gave before is written.
    """
    waiting: deque[Found] = deque()
    writings: deque[Future[list[Found]]] = deque()

    def write() -> list[Found]:
        batch = [waiting.popleft() for _ in range(len(waiting))]
        outcomes = [outcome for _, outcome in batch if isinstance(outcome, Outcome)]
        if outcomes:
            _keep(study, outcomes)
        return batch

    with ThreadPoolExecutor(max_workers=1) as writer:
        for record, outcome in found:
            waiting.append((record, outcome))
            writings.append(writer.submit(write))
            most = _WRITTEN_BEHIND if isinstance(outcome, Outcome) else 0
            while writings and (len(writings) > most or writings[0].done()):
                yield from writings.popleft().result()
        for writing in writings:
            yield from writing.result()


def _stored(
    key: tuple[str, str], checksum: str, prediction: Prediction, assessment: Assessment
) -> StoredPrediction:
    case_id, fingerprint = key
    return StoredPrediction(
        case_id=case_id,
        model=checksum,
        fingerprint=fingerprint,
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
    study: Study, records: Iterable[CaseRecord]
) -> Iterator[tuple[CaseRecord, Future[Volume]]]:
    """Read the next volume while this one is in the network."""
    waiting = iter(records)
    with ThreadPoolExecutor(max_workers=1) as reader:

        def following() -> list[tuple[CaseRecord, Future[Volume]]]:
            return [(r, reader.submit(_fetch_and_read, study, r)) for r in islice(waiting, 1)]

        ahead = following()
        while ahead:
            record, reading = ahead.pop()
            wait([reading])
            ahead = following()
            yield record, reading


def _fetch_and_read(study: Study, record: CaseRecord) -> Volume:
    return _read(image_path(study, record))


def _read(path: Path) -> Volume:
    try:
        return read_image(path)
    except FileNotFoundError:
        raise VolumeError(f"{path.name}: expected a scan, the file is gone") from None
    except MemoryError:
        raise VolumeError(f"{path.name}: {_TOO_LARGE}") from None
