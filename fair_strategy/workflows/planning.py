"""From scores and performance to a plan: the order in which scans are handed out."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from fair_strategy.acquisition.performance import GroupPerformance
from fair_strategy.acquisition.pool import Pool, PoolCase
from fair_strategy.acquisition.strategies import NEEDS_PASSES, STRATEGIES
from fair_strategy.acquisition.weights import group_weights
from fair_strategy.config import StudySettings
from fair_strategy.data import bids
from fair_strategy.store import cases, plans, scores
from fair_strategy.store.plans import PlanRecord
from fair_strategy.store.scores import ScoreRecord
from fair_strategy.store.settings import get_value, set_value
from fair_strategy.workflows.performance import count_comparisons, study_performance
from fair_strategy.workflows.plan_basis import Basis, order
from fair_strategy.workflows.study import Study, masked_score, weighted_score

log = logging.getLogger(__name__)

ALWAYS_MADE = "balanced_random"
"""The strategy that needs no score: it has a plan from the first minute, and serves for others."""


def offered(settings: StudySettings) -> tuple[str, ...]:
    """The strategies that make sense under these settings, the default first."""
    return tuple(name for name in STRATEGIES if not refusal(name, settings))


def refusal(strategy: str, settings: StudySettings) -> str:
    """Why a study of these settings does not offer a strategy, in a sentence; "" if it does."""
    if strategy not in STRATEGIES:
        return f"strategy {strategy!r}: expected one of {', '.join(offered(settings))}"
    if strategy in NEEDS_PASSES and settings.passes < 2:
        return (
            f"strategy {strategy!r} ranks by how far stochastic passes disagree, and this study "
            f"makes {settings.passes}: set passes to 2 or more, e.g. passes 8"
        )
    return ""


def each_round(settings: StudySettings) -> tuple[str, str]:
    """The strategies that are planned in each round, if they can be: the default and the last."""
    return offered(settings)[0], ALWAYS_MADE


def make_plans(study: Study) -> list[int]:
    """Write a new plan of every strategy in use that can be made now; their ids.

    In use are the default, `ALWAYS_MADE`, and what readers have followed; any other strategy gets
    its plan when somebody asks for it (late_plans.py). Strategies that need scores, or features,
    are left out while no case of the pool has them.
    """
    basis = _basis(study)
    default, last = each_round(study.settings)
    followed = plans.followed(study.store) - {default, last}
    in_use = [name for name in offered(study.settings) if name in followed]
    # That of ALWAYS_MADE comes last: once it is there, so are the others of its round.
    tried = [basis.write_plan(study, name) for name in (default, *in_use, last)]
    made = [plan_id for plan_id in tried if plan_id is not None]
    log.info("made %d plans over %d cases", len(made), len(basis.pool.cases))
    return made


def _basis(study: Study) -> Basis:
    stamp = _stamp(study)  # before what it stands for is read: what comes later makes it stale
    model = scores.current_checksum(study.store)
    found = scores.scores(study.store, model, study.settings_hash) if model else {}
    performance = study_performance(study)
    pool = _pool(study, found, performance)
    if any(case.entropies for case in pool.cases) and all(p.n == 0 for p in performance.values()):
        log.warning(
            "no label to measure performance on (estimator %s, n = 0): every weight is 1",
            study.settings.estimator,
        )
    n_labelled = len(cases.labelled_ids(study.store))
    return Basis(
        pool=pool,
        performance={name: asdict(p) for name, p in performance.items()},
        seed=int(np.random.default_rng([study.settings.seed, n_labelled]).integers(2**31)),
        model=model,
        settings_version=study.settings_version,
        stamp=stamp,
    )


def _pool(
    study: Study, found: dict[str, ScoreRecord], performance: dict[str, GroupPerformance]
) -> Pool:
    """The unlabelled cases with their scores, weighted by how each subgroup is segmented."""
    settings = study.settings
    ids = sorted(cases.unlabelled_ids(study.store))
    subgroups = study.subgroups()  # read last: a scan that came since is left to the next plan
    splits, subject = cases.splits(study.store), cases.subjects(study.store)
    return Pool(
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
        weighted_score=weighted_score(settings),
        quota_batch=settings.quota_batch,
        audit_every=settings.audit_every,
        first=frozenset(i for i in ids if subject[i] in splits),
    )


def weights_of(
    study: Study, performance: dict[str, GroupPerformance], candidate_groups: list[str]
) -> dict[str, float]:
    """Weight of each subgroup by the study's rule, from the shrunk performance, mean 1."""
    if not study.cohort().fairness_on:
        return dict.fromkeys(performance, 1.0)
    subgroups = study.subgroups()
    labelled = Counter(subgroups[i] for i in cases.labelled_ids(study.store) if i in subgroups)
    waiting = Counter(candidate_groups)
    before = _weights_before(study)
    weights = group_weights(
        {name: p.shrunk for name, p in performance.items()},
        rule=study.settings.rule,
        previous=before,
        labelled_counts={g: labelled[g] for g in performance},
        candidate_counts={g: waiting[g] for g in performance},
        attainable=dict(study.settings.attainable) or None,
        temperature=study.settings.temperature,
        eta=study.settings.eta,
    )
    _remember_weights(study, weights, before)
    return weights


def replay(study: Study, decision_id: int) -> dict[str, Any]:
    """Rebuild the plan behind a decision from its stored inputs and compare.

    One whose scans have another name since, because their person was erased, is rebuilt as well.

    Returns:
        ``decision``, ``plan``, ``strategy``, ``case_id``, ``position``, ``replayed`` (the case that
        the rebuilt plan has there) and ``same`` (True if every row came out as stored).
    Raises:
        LookupError: if there is no such decision.
    """
    decision = plans.decision(study.store, decision_id)
    plan = plans.plan(study.store, decision.plan_id)
    stored = plans.rows(study.store, decision.plan_id)
    rebuilt = _rebuilt(plan)
    return {
        "decision": decision_id,
        "plan": plan.plan_id,
        "strategy": plan.strategy,
        "position": decision.position,
        "case_id": decision.case_id,
        "replayed": rebuilt[decision.position],
        "same": [r.case_id for r in stored] == rebuilt,
    }


def _rebuilt(plan: PlanRecord) -> list[str]:
    """Ids in the order of a plan, made again from its inputs."""
    pool = Pool.from_json(plan.inputs)
    ids = [case.case_id for case in pool.cases]
    if ids == sorted(ids):
        return [row.case_id for row in order(plan.strategy, pool, plan.seed)]
    # They were sorted when the plan was made; an erasure leaves a random name in the same place.
    return [ids[int(row.case_id)] for row in order(plan.strategy, pool.numbered(), plan.seed)]


def plan_is_stale(study: Study) -> bool:
    """Whether model, settings, scores or scans differ from those of the last round of plans."""
    last = plans.plan_head(study.store, ALWAYS_MADE)
    return last is None or last.note != _stamp(study)


def _stamp(study: Study) -> str:
    """What a plan depends on: model, settings, scans, scores, table, and what is measured at all.

    Labels and leases are not in it, except for those of the validation set: the first figures of
    a subgroup are worth a new plan, and the set is bounded.
    """
    model = scores.current_checksum(study.store) or ""
    scored = scores.digest_of_scored(study.store, model, study.settings_hash)
    scans = cases.digest_of_files(study.store)
    table = bids.participants_file(study.images_dir)
    changed = table.stat().st_mtime_ns if table else 0
    parts = (model, study.settings_version, scans, scored, changed, _evidence(study))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _evidence(study: Study) -> list[tuple[str, int]]:
    """How many comparisons each subgroup's figure rests on; for growing sets only whether any."""
    counted: Mapping[str, int] = count_comparisons(study)
    if study.settings.estimator != "validation":
        counted = {name: min(n, 1) for name, n in counted.items()}
    return sorted(counted.items())


_WEIGHTS = "weights_by_model"


def _weights_before(study: Study) -> dict[str, float] | None:
    """The weights under the model before the current one; rule `exponentiated` builds on them."""
    kept = json.loads(get_value(study.store, _WEIGHTS) or "null")
    if kept is None:
        return None
    same_model = kept["model"] == _model(study)
    before: dict[str, float] | None = kept["before"] if same_model else kept["weights"]
    return before


def _remember_weights(
    study: Study, weights: dict[str, float], before: dict[str, float] | None
) -> None:
    kept = {"model": _model(study), "weights": weights, "before": before}
    set_value(study.store, _WEIGHTS, json.dumps(kept))


def _model(study: Study) -> str:
    return scores.current_checksum(study.store) or ""
