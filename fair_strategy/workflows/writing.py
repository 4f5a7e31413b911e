"""Outcomes on their way to the disk, while the next ones are computed."""

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from fair_strategy.store.cases import CaseRecord
from fair_strategy.workflows.flow import Why
from fair_strategy.workflows.outcomes import Outcome, keep
from fair_strategy.workflows.study import Study

Found = tuple[CaseRecord, Outcome | Why]
"""A scan and its outcome; or why it has none."""

_MOST, _MOST_BYTES = 64, 64 * 2**20
"""So many outcomes, and so large together, may wait for the disk; one is some hundred KB."""


class Writer:
    """Writes outcomes in a thread of its own, from ``with`` to the block's end.

    What comes while one is written is committed together: one volume at a time where a forward
    pass takes longer than the disk, and many where it does not. When the block ends, whatever the
    reason, all that was put is written.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._asked: SimpleQueue[Found | None] = SimpleQueue()
        self._answers: SimpleQueue[list[Found] | Exception] = SimpleQueue()
        self._unanswered = self._bytes = 0
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
        self._bytes += _size(found)
        self._asked.put(found)

    def written(self, *, everything: bool = False) -> Iterator[Found]:
        """Those that are written, in order; waits while too much is not.

        Args:
            everything: wait until all that was put is written.
        Raises:
            Exception: if one could not be written.
        """
        most, most_bytes = (0, 0) if everything else (_MOST, _MOST_BYTES)
        while self._unanswered > most or self._bytes > most_bytes or not self._answers.empty():
            answer = self._answers.get()
            if isinstance(answer, Exception):
                raise answer
            self._unanswered -= len(answer)
            self._bytes -= sum(map(_size, answer))
            yield from answer

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
            self._answers.put(found)  # one by one, each would wake the other thread

    def _keep(self, outcomes: list[Outcome]) -> None:
        if outcomes:
            keep(self._study, outcomes)


def _size(found: Found) -> int:
    outcome = found[1]
    if not isinstance(outcome, Outcome):
        return 0
    return outcome.stored.mask.nbytes + outcome.stored.entropy.nbytes
