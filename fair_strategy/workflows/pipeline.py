"""Scans on their way through this process: read, predicted, reduced; these overlap.

Either the three overlap, each of another scan, or several scans go through all three side by side.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Protocol, TypeVar

import torch

from fair_strategy.config import StudySettings
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.data.grids import VolumeError
from fair_strategy.data.volumes import Volume
from fair_strategy.learning.checkpoint import Model
from fair_strategy.learning.inference import Prediction
from fair_strategy.workflows.executors import InThisProcess, queued
from fair_strategy.workflows.machine import cores, memory_bytes
from fair_strategy.workflows.outcomes import predict_volumes
from fair_strategy.workflows.threads import one_thread


class Named(Protocol):
    """A scan, by whatever record it is known."""

    @property
    def case_id(self) -> str: ...


Scan = TypeVar("Scan", bound=Named)
R = TypeVar("R")
Why = str | ArchiveUnavailable
"""Why a scan has no result: for good, or for now."""
Reading = tuple[Scan, Future[Volume]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How many scans are where at once.

    Attributes:
        batch: in one batch of the network; as many are read ahead.
        threads: that read, and as many that reduce what the network says; 0 for none beside the
            one that reads ahead.
        lanes: scans side by side, each from file to result on a thread of its own: then nothing of
            the above counts; 0 for no such way.
    """

    batch: int = 1
    threads: int = 0
    lanes: int = 0

    def reducing(self) -> Executor:
        """Where predictions become results: in threads, or then and there."""
        return ThreadPoolExecutor(self.threads) if self.threads else InThisProcess()


ONE_BY_ONE = Pace()
"""The next scan is read while one is in the network: for one thread of the network's."""

_MOST_THREADS = 8
"""More would wait for each other."""
_LANE_BYTES = 2 * 1024**3
"""Memory of the machine that lets one more scan be under way: 0.3 GB of a whole head, or more."""


def pace_on(device: torch.device, settings: StudySettings) -> Pace:
    """How scans go through the process fastest.

    A GPU is fed by several threads and in batches; each waits for it, not it for them. On a CPU
    each of torch's threads takes a scan of its own: threads that share a forward pass wait for each
    other at each layer. Passes with dropout share one generator, and go one by one.
    """
    if device.type != "cpu":
        return Pace(batch=8, threads=min(_MOST_THREADS, cores()))
    threads = torch.get_num_threads()
    if threads == 1 or settings.passes > 1:
        return ONE_BY_ONE
    return Pace(lanes=max(1, min(_MOST_THREADS, threads, memory_bytes() // _LANE_BYTES)))


@dataclass(frozen=True)
class Pipeline(Generic[Scan, R]):
    """One model, and what lies before and behind it.

    Attributes:
        model: that predicts.
        settings: of the score: passes and seed.
        read: a scan's volume; a VolumeError or ArchiveUnavailable is the scan's own, any other
            error ends the run.
        reduce: what is kept of its prediction; likewise a VolumeError.
    """

    model: Model
    settings: StudySettings
    read: Callable[[Scan], Volume]
    reduce: Callable[[Scan, Prediction], R]

    def run(self, scans: Iterable[Scan], pace: Pace) -> Iterator[tuple[Scan, R | Why]]:
        """What becomes of each scan, in their order.

        Side by side a scan that failed is tried once more, alone, after all others.

        Raises:
            Exception: what is nobody's volume's, after all that was begun before it.
        """
        if pace.lanes:
            return self._side_by_side(scans, pace.lanes)
        return self._results(self._read_ahead(scans, pace), pace)

    def _read_ahead(self, scans: Iterable[Scan], pace: Pace) -> Iterator[Reading[Scan]]:
        """Each scan when it is read, or could not be; the next ones are read meanwhile."""
        waiting, ahead = iter(scans), deque[Reading[Scan]]()
        with ThreadPoolExecutor(max(1, pace.threads)) as readers:

            def fill() -> None:
                for scan in islice(waiting, pace.batch - len(ahead)):
                    ahead.append((scan, readers.submit(self.read, scan)))

            try:
                fill()
                while ahead:
                    scan, reading = ahead.popleft()
                    wait([reading])
                    fill()
                    yield scan, reading
            finally:  # nobody waits for what is not wanted any more
                readers.shutdown(cancel_futures=True)

    def _results(
        self, readings: Iterable[Reading[Scan]], pace: Pace
    ) -> Iterator[tuple[Scan, R | Why]]:
        """As `run`, of scans that are read already."""

        def reducing(executor: Executor) -> Iterator[tuple[Scan, Future[R | Why]]]:
            waiting = iter(readings)
            while group := list(islice(waiting, pace.batch)):
                for scan, found in self._predicted(group):
                    yield scan, executor.submit(self._reduced, scan, found)
                group.clear()  # its volumes are not needed while the next ones are waited for

        with pace.reducing() as executor:
            yield from _in_order(reducing(executor), pace.batch)

    def _side_by_side(self, scans: Iterable[Scan], lanes: int) -> Iterator[tuple[Scan, R | Why]]:
        # On one thread each, so that a scan's numbers do not depend on how many are at work.
        failed: list[Scan] = []
        with one_thread():
            with closing(self._at_once(scans, lanes)) as results:
                for scan, result in results:
                    if isinstance(result, str):
                        failed.append(scan)
                    else:
                        yield scan, result
            # It may have been the others that left it no memory.
            for scan in failed:
                yield scan, self._through(scan)

    def _at_once(self, scans: Iterable[Scan], lanes: int) -> Generator[tuple[Scan, R | Why]]:
        with ThreadPoolExecutor(lanes) as pool:
            try:
                begun = ((scan, pool.submit(self._through, scan)) for scan in scans)
                yield from _in_order(begun, queued(lanes))
            finally:
                pool.shutdown(cancel_futures=True)

    def _through(self, scan: Scan) -> R | Why:
        # An error that is kept holds what its frames hold, a scan that did not fit among it.
        try:
            volume = self.read(scan)
        except VolumeError as error:
            return str(error)
        except ArchiveUnavailable as error:
            return error.with_traceback(None)
        [told] = predict_volumes(self.model, [(scan.case_id, volume)], self.settings)
        return self._reduced(scan, str(told) if isinstance(told, VolumeError) else told)

    def _predicted(self, group: list[Reading[Scan]]) -> Iterator[tuple[Scan, Prediction | Why]]:
        found: list[Volume | Why] = []
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
        scans = [scan for scan, _ in group][: len(found)]
        pairs = list(zip(scans, found, strict=True))
        named = [(scan.case_id, item) for scan, item in pairs if isinstance(item, Volume)]
        predictions = iter(predict_volumes(self.model, named, self.settings))
        for scan, item in pairs:
            told = next(predictions) if isinstance(item, Volume) else item
            yield scan, str(told) if isinstance(told, VolumeError) else told
        if failed is not None:
            raise failed

    def _reduced(self, scan: Scan, found: Prediction | Why) -> R | Why:
        if not isinstance(found, Prediction):
            return found
        try:
            return self.reduce(scan, found)
        except VolumeError as error:
            return str(error)


def _in_order(running: Iterable[tuple[Scan, Future[R]]], most: int) -> Iterator[tuple[Scan, R]]:
    """Results as soon as they and those before are there, or when more than `most` are waited for.

    An error comes after all that was begun before it.
    """
    leaving: deque[tuple[Scan, Future[R]]] = deque()
    failed: Exception | None = None
    try:
        for item in running:
            leaving.append(item)
            while leaving and (leaving[0][1].done() or len(leaving) > most):
                scan, future = leaving.popleft()
                yield scan, future.result()
    except Exception as error:
        failed = error
    for scan, future in leaving:
        try:
            result = future.result()
        except Exception as error:
            failed = failed or error
        else:
            yield scan, result
    if failed is not None:
        raise failed
