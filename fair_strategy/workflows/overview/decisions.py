"""Who holds what, what was decided, and what it was decided from."""

from collections.abc import Sequence

from fair_strategy.store import plans
from fair_strategy.store.plans import DecisionRecord as StoredDecision, PlanRecord, PlanRow
from fair_strategy.workflows.overview.counts import group_weights_of
from fair_strategy.workflows.overview.figures import (
    Candidate,
    Decision,
    DecisionRecord,
    Decisions,
    HeldScan,
    Leases,
    Replay,
)
from fair_strategy.workflows.overview.keeping import SHORT, moment
from fair_strategy.workflows.overview.performance import finite
from fair_strategy.workflows.planning import replay
from fair_strategy.workflows.study import Study

SHOWN_CANDIDATES = 200


def leases(study: Study, *, now: float) -> Leases:
    """The running leases; `now` is monotonic time, s."""
    return Leases(
        leases=tuple(
            HeldScan(
                image=held.case_id,
                client_id=held.client_id,
                seconds_left=held.expires_at - now,
                decision=held.decision_id,
            )
            for held in plans.leases(study.store, now)
        )
    )


def decisions(study: Study, *, limit: int) -> Decisions:
    """The last `limit` decisions, newest first."""
    return Decisions(decisions=tuple(map(_decision, plans.decisions(study.store, limit))))


def decision(study: Study, decision_id: int) -> DecisionRecord:
    """One decision with seed, weights and the candidates of its plan, the chosen one among them.

    Raises:
        LookupError: if there is none.
    """
    record = plans.decision(study.store, decision_id)
    plan = plans.plan(study.store, record.plan_id)
    rows = plans.rows(study.store, record.plan_id)
    return DecisionRecord(
        decision=_decision(record),
        seed=plan.seed,
        settings_version=plan.settings_version,
        planned_at=moment(plan.created_at),
        score=plan.inputs.get("weighted_score") or plan.inputs["masked_score"],
        quota_batch=plan.inputs["quota_batch"],
        audit_every=plan.inputs["audit_every"],
        weights=group_weights_of(plan.weights),
        total=len(rows),
        candidates=_candidates(plan, rows, record.position),
    )


def replayed(study: Study, decision_id: int) -> Replay:
    """The plan of a decision, rebuilt and compared.

    Raises:
        LookupError: if there is no such decision.
    """
    told = replay(study, decision_id)
    return Replay(image=told.pop("case_id"), **told)


def _candidates(plan: PlanRecord, rows: Sequence[PlanRow], chosen: int) -> tuple[Candidate, ...]:
    shown = [r for r in rows if r.position < SHOWN_CANDIDATES or r.position == chosen]
    return tuple(
        Candidate(
            position=row.position,
            image=row.case_id,
            score=finite(row.score),
            weight=plan.weights.get(row.subgroup),
            utility=finite(row.utility),
            reason=row.reason,
            chosen=row.position == chosen,
        )
        for row in shown
    )


def _decision(record: StoredDecision) -> Decision:
    return Decision(
        decision=record.decision_id,
        plan=record.plan_id,
        position=record.position,
        image=record.case_id,
        client_id=record.client_id,
        strategy=record.strategy,
        model=record.model[:SHORT] if record.model else None,
        created_at=moment(record.created_at),
    )
