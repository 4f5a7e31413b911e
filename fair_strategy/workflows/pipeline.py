"""Scans on their way through this process: read, predicted, reduced; several at once."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import takewhile
from typing import Generic

from fair_strategy.config import StudySettings
from fair_strategy.data.volumes import Volume
from fair_strategy.learning.checkpoint import Model
from fair_strategy.learning.prediction import Prediction
from fair_strategy.workflows.batches import Batches
from fair_strategy.workflows.executors import queued
from fair_strategy.workflows.flow import Again, R, Scan, Why, ahead, in_order, result_or_why
from fair_strategy.workflows.outcomes import predict_volume
from fair_strategy.workflows.pace import ONE_BY_ONE, Pace
from fair_strategy.workflows.threads import one_thread


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

    def run(
        self,
        scans: Iterable[Scan],
        pace: Pace,
        stop: Callable[[], bool] = lambda: False,
    ) -> Generator[tuple[Scan, R | Why]]:
        """What becomes of each scan, in their order.

        Where several are under way at once, one for which there may have been no memory is tried
        once more, alone, after all others.

        Args:
            stop: asked before such a scan; True ends the run.
        Raises:
            Exception: what is nobody's volume's, after all that was begun before it, but for what
                was to be tried alone.
        """
        if pace == ONE_BY_ONE:
            yield from self._one_by_one(scans)
            return
        again: list[Scan] = []
        # On one thread each, so that a scan's numbers do not depend on how many are at work.
        with one_thread():
            several = self._side_by_side if pace.lanes else self._batches().run
            with closing(several(scans, pace)) as results:
                for scan, result in results:
                    if isinstance(result, Again):
                        again.append(scan)
                    else:
                        yield scan, result
            for scan in takewhile(lambda _: not stop(), again):
                yield scan, self._through(scan)

    def _one_by_one(self, scans: Iterable[Scan]) -> Generator[tuple[Scan, R | Why]]:
        with closing(ahead(self.read, scans, threads=1, most=1)) as readings:
            for scan, reading in readings:
                result = self._through(scan, reading.result)
                del reading  # its volume is not needed while the next one is waited for
                yield scan, result

    def _side_by_side(self, scans: Iterable[Scan], pace: Pace) -> Generator[tuple[Scan, R | Why]]:
        with ThreadPoolExecutor(pace.lanes) as pool:
            try:
                begun = ((scan, pool.submit(self._through, scan)) for scan in scans)
                yield from in_order(begun, queued(pace.lanes))
            finally:
                pool.shutdown(cancel_futures=True)

    def _through(self, scan: Scan, read: Callable[[], Volume] | None = None) -> R | Why:
        def result() -> R:
            volume = read() if read else self.read(scan)
            prediction = predict_volume(self.model, volume, self.settings, name=scan.case_id)
            return self.reduce(scan, prediction)

        return result_or_why(result)

    def _batches(self) -> Batches[Scan, R]:
        return Batches(self.model, self.settings, self.read, self.reduce)
