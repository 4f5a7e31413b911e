"""Query strategies: each one a function ``order(pool, rng)`` that puts a pool of cases in order.

Server, command line and simulation all call these; none has an order of its own.
"""

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from fair_strategy.acquisition.diversity import k_center_greedy, random_batches
from fair_strategy.acquisition.pool import (
    MUTUAL_INFORMATION,
    WHOLE_VOLUME,
    Pool,
    PoolCase,
)
from fair_strategy.acquisition.selection import (
    Candidate,
    RankedCase,
    balanced_random,
    rank,
)

CORE_SET_PICKS = 256
"""So many places of a plan of `core_set` are picked one by one; more than readers take from one."""

BATCH_SIZE = 10
"""Of `stochastic_batches` in a study without `quota_batch`."""

Order = Callable[[Pool, np.random.Generator], list[RankedCase]]


def weighted_entropy(pool: Pool, rng: np.random.Generator) -> list[RankedCase]:
    """Cases by weight of their subgroup x entropy, with quotas and audit slots.

    The entropy is that of the ROI, or of the whole volume, as `pool.weighted_score` says.
    """
    return rank(
        _candidates(pool, pool.weighted_score or pool.masked_score),
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
    candidates = _candidates(pool, WHOLE_VOLUME)
    plain = [Candidate(c.case_id, c.subgroup, c.case_entropy) for c in candidates]
    return rank(plain, _uniform(pool), rng=rng, first=pool.first)


def balanced_random_order(pool: Pool, rng: np.random.Generator) -> list[RankedCase]:
    """Cases at random, the subgroups in turn: the honest baseline for fairness."""
    cases = _others(pool)
    order = balanced_random([c.case_id for c in cases], [c.subgroup for c in cases], rng=rng)
    return _without_scores(pool, rng, order)


def random_order(pool: Pool, rng: np.random.Generator) -> list[RankedCase]:
    """Cases at random, each as likely as any other."""
    rest = _others(pool)
    return _without_scores(pool, rng, [rest[i].case_id for i in rng.permutation(len(rest))])


def bald(pool: Pool, rng: np.random.Generator) -> list[RankedCase]:
    """Cases by mutual information inside the ROI: where stochastic passes disagree, each certain.

    References:
        Houlsby et al. 2011, arXiv:1112.5745; Gal et al. 2017, arXiv:1703.02910.
    """
    return rank(_candidates(pool, MUTUAL_INFORMATION), _uniform(pool), rng=rng, first=pool.first)


def core_set(pool: Pool, rng: np.random.Generator) -> list[RankedCase]:
    """Cases that the labelled ones cover worst: greedy k-center on the network's features.

    The first `CORE_SET_PICKS` are picked one by one, the others follow by distance; the utility is
    the distance to the nearest centre. Cases without features come last, at random.

    References:
        Sener and Savarese 2018, arXiv:1708.00489.
    """
    cases = {c.case_id: c for c in _others(pool)}
    rows = [n for n, case_id in enumerate(pool.features.case_ids) if case_id in cases]
    known = [cases[pool.features.case_ids[n]] for n in rows]
    order, distances = k_center_greedy(
        pool.features.rows[rows], pool.labelled_features.rows, count=CORE_SET_PICKS, rng=rng
    )
    ranked = [
        _unweighted(known[n], float("nan"), float(distance), "")
        for n, distance in zip(order, distances, strict=True)
    ]
    return [*_first(pool, rng), *ranked, *_at_random(cases.values(), ranked, rng)]


def stochastic_batches(pool: Pool, rng: np.random.Generator) -> list[RankedCase]:
    """Random batches, the batch of the highest mean entropy inside the ROI first.

    The size of a batch is the pool's, or `BATCH_SIZE`. An incomplete batch comes after the others,
    cases without a score come last. The utility is the mean of the batch; where an implausible
    prediction has less than the pool's largest entropy, that one stands in.

    References:
        Gaillochet, Desrosiers and Lombaert 2023, Medical Image Analysis 90, 102958,
        arXiv:2301.07670.
    """
    cases = _others(pool)
    values = np.array([_score(c, pool.masked_score) for c in cases], dtype=np.float64)
    if not np.isnan(values).all():
        values[[bool(c.flags) for c in cases]] = np.nanmax(values)
    scored = np.flatnonzero(~np.isnan(values))
    size = pool.quota_batch or BATCH_SIZE
    batches = [scored[drawn] for drawn in random_batches(size, len(scored), rng)]
    batches.sort(key=lambda batch: (len(batch) < size, -values[batch].mean()))
    ranked = [
        _unweighted(cases[n], _score(cases[n], pool.masked_score), float(values[batch].mean()), "")
        for batch in batches
        for n in batch
    ]
    return [*_first(pool, rng), *ranked, *_at_random(cases, ranked, rng)]


STRATEGIES: Mapping[str, Order] = {
    "weighted_entropy": weighted_entropy,
    "masked_entropy": masked_entropy,
    "entropy": entropy,
    "balanced_random": balanced_random_order,
    "random": random_order,
    "bald": bald,
    "core_set": core_set,
    "stochastic_batches": stochastic_batches,
}
"""Every strategy by its public name; the first is the default."""

NEEDS_SCORES = frozenset(STRATEGIES) - {"balanced_random", "random"}
"""Strategies that mean nothing before the pool was scored."""

NEEDS_PASSES = frozenset({"bald"})
"""Strategies that compare stochastic passes: one pass has no mutual information."""

NEEDS_FEATURES = frozenset({"core_set"})
"""Strategies that look at the pool's features."""


def can_order(strategy: str, pool: Pool) -> bool:
    """Whether the pool holds what the strategy needs, for one case at least."""
    if strategy in NEEDS_PASSES:
        return any(MUTUAL_INFORMATION in c.entropies for c in pool.cases)
    if strategy in NEEDS_FEATURES:
        return len(pool.features) > 0
    return strategy not in NEEDS_SCORES or any(c.entropies for c in pool.cases)


def _case_id(case: PoolCase) -> str:
    return case.case_id


def _others(pool: Pool) -> list[PoolCase]:
    return sorted((c for c in pool.cases if c.case_id not in pool.first), key=_case_id)


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
    return 0.0 if math.isnan(value) and case.flags else value


def _without_scores(pool: Pool, rng: np.random.Generator, order: list[str]) -> list[RankedCase]:
    by_id = {case.case_id: case for case in pool.cases}
    nan = float("nan")
    return [*_first(pool, rng), *(_unweighted(by_id[i], nan, nan, "") for i in order)]


def _first(pool: Pool, rng: np.random.Generator) -> list[RankedCase]:
    nan = float("nan")
    first = sorted((c for c in pool.cases if c.case_id in pool.first), key=_case_id)
    return [_unweighted(first[i], nan, nan, "validation") for i in rng.permutation(len(first))]


def _at_random(
    cases: Iterable[PoolCase], ranked: list[RankedCase], rng: np.random.Generator
) -> list[RankedCase]:
    """Those of the cases that are not ranked."""
    done = {row.case_id for row in ranked}
    rest = sorted((c for c in cases if c.case_id not in done), key=_case_id)
    nan = float("nan")
    return [_unweighted(rest[i], nan, nan, "") for i in rng.permutation(len(rest))]


def _unweighted(case: PoolCase, score: float, utility: float, reason: str) -> RankedCase:
    return RankedCase(case.case_id, case.subgroup, score, 1.0, utility, reason)
