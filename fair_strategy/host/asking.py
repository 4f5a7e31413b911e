"""What is hidden from a reader is not sent until they ask for it.

Inference sends it when they ask a second time. Stock Slicer can run its first model by itself with
each new scan, by the same request as a click. The first answer therefore is a sentence, which it
shows in a box; whoever then clicks, asks.
"""

from fastapi import HTTPException

from fair_strategy.store import plans
from fair_strategy.workflows import review
from fair_strategy.workflows.study import Study

ASK_AGAIN = (
    "{case}: please outline this scan on your own first, without the model's help. "
    "If you cannot, run the model again: it is shown then, and that is recorded."
)


def refuse_withheld(study: Study, case_id: str) -> None:
    """Refuse what the model made of a scan whose reader is to outline it without.

    For requests that do not say who sends them.

    Raises:
        HTTPException: 404, as where there is nothing yet; stock Slicer then goes on without.
    """
    if review.is_withheld(study, case_id):
        raise HTTPException(404, f"{case_id}: to be outlined without the model first; ask for it")


class Asking:
    """Remembers who was told so of which handing out; a restart of the server forgets it."""

    def __init__(self) -> None:
        self._told: set[int] = set()

    def check(self, study: Study, case_id: str, client_id: str) -> None:
        """Refuse the first request for what is hidden from its sender; the second is recorded.

        Raises:
            HTTPException: 409, with the sentence for the reader.
        """
        handed = plans.handout(study.store, case_id, client_id)
        if handed is None or plans.revealed(study.store, case_id, client_id) is not False:
            return
        if handed.decision_id not in self._told:
            self._told.add(handed.decision_id)
            raise HTTPException(409, ASK_AGAIN.format(case=case_id))
        self._told.discard(handed.decision_id)
        review.reveal(study, case_id, client_id)
