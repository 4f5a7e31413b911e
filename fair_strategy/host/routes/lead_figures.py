"""The JSON behind each figure of the dashboard, for the study lead alone."""

import logging
import time
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path, Query, Request
from monailabel.interfaces.utils.app import app_instance

from fair_strategy.data.bids import check_id
from fair_strategy.host.errors import readable_errors
from fair_strategy.host.lead import TOP, access_of
from fair_strategy.host.routes.lead import require_lead
from fair_strategy.host.routes.routing import Refusal, SentenceRoute
from fair_strategy.workflows.overview import (
    agreement,
    counts,
    decisions,
    performance,
    summary,
    training,
    work,
)
from fair_strategy.workflows.overview.figures import (
    Agreement,
    DecisionRecord,
    Decisions,
    Leases,
    Performance,
    Replay,
    Summary,
    Training,
    Weights,
    Work,
)
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)

DecisionId = Annotated[int, Path(ge=1, le=2**63 - 1, description="as a list of decisions has it")]
router = APIRouter(
    prefix=f"{TOP}/api",
    tags=["Fairness"],
    dependencies=[Depends(require_lead)],
    responses={401: {"model": Refusal, "description": "not the study lead"}},
    route_class=SentenceRoute,
)


def study_of_server() -> Study:
    """The study that is served."""
    study: Study = app_instance().study
    return study


def min_cell_of(request: Request) -> int:
    """The smallest number of cases of a subgroup that is shown."""
    return access_of(request).min_cell


StudyServed = Annotated[Study, Depends(study_of_server)]
MinCell = Annotated[int, Depends(min_cell_of)]


@router.get("/summary")
def get_summary(study: StudyServed, min_cell: MinCell) -> Summary:
    """What is studied, by which model, how far it is; labelled, pool and excluded by subgroup."""
    with readable_errors():
        return summary.summary(study, min_cell=min_cell)


@router.get("/performance")
def get_performance(study: StudyServed, min_cell: MinCell) -> Performance:
    """Dice by subgroup over the model versions, with gap, excess gap and worst subgroup."""
    with readable_errors():
        return performance.performance(study, min_cell=min_cell)


@router.get("/weights")
def get_weights(study: StudyServed, min_cell: MinCell) -> Weights:
    """The weights that the plans follow."""
    with readable_errors():
        return counts.weights(study, min_cell=min_cell)


@router.get("/work")
def get_work(study: StudyServed, min_cell: MinCell) -> Work:
    """Annotation time and edited volume by subgroup."""
    with readable_errors():
        return work.work(study, min_cell=min_cell)


@router.get("/agreement")
def get_agreement(study: StudyServed, min_cell: MinCell) -> Agreement:
    """Dice and surface distance between the readers of a scan, by subgroup."""
    with readable_errors():
        return agreement.agreement(study, min_cell=min_cell)


@router.get("/training")
def get_training(study: StudyServed, min_cell: MinCell) -> Training:
    """All models with the statistics of their training."""
    with readable_errors():
        return training.training(study, min_cell=min_cell)


@router.get("/leases")
def get_leases(study: StudyServed) -> Leases:
    """Who holds which scan, and for how long."""
    return decisions.leases(study, now=time.monotonic())


@router.get("/decisions")
def get_decisions(
    study: StudyServed, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> Decisions:
    """The last decisions, newest first."""
    return decisions.decisions(study, limit=limit)


@router.get("/decisions/{decision_id}")
def get_decision(study: StudyServed, decision_id: DecisionId) -> DecisionRecord:
    """One decision: candidates, scores, weights, seed."""
    with readable_errors():
        return decisions.decision(study, decision_id)


@router.post("/decisions/{decision_id}/replay")
def replay_decision(study: StudyServed, decision_id: DecisionId) -> Replay:
    """Rebuild the plan of a decision from its stored inputs, and compare."""
    with readable_errors():
        return decisions.replayed(study, decision_id)


@router.post("/reopen")
def reopen(study: StudyServed, image: Annotated[str, Body(embed=True)]) -> dict[str, str]:
    """Undo an exclusion."""
    with readable_errors():
        summary.reopen(study, check_id(image))
    log.info("%s: the exclusion was undone", image)
    return {"image": image}
