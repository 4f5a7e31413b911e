"""From scan to score: predict once, reduce to case entropies, store; compare labels with it."""

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain, takewhile

from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.data.volumes import Volume
from fair_strategy.learning.checkpoint import Model
from fair_strategy.learning.prediction import Prediction
from fair_strategy.store import cases, predictions, scores
from fair_strategy.store.cases import CaseRecord
from fair_strategy.store.predictions import StoredPrediction
from fair_strategy.workflows.attempts import DEATHS, Attempts, reason
from fair_strategy.workflows.executors import Killed, Workers, as_finished
from fair_strategy.workflows.flow import Why
from fair_strategy.workflows.models import ModelFile, current_model, current_model_file
from fair_strategy.workflows.outcomes import (
    Outcome,
    keep,
    outcome_of,
    predict_work,
    read_scan,
    reduced,
)
from fair_strategy.workflows.pace import ONE_BY_ONE, pace_on
from fair_strategy.workflows.pipeline import Pipeline
from fair_strategy.workflows.sources import image_path
from fair_strategy.workflows.study import Study, StudyError
from fair_strategy.workflows.threads import one_forward_pass
from fair_strategy.workflows.work import Work
from fair_strategy.workflows.writing import Found, Writer

log = logging.getLogger(__name__)

_MISSED_IN_A_ROW = 3
_OF_A_PACS = 2
"""Scans fetched side by side."""


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

    On a GPU scans come in batches, on a CPU several go side by side, see pace.pace_on.

    An unreadable volume is noted with its case and left out; the run goes on. One that a PACS
    does not send stays unscored, for a later run; after three in a row the run ends.

    Args:
        limit: at most so many volumes.
        progress: called with (done, total) after each volume, when it is written.
        stop: asked before each volume; True ends the run early, nothing is lost.
        workers: where volumes are read and predicted; None for this process, on as many threads
            as torch has. Everything is written here alone.
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
    with closing(found), closing(_kept(study, found)) as kept:
        for done, (record, outcome) in enumerate(kept, start=1):
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
    outcome: Outcome | Why,
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
    with one_forward_pass:
        stored = predictions.read_prediction(*key)
        return stored or predict_case(study, record, model=model, volume=read_scan(path))


def predict_case(
    study: Study, record: CaseRecord, *, model: Model, volume: Volume
) -> StoredPrediction:
    """Predict one case, write the prediction, then commit its score.

    Raises:
        VolumeError: if the network cannot take the volume (its extent does not fit the memory).
    """
    outcome = outcome_of(model, volume, study.settings, (record.case_id, record.fingerprint))
    keep(study, [outcome])
    return outcome.stored


def _here(
    study: Study, records: Iterable[CaseRecord], file: ModelFile, stop: Callable[[], bool]
) -> Generator[Found]:
    line = _pipeline(study, file.load())
    attempts = Attempts(study.state_dir, file.checksum)
    suspects: list[CaseRecord] = []

    pace = pace_on(line.model.device, study.settings)
    if study.pacs is not None:  # which others ask, too
        most = _OF_A_PACS
        pace = replace(pace, lanes=min(pace.lanes, most), threads=min(pace.threads, most))
    if attempts.any_deaths():
        pace = replace(ONE_BY_ONE, lanes=min(pace.lanes, 1))

    def trusted() -> Iterator[CaseRecord]:
        for record in records:
            if attempts.deaths(record):
                suspects.append(record)
            else:
                attempts.begin(record)
                yield record

    def alone() -> Iterator[Found]:
        for record in takewhile(lambda _: not stop(), suspects):
            deaths = attempts.deaths(record)
            attempts.begin(record)
            if deaths >= DEATHS:
                yield record, reason(record, deaths)
            else:
                yield from line.run([record], pace)

    try:
        for record, outcome in chain(line.run(trusted(), pace, stop), alone()):
            attempts.end(record)
            yield record, outcome
    finally:
        attempts.close()


def _pipeline(study: Study, model: Model) -> Pipeline[CaseRecord, Outcome]:
    def read(record: CaseRecord) -> Volume:
        return read_scan(image_path(study, record))

    def reduce(record: CaseRecord, prediction: Prediction) -> Outcome:
        return reduced(model, prediction, study.settings, (record.case_id, record.fingerprint))

    return Pipeline(model, study.settings, read, reduce)


def _on(
    workers: Workers, study: Study, records: Iterable[CaseRecord], model: ModelFile
) -> Generator[Found]:
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


def _kept(study: Study, found: Iterable[Found]) -> Generator[Found]:
    """The same, each outcome once it is written; that is done while the next one is computed.

    An error of `found` is raised after all that it gave before is written.
    """
    with Writer(study) as writer:
        for record, outcome in found:
            writer.put((record, outcome))
            yield from writer.written(everything=not isinstance(outcome, Outcome))
        yield from writer.written(everything=True)


def _labelled_first(study: Study, case_ids: list[str]) -> list[CaseRecord]:
    labelled = cases.labelled_ids(study.store)
    wanted = set(case_ids)
    records = [c for c in cases.cases(study.store) if c.case_id in wanted]
    # The weights come from labelled cases: scored first, a plan made early is already fair.
    return sorted(records, key=lambda c: (c.case_id not in labelled, c.case_id))
