"""The plan of a strategy that the last round made none of, because nobody had followed it."""

import threading
from dataclasses import dataclass

from fair_strategy.acquisition.pool import Pool
from fair_strategy.acquisition.strategies import NEEDS_FEATURES, NEEDS_SCORES
from fair_strategy.store import plans, scores
from fair_strategy.store.plans import PlanHead
from fair_strategy.workflows.plan_basis import Basis
from fair_strategy.workflows.planning import ALWAYS_MADE, each_round
from fair_strategy.workflows.study import Study

_one_at_a_time = threading.Lock()
"""Readers who ask at once wait for one plan after the other, and do not each make their own."""


@dataclass(frozen=True)
class _Round:
    """The newest plan of `ALWAYS_MADE`, a round's last, and the model behind the round's scores.

    Attributes:
        model: checksum; None if the round had no scores.
    """

    head: PlanHead
    model: str | None


def plan_if_missing(study: Study, strategy: str) -> int | None:
    """Make a strategy's plan from what the plans of the last round were made from.

    Weights, scores and seed are those of that round: it is the plan that the round would have made.
    Only the features of `core_set` are looked up now, and with them what is labelled meanwhile.

    Returns:
        Its id; None if it is there, or the round had not what the strategy needs. Cheap then.
    """
    if strategy in each_round(study.settings) or not _lacks(study, strategy, _last_round(study)):
        return None
    with _one_at_a_time:
        made, last = None, _last_round(study)
        while last is not None and _lacks(study, strategy, last):
            made = _basis_of(study, last).write_plan(study, strategy)
            if made is None:
                break
            last = _last_round(study)  # another process may have ended a round meanwhile
        return made


def _last_round(study: Study) -> _Round | None:
    default, last = each_round(study.settings)
    head = plans.plan_head(study.store, last)
    if head is None:
        return None
    scored = plans.plan_head(study.store, default, note=head.note)
    return _Round(head, scored.model if scored else None)


def _lacks(study: Study, strategy: str, last: _Round | None) -> bool:
    """Whether a strategy has no plan of a round and could, as far as that can be told at once."""
    own = plans.plan_head(study.store, strategy)
    if last is None or (own is not None and _is_up_to_date(study, own, last)):
        return False
    if strategy in NEEDS_FEATURES:
        # Features are found by the settings of today.
        return (
            last.model is not None
            and last.head.settings_version == study.settings_version
            and scores.have_features(study.store, last.model, study.settings_hash)
        )
    return last.model is not None or strategy not in NEEDS_SCORES


def _is_up_to_date(study: Study, own: PlanHead, last: _Round) -> bool:
    """Whether a plan is of the last round, or of one that is being made.

    A newer id alone does not tell: a plan gets it when its first rows are written.
    """
    if own.note == last.head.note:
        return True
    ended = plans.plan_head(study.store, ALWAYS_MADE, note=own.note) is not None
    return own.plan_id > last.head.plan_id and not ended


def _basis_of(study: Study, last: _Round) -> Basis:
    record = plans.plan(study.store, last.head.plan_id)
    return Basis(
        pool=Pool.from_json(record.inputs),
        performance=record.performance,
        seed=record.seed,
        model=last.model,
        settings_version=record.settings_version,
        stamp=record.note,
    )
