"""From scores and performance to a plan: the order in which scans are handed out."""

import logging
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from fair_strategy.acquisition.performance import GroupPerformance
from fair_strategy.acquisition.selection import RankedCase, percentiles
from fair_strategy.acquisition.strategies import NEEDS_SCORES, STRATEGIES, Pool, PoolCase
from fair_strategy.acquisition.weights import group_weights
from fair_strategy.data import bids
from fair_strategy.store import cases, plans, scores
from fair_strategy.store.plans import PlanRecord, PlanRow
from fair_strategy.store.scores import ScoreRecord
from fair_strategy.workflows.performance import study_performance
from fair_strategy.workflows.study import Study, masked_score

log = logging.getLogger(__name__)

ALWAYS_MADE = "balanced_random"
"""The strategy that needs no score: it has a plan from the first minute, and serves for others."""


def make_plans(study: Study) -> list[int]:
    """Write a new plan of every strategy that can be made now; their ids.

    Strategies that need scores are left out while no case of the pool has one.
    """
    current = scores.current_model(study.store)
    model = current.checksum if current else None
    found = scores.scores(study.store, model, study.settings_hash) if model else {}
    pool, performance = pool_of(study, found)
    scored = any(case.entropies for case in pool.cases)
    if scored and all(p.n == 0 for p in performance.values()):
        log.warning(
            "no label to measure performance on (estimator %s, n = 0): every weight is 1",
            study.settings.estimator,
        )
    made = []
    for name in STRATEGIES:
        if scored or name not in NEEDS_SCORES:
            made.append(_write_plan(study, name, pool, performance, model))
    log.info("made %d plans over %d cases", len(made), len(pool.cases))
    return made


def pool_of(
    study: Study, found: dict[str, ScoreRecord]
) -> tuple[Pool, dict[str, GroupPerformance]]:
    """The unlabelled cases with their scores, and the performance that the weights come from."""
    subgroups, settings = study.subgroups(), study.settings
    performance = study_performance(study)
    ids = sorted(cases.unlabelled_ids(study.store))
    splits = cases.splits(study.store)
    subject = {c.case_id: c.subject_id for c in cases.cases(study.store)}
    pool = Pool(
        cases=tuple(
            PoolCase(
                i,
                subgroups[i],
                found[i].entropies if i in found else {},
                found[i].flags if i in found else (),
            )
            for i in ids
        ),
        weights=weights_of(study, performance, [subgroups[i] for i in ids]),
        masked_score=masked_score(settings),
        quota_batch=settings.quota_batch,
        audit_every=settings.audit_every,
        first=frozenset(i for i in ids if subject[i] in splits),
    )
    return pool, performance


def weights_of(
    study: Study, performance: dict[str, GroupPerformance], candidate_groups: list[str]
) -> dict[str, float]:
    """Weight of each subgroup by the study's rule, from the shrunk performance, mean 1."""
    if not study.cohort().fairness_on or all(p.n == 0 for p in performance.values()):
        return dict.fromkeys(performance, 1.0)
    subgroups = study.subgroups()
    labelled = [subgroups[i] for i in cases.labelled_ids(study.store) if i in subgroups]
    return group_weights(
        {name: p.shrunk for name, p in performance.items()},
        rule=study.settings.rule,
        previous=_previous_weights(study),
        labelled_counts={g: labelled.count(g) for g in performance},
        candidate_counts={g: candidate_groups.count(g) for g in performance},
        attainable=dict(study.settings.attainable) or None,
        temperature=study.settings.temperature,
        eta=study.settings.eta,
    )


def replay(study: Study, decision_id: int) -> dict[str, Any]:
    """Rebuild the plan behind a decision from its stored inputs and compare.

    Returns:
        ``decision``, ``plan``, ``strategy``, ``case_id``, ``position``, ``replayed`` (the case that
        the rebuilt plan has there) and ``same`` (True if every row came out as stored).
    Raises:
        LookupError: if there is no such decision.
    """
    decision = plans.decision(study.store, decision_id)
    plan = plans.plan(study.store, decision.plan_id)
    stored = plans.rows(study.store, decision.plan_id)
    rebuilt = _order(plan.strategy, Pool.from_json(plan.inputs), plan.seed)
    return {
        "decision": decision_id,
        "plan": plan.plan_id,
        "strategy": plan.strategy,
        "position": decision.position,
        "case_id": decision.case_id,
        "replayed": rebuilt[decision.position].case_id,
        "same": [r.case_id for r in stored] == [r.case_id for r in rebuilt],
    }


def plan_is_stale(study: Study) -> bool:
    """Whether model, settings, scores or scans differ from those of the newest plans."""
    newest = plans.plan_head(study.store, ALWAYS_MADE)
    return newest is None or newest.note != _stamp(study)


def _write_plan(
    study: Study,
    strategy: str,
    pool: Pool,
    performance: dict[str, GroupPerformance],
    model: str | None,
) -> int:
    n_labelled = len(cases.labelled_ids(study.store))
    seed = int(np.random.default_rng([study.settings.seed, n_labelled]).integers(2**31))
    ranked = _order(strategy, pool, seed)
    plan = PlanRecord(
        plan_id=None,
        strategy=strategy,
        model=model if strategy in NEEDS_SCORES else None,
        settings_version=study.settings_version,
        seed=seed,
        weights=dict(pool.weights),
        performance={name: asdict(p) for name, p in performance.items()},
        inputs=pool.to_json(),
        created_at=time.time(),
        note=_stamp(study),
    )
    return plans.add_plan(study.store, plan, _rows(ranked, pool))


def _order(strategy: str, pool: Pool, seed: int) -> list[RankedCase]:
    return STRATEGIES[strategy](pool, np.random.default_rng(seed))


def _rows(ranked: list[RankedCase], pool: Pool) -> list[PlanRow]:
    # Readers see where a scan's uncertainty lies among the pool's, never weight or utility.
    ids = [c.case_id for c in pool.cases]
    nan = float("nan")
    shown = percentiles(np.array([c.entropies.get(pool.masked_score, nan) for c in pool.cases]))
    percentile = dict(zip(ids, shown.tolist(), strict=True))
    return [
        PlanRow(
            position=position,
            case_id=row.case_id,
            subgroup=row.subgroup,
            score=row.case_entropy,
            utility=row.utility,
            percentile=percentile[row.case_id],
            reason=row.reason,
        )
        for position, row in enumerate(ranked)
    ]


def _stamp(study: Study) -> str:
    """What a plan depends on. Labels and leases are not in it: they never invalidate a plan."""
    current = scores.current_model(study.store)
    model = current.checksum if current else ""
    scored = scores.count_scores(study.store, model, study.settings_hash) if model else 0
    present = sum(c.present for c in cases.cases(study.store))
    table = bids.participants_file(study.images_dir)
    changed = table.stat().st_mtime_ns if table else 0
    return (
        f"{model[:16]} settings {study.settings_version} scored {scored} of {present} "
        f"participants {changed}"
    )


def _previous_weights(study: Study) -> dict[str, float] | None:
    newest = plans.latest_plan(study.store, "weighted_entropy")
    return dict(newest.weights) if newest else None
