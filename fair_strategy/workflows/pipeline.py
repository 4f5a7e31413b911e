"""Scans on their way through this process: read, predicted, reduced; the three overlap."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice

import torch

from fair_strategy.config import StudySettings
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.data.grids import VolumeError
from fair_strategy.data.volumes import Volume
from fair_strategy.learning.checkpoint import Model
from fair_strategy.learning.inference import Prediction
from fair_strategy.store.cases import CaseRecord
from fair_strategy.workflows.executors import InThisProcess
from fair_strategy.workflows.outcomes import Outcome, predict_volumes, read_scan, reduced
from fair_strategy.workflows.sources import image_path
from fair_strategy.workflows.study import Study

Found = tuple[CaseRecord, Outcome | str | ArchiveUnavailable]
"""A scan and its outcome; or why it has none, for good or for now."""
Reading = tuple[CaseRecord, Future[Volume]]
Reducing = tuple[CaseRecord, Future[Outcome | str | ArchiveUnavailable]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How many scans are where at once.

    Attributes:
        batch: in one batch of the network; as many are read ahead.
        threads: that read, and as many that reduce what the network says; 0 for none beside the
            one that reads ahead.
    """

    batch: int = 1
    threads: int = 0

    def reducing(self) -> Executor:
        """Where predictions become scores: in threads, or then and there."""
        return ThreadPoolExecutor(self.threads) if self.threads else InThisProcess()


ONE_BY_ONE = Pace()
"""On a CPU the network is what takes long, and takes all cores: a batch would only cost memory."""


def pace_on(device: torch.device) -> Pace:
    """A GPU is fed by several threads and in batches; each waits for it, not it for them."""
    if device.type == "cpu":
        return ONE_BY_ONE
    return Pace(batch=8, threads=min(8, os.cpu_count() or 1))


def read_ahead(study: Study, records: Iterable[CaseRecord], pace: Pace) -> Iterator[Reading]:
    """Each scan when it is read, or could not be; the next ones are read meanwhile."""
    waiting, ahead = iter(records), deque[Reading]()
    with ThreadPoolExecutor(max(1, pace.threads)) as readers:

        def fill() -> None:
            for record in islice(waiting, pace.batch - len(ahead)):
                ahead.append((record, readers.submit(_fetch_and_read, study, record)))

        try:
            fill()
            while ahead:
                record, reading = ahead.popleft()
                wait([reading])
                fill()
                yield record, reading
        finally:  # nobody waits for what is not wanted any more
            readers.shutdown(cancel_futures=True)


def outcomes(
    model: Model, readings: Iterable[Reading], settings: StudySettings, pace: Pace
) -> Iterator[Found]:
    """What becomes of each scan, in their order.

    Raises:
        Exception: what is nobody's volume's, after all that was read before it.
    """

    def reducing(executor: Executor) -> Iterator[Reducing]:
        waiting = iter(readings)
        while group := list(islice(waiting, pace.batch)):
            for record, found in _predicted(model, group, settings):
                yield record, executor.submit(_reduced, model, record, found, settings)
            group.clear()  # its volumes are not needed while the next ones are waited for

    with pace.reducing() as executor:
        yield from _in_order(reducing(executor), pace.batch)


def _in_order(running: Iterable[Reducing], most: int) -> Iterator[Found]:
    """Results as soon as they and those before are there, or when more than `most` are waited for.

    An error comes after all that was begun before it.
    """
    leaving: deque[Reducing] = deque()
    failed: Exception | None = None
    try:
        for item in running:
            leaving.append(item)
            while leaving and (leaving[0][1].done() or len(leaving) > most):
                record, future = leaving.popleft()
                yield record, future.result()
    except Exception as error:
        failed = error
    for record, future in leaving:
        try:
            outcome = future.result()
        except Exception as error:
            failed = failed or error
        else:
            yield record, outcome
    if failed is not None:
        raise failed


def _predicted(
    model: Model, group: list[Reading], settings: StudySettings
) -> Iterator[tuple[CaseRecord, Prediction | str | ArchiveUnavailable]]:
    found: list[Volume | str | ArchiveUnavailable] = []
    failed: Exception | None = None
    for _, reading in group:
        try:
            found.append(reading.result())
        except ArchiveUnavailable as error:
            found.append(error)
        except VolumeError as error:
            found.append(str(error))
        except Exception as error:
            failed = error  # nobody's volume's: told when those before it are predicted
            break
    records = [record for record, _ in group][: len(found)]
    pairs = list(zip(records, found, strict=True))
    named = [(record.case_id, item) for record, item in pairs if isinstance(item, Volume)]
    predictions = iter(predict_volumes(model, named, settings))
    for record, item in pairs:
        told = next(predictions) if isinstance(item, Volume) else item
        yield record, str(told) if isinstance(told, VolumeError) else told
    if failed is not None:
        raise failed


def _reduced(
    model: Model,
    record: CaseRecord,
    found: Prediction | str | ArchiveUnavailable,
    settings: StudySettings,
) -> Outcome | str | ArchiveUnavailable:
    if not isinstance(found, Prediction):
        return found
    try:
        return reduced(model, found, settings, (record.case_id, record.fingerprint))
    except VolumeError as error:
        return str(error)


def _fetch_and_read(study: Study, record: CaseRecord) -> Volume:
    return read_scan(image_path(study, record))
