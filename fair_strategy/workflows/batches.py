"""Scans in batches, for a GPU: one thread asks the networks, others do what lies between.

The next scans are read and looked at, the next batch is aimed and the last one finished while a
batch is in the network.
"""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

import torch

from fair_strategy.config import StudySettings
from fair_strategy.data.sentences import first_line
from fair_strategy.data.volumes import Volume
from fair_strategy.learning.checkpoint import Model
from fair_strategy.learning.prediction import Prediction
from fair_strategy.learning.steps import (
    Aimed,
    Looked,
    Segmented,
    aim,
    finish,
    localise,
    look,
    segment,
)
from fair_strategy.learning.transfer import Arriving
from fair_strategy.workflows.flow import Again, R, Scan, T, Why, ahead, in_order, result_or_why
from fair_strategy.workflows.outcomes import blamed_on
from fair_strategy.workflows.pace import Pace

log = logging.getLogger(__name__)

S = TypeVar("S")
A = TypeVar("A")
Batch = list[tuple[Scan, Future[Any]]]
"""Scans, each with the step that it is in."""


@dataclass(frozen=True)
class Batches(Generic[Scan, R]):
    """A pipeline whose scans go through the networks together; its attributes are a Pipeline's."""

    model: Model
    settings: StudySettings
    read: Callable[[Scan], Volume]
    reduce: Callable[[Scan, Prediction], R]

    def run(self, scans: Iterable[Scan], pace: Pace) -> Generator[tuple[Scan, R | Why]]:
        """What becomes of each scan, in their order.

        What a batch cannot take, be it for one of its scans or for all together, is asked for one
        by one.

        Raises:
            Exception: what is nobody's volume's, after all that was begun before it.
        """
        with (
            ThreadPoolExecutor(pace.threads) as pool,
            closing(ahead(self._looked, scans, pace.threads, pace.batch)) as looked,
        ):
            batches = iter(lambda: list(islice(looked, pace.batch)), [])
            try:
                yield from in_order(self._begun(batches, pool), pace.batch)
            finally:  # nobody waits for what is not wanted any more
                pool.shutdown(wait=False, cancel_futures=True)

    def _begun(
        self, batches: Iterable[Batch[Scan]], pool: Executor
    ) -> Iterator[tuple[Scan, Future[R | Why]]]:
        # Aimed while the one before is segmented, so that the network does not wait for it.
        aimed: Batch[Scan] = []
        failed: Exception | None = None
        try:
            for batch in batches:
                after = self._step(localise, batch, Looked, self._aimed, pool)
                batch.clear()  # its volumes are not needed longer than the step after
                yield from self._step(self._segment, aimed, Aimed, self._finished, pool)
                aimed = after
        except Exception as error:
            failed = error
        yield from self._step(self._segment, aimed, Aimed, self._finished, pool)
        if failed is not None:
            raise failed

    def _step(
        self,
        ask: Callable[[Model, list[S]], Sequence[A]],
        batch: Batch[Scan],
        kind: type[S],
        then: Callable[[Scan, S, A | str], object],
        pool: Executor,
    ) -> Batch[Scan]:
        """One batch through a network; who did not come so far is passed on."""
        found = [_ready(future, kind) for _, future in batch]
        answers = iter(self._answers(ask, [item for item in found if item is not None]))
        return [
            (scan, future if item is None else pool.submit(then, scan, item, next(answers)))
            for (scan, future), item in zip(batch, found, strict=True)
        ]

    def _answers(
        self, ask: Callable[[Model, list[S]], Sequence[A]], batch: list[S]
    ) -> Sequence[A | str]:
        if not batch:
            return []
        try:
            return ask(self.model, batch)
        except torch.AcceleratorError:
            raise
        except (MemoryError, RuntimeError, ValueError) as error:
            told = Again(first_line(error))
        if len(batch) == 1:
            return [told]
        log.warning("%d scans one by one: their batch failed: %s", len(batch), told)
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()  # here, where the error holds nothing of the batch any more
        return [answer for item in batch for answer in self._answers(ask, [item])]

    def _segment(self, model: Model, scans: list[Aimed]) -> list[Segmented]:
        return segment(model, scans, passes=self.settings.passes, seed=self.settings.seed)

    def _looked(self, scan: Scan) -> Looked | Why:
        def result() -> Looked:
            volume = self.read(scan)
            with blamed_on(volume, scan.case_id):
                return look(self.model, volume)

        return result_or_why(result)

    def _aimed(self, scan: Scan, looked: Looked, probability: Arriving | str | None) -> Aimed | Why:
        if isinstance(probability, str):
            return probability

        def result() -> Aimed:
            with blamed_on(looked.volume, scan.case_id):
                return aim(self.model, looked, probability)

        return result_or_why(result)

    def _finished(self, scan: Scan, aimed: Aimed, found: Segmented | str) -> R | Why:
        if isinstance(found, str):
            return found
        settings = self.settings

        def result() -> R:
            with blamed_on(aimed.looked.volume, scan.case_id):
                prediction = finish(
                    self.model, aimed, found, passes=settings.passes, seed=settings.seed
                )
            return self.reduce(scan, prediction)

        return result_or_why(result)


def _ready(future: Future[Any], kind: type[T]) -> T | None:
    """What it holds, waited for; None if that is an error, or why there is nothing."""
    if future.exception() is not None:
        return None
    result = future.result()
    return result if isinstance(result, kind) else None
