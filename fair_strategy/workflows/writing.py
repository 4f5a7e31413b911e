"""Outcomes on their way to the disk, while the next ones are computed."""

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from fair_strategy.store.cases import CaseRecord
from fair_strategy.workflows.outcomes import Outcome, keep
from fair_strategy.workflows.pipeline import Why
from fair_strategy.workflows.study import Study

Found = tuple[CaseRecord, Outcome | Why]
"""A scan and its outcome; or why it has none."""


class Writer:
    """Writes outcomes in a thread of its own, from ``with`` to the block's end.

    What comes while one is written is committed together: one volume at a time where a forward
    pass takes longer than the disk, and many where it does not. When the block ends, whatever the
    reason, all that was put is written.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._asked: SimpleQueue[Found | None] = SimpleQueue()
        self._answers: SimpleQueue[Found | Exception] = SimpleQueue()
        self._unanswered = 0
        self._thread = threading.Thread(target=self._run, name="score writer")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._asked.put(None)
        self._thread.join()

    def put(self, found: Found) -> None:
        """One more to be written; what has no outcome is passed on in its turn."""
        self._unanswered += 1
        self._asked.put(found)

    def written(self, *, waiting: int) -> Iterator[Found]:
        """Those that are written, in order; waits until no more than `waiting` are not.

        Raises:
            Exception: if one could not be written.
        """
        while self._unanswered > waiting or not self._answers.empty():
            answer = self._answers.get()
            if isinstance(answer, Exception):
                raise answer
            self._unanswered -= 1
            yield answer

    def _run(self) -> None:
        going = True
        while going:
            batch = [self._asked.get()]
            while not self._asked.empty():
                batch.append(self._asked.get())
            going = None not in batch
            found = [item for item in batch if item is not None]
            try:
                self._keep([outcome for _, outcome in found if isinstance(outcome, Outcome)])
            except Exception as error:
                self._answers.put(error)
                return
            for item in found:
                self._answers.put(item)

    def _keep(self, outcomes: list[Outcome]) -> None:
        if outcomes:
            keep(self._study, outcomes)
