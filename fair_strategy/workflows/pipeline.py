"""Scans on their way through this process, several at once.

Side by side on a CPU, each from file to result in a thread of its own; in batches on a GPU, where
some threads make scans ready for the network and others finish what it said, while it computes.
"""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
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
from fair_strategy.learning.inference import Prediction, Segmented, Sought, finish, seek, segment
from fair_strategy.workflows.executors import queued
from fair_strategy.workflows.machine import cores, memory_bytes
from fair_strategy.workflows.outcomes import blamed_on, first_line, predict_volume
from fair_strategy.workflows.threads import one_thread

log = logging.getLogger(__name__)


class Named(Protocol):
    """A scan, by whatever record it is known."""

    @property
    def case_id(self) -> str: ...


Scan = TypeVar("Scan", bound=Named)
R = TypeVar("R")
T = TypeVar("T")
Why = str | ArchiveUnavailable
"""Why a scan has no result: for good, or for now."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How many scans are where at once; by default one, while the next one is read.

    Attributes:
        batch: in one batch of the network.
        threads: that make scans ready for a batch, and as many that finish what it leaves.
        lanes: scans side by side, each from file to result in a thread of its own: then nothing of
            the above counts; 0 for no such way.
    """

    batch: int = 1
    threads: int = 1
    lanes: int = 0


ONE_BY_ONE = Pace()
"""The next scan is read while one is in the network: for one thread of the network's."""

_MOST_THREADS = 8
"""More would wait for each other."""
_BATCHES_AHEAD = 2
"""One that waits for the network, and one that is made ready."""
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

    def run(self, scans: Iterable[Scan], pace: Pace) -> Generator[tuple[Scan, R | Why]]:
        """What becomes of each scan, in their order.

        Where several are under way at once, one that failed is tried once more, alone, after all
        others.

        Raises:
            Exception: what is nobody's volume's, after all that was begun before it.
        """
        if pace == ONE_BY_ONE:
            yield from self._one_by_one(scans)
            return
        failed: list[Scan] = []
        # On one thread each, so that a scan's numbers do not depend on how many are at work.
        with one_thread():
            several = self._side_by_side if pace.lanes else self._in_batches
            with closing(several(scans, pace)) as results:
                for scan, result in results:
                    if isinstance(result, str):
                        failed.append(scan)
                    else:
                        yield scan, result
            # It may have been the others that left it no memory.
            for scan in failed:
                yield scan, self._through(scan)

    def _one_by_one(self, scans: Iterable[Scan]) -> Generator[tuple[Scan, R | Why]]:
        with closing(_ahead(self.read, scans, threads=1, most=1)) as readings:
            for scan, reading in readings:
                result = self._through(scan, reading.result)
                del reading  # its volume is not needed while the next one is waited for
                yield scan, result

    def _side_by_side(self, scans: Iterable[Scan], pace: Pace) -> Generator[tuple[Scan, R | Why]]:
        with ThreadPoolExecutor(pace.lanes) as pool:
            try:
                begun = ((scan, pool.submit(self._through, scan)) for scan in scans)
                yield from _in_order(begun, queued(pace.lanes))
            finally:
                pool.shutdown(cancel_futures=True)

    def _through(self, scan: Scan, read: Callable[[], Volume] | None = None) -> R | Why:
        def result() -> R:
            volume = read() if read else self.read(scan)
            prediction = predict_volume(self.model, volume, self.settings, name=scan.case_id)
            return self.reduce(scan, prediction)

        return _result_or_why(result)

    def _in_batches(self, scans: Iterable[Scan], pace: Pace) -> Generator[tuple[Scan, R | Why]]:
        most = _BATCHES_AHEAD * pace.batch
        with (
            closing(_ahead(self._sought, scans, threads=pace.threads, most=most)) as ready,
            ThreadPoolExecutor(pace.threads) as pool,
        ):
            batches = iter(lambda: list(islice(ready, pace.batch)), [])
            begun = (item for batch in batches for item in self._batch(batch, pool))
            yield from _in_order(begun, pace.batch)

    def _sought(self, scan: Scan) -> Sought | Why:
        def result() -> Sought:
            volume = self.read(scan)
            with blamed_on(volume, scan.case_id):
                return seek(self.model, volume)

        return _result_or_why(result)

    def _batch(
        self, batch: list[tuple[Scan, Future[Sought | Why]]], pool: Executor
    ) -> Iterator[tuple[Scan, Future[R | Why]]]:
        found: list[tuple[Scan, Sought | Why]] = []
        failed: Exception | None = None
        for scan, seeking in batch:
            try:
                found.append((scan, seeking.result()))
            except Exception as error:
                failed = error  # nobody's volume's: told after those before it
                break
        batch.clear()  # its volumes are not needed while the next ones are waited for
        told = iter(self._segmented([item for _, item in found if isinstance(item, Sought)]))
        for scan, item in found:
            if isinstance(item, Sought):
                yield scan, pool.submit(self._finished, scan, item, next(told))
            else:
                yield scan, _done(item)
        if failed is not None:
            raise failed

    def _segmented(self, sought: list[Sought]) -> Sequence[Segmented | str]:
        settings = self.settings
        try:
            return segment(self.model, sought, passes=settings.passes, seed=settings.seed)
        except torch.AcceleratorError:
            raise
        except (MemoryError, RuntimeError, ValueError) as error:
            told = first_line(error)
            log.warning("%d scans one by one: their batch failed: %s", len(sought), told)
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            return [told] * len(sought)

    def _finished(self, scan: Scan, sought: Sought, found: Segmented | str) -> R | Why:
        if isinstance(found, str):
            return found
        settings = self.settings

        def result() -> R:
            with blamed_on(sought.volume, scan.case_id):
                prediction = finish(
                    self.model, sought, found, passes=settings.passes, seed=settings.seed
                )
            return self.reduce(scan, prediction)

        return _result_or_why(result)


def _result_or_why(result: Callable[[], T]) -> T | Why:
    # An error that is kept holds what its frames hold, a scan that did not fit among it.
    try:
        return result()
    except VolumeError as error:
        return str(error)
    except ArchiveUnavailable as error:
        return error.with_traceback(None)


def _done(result: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(result)
    return future


def _ahead(
    work: Callable[[Scan], T], scans: Iterable[Scan], *, threads: int, most: int
) -> Generator[tuple[Scan, Future[T]]]:
    """Each scan when the work on it is done or failed; at most so many others are begun."""
    waiting, begun = iter(scans), deque[tuple[Scan, Future[T]]]()
    with ThreadPoolExecutor(threads) as pool:

        def fill() -> None:
            for scan in islice(waiting, most - len(begun)):
                begun.append((scan, pool.submit(work, scan)))

        try:
            fill()
            while begun:
                scan, future = begun.popleft()
                wait([future])
                fill()
                yield scan, future
        finally:  # nobody waits for what is not wanted any more
            pool.shutdown(cancel_futures=True)


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
