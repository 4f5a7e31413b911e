"""Query strategies: each one a function ``order(pool, rng)`` that puts a pool of cases in order.

Server, command line and simulation all call these; none has an order of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fair_strategy.acquisition.selection import (
    Candidate,
    RankedCase,
    balanced_random,
    rank,
)

WHOLE_VOLUME = "entropy"
"""Score of standard entropy sampling: the mean over the whole field of view."""


@dataclass(frozen=True)
class PoolCase:
    """One candidate with everything that a strategy may look at.

    Attributes:
        entropies: name of a case entropy -> value in nats; empty if the case has no score yet.
        flags: why its prediction is implausible; empty if it is not.
    """

    case_id: str
    subgroup: str
    entropies: Mapping[str, float]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pool:
    """The unlabelled cases and the state of the study at one moment.

    Attributes:
        cases: the candidates, in any order.
        weights: subgroup -> weight, mean 1.
        masked_score: which case entropy inside the ROI is used.
        quota_batch: batch size in which the weights act as quotas; 0 for plain utility.
        audit_every: one place of so many is drawn at random; 0 for none.
        first: cases handed out before all others (the frozen validation set).
    """

    cases: tuple[PoolCase, ...]
    weights: Mapping[str, float]
    masked_score: str = "masked_mean"
    quota_batch: int = 0
    audit_every: int = 0
    first: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """Plain values from which `from_json` rebuilds this pool."""
        return {
            "cases": [
                [c.case_id, c.subgroup, dict(c.entropies), list(c.flags)] for c in self.cases
            ],
            "weights": dict(self.weights),
            "masked_score": self.masked_score,
            "quota_batch": self.quota_batch,
            "audit_every": self.audit_every,
            "first": sorted(self.first),
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Pool":
        """The pool that `to_json` described."""
        cases = tuple(PoolCase(i, g, dict(e), tuple(f)) for i, g, e, f in plain["cases"])
        return cls(
            cases=cases,
            weights=dict(plain["weights"]),
            masked_score=plain["masked_score"],
            quota_batch=plain["quota_batch"],
            audit_every=plain["audit_every"],
            first=frozenset(plain["first"]),
        )


Order = Callable[[Pool, np.random.Generator], list[RankedCase]]


def weighted_entropy(pool: Pool, rng: np.random.Generator) -> list[RankedCase]:
    """Cases by weight of their subgroup x entropy inside the ROI, with quotas and audit slots."""
    return rank(
        _candidates(pool, pool.masked_score),
        pool.weights,
        rng=rng,
        quota_batch=pool.quota_batch or None,
        audit_every=pool.audit_every or None,
        first=pool.first,
    )


def masked_entropy(pool: Pool, rng: np.random.Generator) -> list[RankedCase]:
    """Cases by entropy inside the ROI; every subgroup weighs the same."""
    return rank(_candidates(pool, pool.masked_score), _uniform(pool), rng=rng, first=pool.first)


def entropy(pool: Pool, rng: np.random.Generator) -> list[RankedCase]:
    """Cases by mean entropy over the whole volume: standard entropy sampling, the baseline."""
    candidates = [replace(c, flags=()) for c in _candidates(pool, WHOLE_VOLUME)]
    return rank(candidates, _uniform(pool), rng=rng, first=pool.first)


def balanced_random_order(pool: Pool, rng: np.random.Generator) -> list[RankedCase]:
    """Cases at random, the subgroups in turn: the honest baseline for fairness."""
    cases = sorted((c for c in pool.cases if c.case_id not in pool.first), key=_case_id)
    order = balanced_random([c.case_id for c in cases], [c.subgroup for c in cases], rng=rng)
    return _without_scores(pool, rng, order)


def random_order(pool: Pool, rng: np.random.Generator) -> list[RankedCase]:
    """Cases at random, each as likely as any other."""
    rest = sorted(c.case_id for c in pool.cases if c.case_id not in pool.first)
    return _without_scores(pool, rng, [rest[i] for i in rng.permutation(len(rest))])


STRATEGIES: Mapping[str, Order] = {
    "weighted_entropy": weighted_entropy,
    "masked_entropy": masked_entropy,
    "entropy": entropy,
    "balanced_random": balanced_random_order,
    "random": random_order,
}
"""Every strategy by its public name; the first is the default."""

NEEDS_SCORES = frozenset({"weighted_entropy", "masked_entropy", "entropy"})
"""Strategies that mean nothing before the pool was scored."""


def _case_id(case: PoolCase) -> str:
    return case.case_id


def _uniform(pool: Pool) -> dict[str, float]:
    return {case.subgroup: 1.0 for case in pool.cases}


def _candidates(pool: Pool, score: str) -> list[Candidate]:
    return [
        Candidate(c.case_id, c.subgroup, _score(c, score), c.flags)
        for c in sorted(pool.cases, key=_case_id)
    ]


def _score(case: PoolCase, name: str) -> float:
    value = case.entropies.get(name, float("nan"))
    # An empty prediction has no ROI and so no entropy; its flag ranks it, not a missing number.
    return 0.0 if np.isnan(value) and case.flags else value


def _without_scores(pool: Pool, rng: np.random.Generator, order: list[str]) -> list[RankedCase]:
    by_id = {case.case_id: case for case in pool.cases}
    first = sorted(pool.first & by_id.keys())
    first = [first[i] for i in rng.permutation(len(first))]
    nan = float("nan")
    return [
        RankedCase(i, by_id[i].subgroup, nan, 1.0, nan, "validation" if i in pool.first else "")
        for i in first + order
    ]
