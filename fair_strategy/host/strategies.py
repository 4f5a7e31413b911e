"""Next Sample and the scoring methods, as MONAI Label calls them."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy

from fair_strategy.host.clients import checked_client
from fair_strategy.host.errors import no_values_in_stacks, readable_errors
from fair_strategy.store import cases
from fair_strategy.workflows.desk import Handed, next_case
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)

DESCRIPTIONS: Mapping[str, str] = {
    "weighted_entropy": "The scan where the model is most uncertain, weighted by how badly "
    "its kind of scan is segmented today",
    "masked_entropy": "The scan where the model is most uncertain around the structure",
    "entropy": "The scan where the model is most uncertain over the whole volume",
    "balanced_random": "Random, in turns",
    "random": "Random",
    "bald": "The scan where stochastic passes of the model disagree most around the structure",
    "core_set": "The scan that is least like the labelled ones",
    "stochastic_batches": "The most uncertain of random batches of scans",
}

# What MONAI Label and stock Slicer put into a request themselves.
OWN_KEYS = frozenset(
    {"strategy", "method", "model", "client_id", "gpus", "local_rank", "bundle_path", "device"}
)


def refuse_foreign_keys(request: Mapping[str, Any], allowed: frozenset[str] = frozenset()) -> None:
    """Refuse a request that tries to set what belongs to the study.

    Raises:
        HTTPException: 422, naming the keys; their values are neither used nor logged.
    """
    foreign = sorted(str(key)[:40] for key in request.keys() - OWN_KEYS - allowed)
    if foreign:
        log.warning("refused: a request tried to set %s", ", ".join(foreign))
        raise HTTPException(
            422,
            f"unknown option {', '.join(map(repr, foreign))}: settings belong to the study; "
            "they come from --conf and no request can change them",
        )


class PlannedStrategy(Strategy):
    """Hands out the next row of the study's newest plan of one strategy."""

    def __init__(self, name: str, study: Callable[[], Study]) -> None:
        super().__init__(DESCRIPTIONS[name])
        self.name = name
        self._study = study

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """The next scan for ``request["client_id"]``; only a note if nothing is left."""
        refuse_foreign_keys(request)
        with readable_errors():
            client_id = checked_client(request.get("client_id"))
            handed = next_case(self._study(), self.name, client_id)
        if handed is None:
            return {"note": "nothing left: every scan is labelled, or a colleague is working on it"}
        return reply(handed)


class StudyScoring(ScoringMethod):
    """A scoring method that runs one piece of the study's work and says how much it did."""

    def __init__(self, description: str, work: Callable[[], dict[str, Any]]) -> None:
        super().__init__(description)
        self._work = work

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Counts only: MONAI Label writes this answer to its log and shows it to readers."""
        refuse_foreign_keys(request)
        with no_values_in_stacks():
            return self._work()


def reply(handed: Handed) -> dict[str, Any]:
    """What a reader learns of a scan: its id and where its uncertainty lies in the pool."""
    return {
        "id": handed.case_id,
        # Slicer shows this as the name of the volume.
        "PatientID": f"{handed.case_id} | {_in_words(handed)}",
        "strategy": handed.strategy,
        "served_by": handed.served_by,
        "uncertainty_percentile": handed.percentile,
        "stale": handed.stale,
        "implausible": handed.implausible,
        "note": handed.note,
    }


def located(study: Study, answer: Mapping[str, Any]) -> dict[str, Any]:
    """A reply with where the scan's file is, which Slicer on the same machine opens."""
    path = cases.case(study.store, answer["id"]).path
    return {**answer, "path": str(path), "name": path.name}


def _in_words(handed: Handed) -> str:
    parts = ["not scored yet"]
    if handed.percentile is not None:
        parts = [f"uncertainty p{handed.percentile:.0f}"]
    if handed.stale:
        parts.append("older model")
    if handed.implausible:
        parts.append("check: implausible")
    return ", ".join(parts)
