"""What the background does for a study: score, compare, plan; each is repeatable at any time."""

from collections.abc import Callable
from typing import Any

from fair_strategy.workflows.desk import pending_work
from fair_strategy.workflows.executors import Workers
from fair_strategy.workflows.performance import compare_labels
from fair_strategy.workflows.planning import make_plans, plan_is_stale
from fair_strategy.workflows.scoring import score_study
from fair_strategy.workflows.study import Study


def score_and_plan(
    study: Study,
    *,
    workers: Workers | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score what the current model has not scored; then compare labels and make plans.

    Args:
        workers: see score_study; so is progress.
    """
    report = score_study(study, workers=workers, progress=progress)
    compared = compare_labels(study)
    plans = make_plans(study) if plan_is_stale(study) or compared else []
    return {
        "scored": report.scored,
        "unreadable": len(report.unreadable),
        **({"unavailable": report.unavailable} if report.unavailable else {}),
        "compared": compared,
        "plans": len(plans),
        "seconds": round(report.seconds, 1),
    }


def settle(study: Study, *, score: bool = True) -> None:
    """Do all that is pending, training apart: the state in which a slow reader finds a study.

    Args:
        score: also score; not needed where scans are drawn at random.
    """
    if score and pending_work(study)["unscored"]:
        score_and_plan(study)
    if pending_work(study)["uncompared"]:
        compare_labels(study)
    if plan_is_stale(study):
        make_plans(study)
