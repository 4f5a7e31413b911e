"""The plan of a strategy that the last round made none of, because nobody had followed it."""

import threading

from fair_strategy.acquisition.pool import Pool
from fair_strategy.acquisition.strategies import NEEDS_FEATURES, NEEDS_SCORES
from fair_strategy.store import plans, scores
from fair_strategy.store.plans import PlanHead
from fair_strategy.workflows.plan_basis import Basis
from fair_strategy.workflows.planning import ALWAYS_MADE, each_round
from fair_strategy.workflows.study import Study

_one_at_a_time = threading.Lock()
"""Readers who ask for one strategy at once wait for one plan, and do not each make their own."""


def plan_if_missing(study: Study, strategy: str) -> int | None:
    """Make a strategy's plan from what the plans of the last round were made from.

    Weights, scores and seed are those of that round: it is the plan that the round would have made.
    Only the features of `core_set` are looked up now, and with them what is labelled meanwhile.

    Returns:
        Its id; None if it is there, or the round had not what the strategy needs. Cheap then.
    """
    if strategy in each_round(study.settings) or _round_without(study, strategy) is None:
        return None
    with _one_at_a_time:
        made, last = None, _round_without(study, strategy)
        while last is not None:
            made = _basis_of(study, last).write_plan(study, strategy)
            newest = plans.plan_head(study.store, ALWAYS_MADE)
            # Another process may have planned meanwhile: then this one is of the round before.
            again = newest is not None and newest != last and _can_have(study, strategy, newest)
            last = newest if again else None
        return made


def _round_without(study: Study, strategy: str) -> PlanHead | None:
    """The last round, by its plan of `ALWAYS_MADE`, if the strategy has no plan of it and can."""
    last, own = (plans.plan_head(study.store, name) for name in (ALWAYS_MADE, strategy))
    if last is None:
        return None
    # That plan is a round's last one: a newer plan of another note is of the round being made.
    there = own is not None and (own.note == last.note or own.plan_id > last.plan_id)
    return last if not there and _can_have(study, strategy, last) else None


def _can_have(study: Study, strategy: str, last: PlanHead) -> bool:
    """Whether a round had what the strategy needs, as far as that can be told at once."""
    if strategy not in NEEDS_SCORES:
        return True
    model = _model_of(study, last)
    return model is not None and (
        strategy not in NEEDS_FEATURES
        or scores.have_features(study.store, model, study.settings_hash)
    )


def _model_of(study: Study, last: PlanHead) -> str | None:
    """The model behind a round's scores; None if it had none."""
    default = plans.plan_head(study.store, each_round(study.settings)[0])
    return default.model if default is not None and default.note == last.note else None


def _basis_of(study: Study, last: PlanHead) -> Basis:
    record = plans.plan(study.store, last.plan_id)
    return Basis(
        pool=Pool.from_json(record.inputs),
        performance=record.performance,
        seed=record.seed,
        model=_model_of(study, last),
        settings_version=record.settings_version,
        stamp=record.note,
    )
