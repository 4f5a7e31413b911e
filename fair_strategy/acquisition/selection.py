"""The order in which cases are served."""

import math
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fair_strategy.acquisition.quotas import exact_shares, quotas, shares

_BATCHES_BEFORE = 1000  # a plan starts after a random number of batches below this

REASONS = ("", "implausible", "audit", "quota", "validation")


@dataclass(frozen=True)
class Candidate:
    """A case that can be served.

    Attributes:
        case_id: of one scan.
        subgroup: of its person.
        case_entropy: in nats, 0 or more; NaN where it is not scored yet.
        flags: what makes its prediction implausible; empty if nothing does.
    """

    case_id: str
    subgroup: str
    case_entropy: float
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class RankedCase:
    """A case at its place in the order.

    Attributes:
        case_id: of one scan.
        subgroup: of its person.
        case_entropy: in nats, as it was scored; NaN where it was not.
        weight: of its subgroup.
        utility: weight x case entropy; for an implausible case weight x the pool's largest entropy.
        reason: why it stands here: "" (by utility), "implausible", "audit" (drawn at random),
            "quota" (before a case of higher utility), "validation".
    """

    case_id: str
    subgroup: str
    case_entropy: float
    weight: float
    utility: float
    reason: str


def rank(
    candidates: Sequence[Candidate],
    weights: Mapping[str, float],
    *,
    rng: np.random.Generator,
    quota_batch: int | None = None,
    audit_every: int | None = None,
    first: Collection[str] = (),
) -> list[RankedCase]:
    """Candidates in the order of serving: validation, implausible, by utility, not yet scored.

    - validation: the cases of `first`, in random order.
    - implausible: the flagged cases by utility, with the pool's largest entropy in place of theirs.
    - by utility: weight x entropy, highest first, with quotas and audit slots if asked for.
    - not yet scored: the cases of NaN entropy, in random order.

    Quotas: the numbers of a batch's cases per group follow weight_g / sum of the weights over the
    groups that still have cases; between two models the head would otherwise be of one group only.
    What rounding to whole cases gives or takes is carried over to the next batch, and the first one
    starts as if after a random number of others: so a group whose share of one batch is less than a
    case gets it over several batches, or plans. Within a batch the groups alternate, each spread
    evenly from a random phase on, so that a batch that is cut short by a new plan has the same
    shares on average. Audit slots: one place of so many by utility, from
    a random one on, goes to a case drawn uniformly from what is left of a group, the group being
    drawn by the same quotas.

    Args:
        candidates: with unique ids; the order does not matter.
        weights: of every subgroup among them, 0 or more.
        rng: breaks ties and draws; the same state gives the same order.
        quota_batch: cases a batch, 1 or more; None for no quotas.
        audit_every: distance of the audit slots, 1 or more; None for none.
        first: case ids to serve before all others; ids that are no candidates are passed over.
    Returns:
        Every candidate once. Equal utilities: by entropy, then at random.
    Raises:
        ValueError: for a repeated id, a subgroup without weight, a negative or infinite entropy or
            weight, or a batch or distance below 1.
    References:
        docs/method.md#ranking.
    """
    _check(candidates, weights, quota_batch, audit_every)
    pool = _shuffled(candidates, rng)
    ahead = frozenset(first)
    firsts = [c for c in pool if c.case_id in ahead]
    others = [c for c in pool if c.case_id not in ahead]
    flagged = [c for c in others if c.flags]
    scored = [c for c in others if not c.flags and not math.isnan(c.case_entropy)]
    unscored = [c for c in others if not c.flags and math.isnan(c.case_entropy)]
    queues = _Queues([_ranked(c, weights, "") for c in scored], weights, rng)
    return [
        *(_ranked(c, weights, "validation") for c in firsts),
        *_implausible(flagged, weights, others),
        *queues.drain(quota_batch=quota_batch, audit_every=audit_every),
        *(_ranked(c, weights, "") for c in unscored),
    ]


def balanced_random(
    case_ids: Sequence[str], groups: Sequence[str], *, rng: np.random.Generator
) -> list[str]:
    """Cases in random order, one of each group in turn as long as the groups last.

    Args:
        case_ids: unique; their order does not matter.
        groups: their subgroups, as many.
        rng: the order of the cases in a group, and of the groups in each turn.
    Returns:
        Every case once.
    Raises:
        ValueError: for a repeated id, or if the two are not as many.
    """
    if len(case_ids) != len(groups):
        raise ValueError(f"got {len(case_ids)} case_ids and {len(groups)} groups; give as many")
    _check_unique(case_ids)
    pairs = sorted(zip(case_ids, groups, strict=True))
    waiting: dict[str, list[str]] = {group: [] for group in sorted(set(groups))}
    for index in rng.permutation(len(pairs)):
        waiting[pairs[index][1]].append(pairs[index][0])
    order: list[str] = []
    while waiting:
        names = list(waiting)
        order += [waiting[names[turn]].pop() for turn in rng.permutation(len(names))]
        waiting = {name: cases for name, cases in waiting.items() if cases}
    return order


def percentiles(values: ArrayLike) -> NDArray[np.float64]:
    """Percentage of the values below each one, equal ones (itself too) counted half.

    Args:
        values: (N,); NaN stays NaN and does not count.
    Returns:
        (N,), above 0 and below 100; 50 for a single value.
    Raises:
        ValueError: if values is not one-dimensional.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"values must be one-dimensional, got shape {array.shape}")
    result = np.full(array.shape, np.nan)
    known = ~np.isnan(array)
    _, place, counts = np.unique(array[known], return_inverse=True, return_counts=True)
    if place.size:
        result[known] = (100.0 * (np.cumsum(counts) - counts / 2) / place.size)[place]
    return result


class _Queues:
    """The scored cases of each group, best first, to be taken one by one."""

    def __init__(
        self, cases: list[RankedCase], weights: Mapping[str, float], rng: np.random.Generator
    ) -> None:
        self._weights = weights
        self._rng = rng
        self._cases: dict[str, list[RankedCase]] = {c.subgroup: [] for c in cases}
        # Stable: equal ones keep the random order in which they came.
        for case in sorted(cases, key=lambda c: (c.utility, c.case_entropy)):
            self._cases[case.subgroup].append(case)  # ascending, so that the best pops cheaply
        self._random = {c.case_id: place for place, c in enumerate(cases)}
        self._owed: dict[str, float] = {}

    def drain(self, *, quota_batch: int | None, audit_every: int | None) -> list[RankedCase]:
        if quota_batch is None and audit_every is None:
            return self._by_urgency()
        order: list[RankedCase] = []
        total = sum(map(len, self._cases.values()))
        # A plan may be replaced before its first audit slot is reached: that must not be the rule.
        phase = int(self._rng.integers(audit_every)) if audit_every else 0
        if quota_batch is not None:
            endless = dict.fromkeys(self._cases, sys.maxsize)
            self._quotas(quota_batch * int(self._rng.integers(_BATCHES_BEFORE)), endless)
        while len(order) < total:
            # Without quotas an audit's group is drawn at its own place, from all that is left.
            size = min(quota_batch or 1, total - len(order))
            places = range(phase + len(order), phase + len(order) + size)
            audits = [bool(audit_every) and place % (audit_every or 1) == 0 for place in places]
            order += self._batch(audits, with_quotas=quota_batch is not None)
        return order

    def _by_urgency(self) -> list[RankedCase]:
        """All that is left, where neither a quota nor an audit overtakes."""
        left = [case for cases in self._cases.values() for case in cases]
        self._cases.clear()
        return sorted(left, key=self._urgency, reverse=True)

    def _batch(self, audits: list[bool], *, with_quotas: bool) -> list[RankedCase]:
        """One batch; the groups of its audit slots are drawn before its best cases are taken."""
        left = {group: len(cases) for group, cases in sorted(self._cases.items()) if cases}
        size = len(audits)
        slots = self._quotas(size, left) if with_quotas else left
        audit_groups = self._draw_audit_groups(sum(audits), slots, by_slots=with_quotas)
        turns = iter(self._interleaved(slots) if with_quotas else ())
        return [
            self._take_any(audit_groups.pop())
            if is_audit
            else self._take_best(slots, next(turns, None))
            for is_audit in audits
        ]

    def _interleaved(self, slots: Mapping[str, int]) -> list[str]:
        """Groups in the order of a batch, each spread evenly from a random phase on.

        A batch may be cut short by a new plan: the groups' shares of what was served until then
        are those of the whole batch, on average over the phases.
        """
        phases = dict(zip(slots, self._rng.random(len(slots)).tolist(), strict=True))
        places = [
            (self._weights[group] == 0, (turn + phases[group]) / number, group)
            for group, number in slots.items()
            for turn in range(number)
        ]
        return [group for _, _, group in sorted(places)]

    def _quotas(self, size: int, left: dict[str, int]) -> dict[str, int]:
        """The batch's quotas; the fractions of places that they leave are owed to the next."""
        slots = quotas(size, self._weights, left, self._rng, owed=self._owed)
        for group, share in exact_shares(size, self._weights, left).items():
            self._owed[group] = self._owed.get(group, 0.0) + share - slots[group]
        return slots

    def _draw_audit_groups(
        self, number: int, slots: dict[str, int], *, by_slots: bool
    ) -> list[str]:
        """Groups of the batch's audit slots; each takes one of its group's slots."""
        drawn = []
        for _ in range(number):
            names = [group for group, free in slots.items() if free]
            own = shares(slots if by_slots else self._weights, names)
            group = names[int(self._rng.choice(len(names), p=own))]
            slots[group] -= 1
            drawn.append(group)
        return drawn

    def _take_any(self, group: str) -> RankedCase:
        case = self._cases[group].pop(int(self._rng.integers(len(self._cases[group]))))
        return _with_reason(case, "audit")

    def _take_best(self, slots: Mapping[str, int], group: str | None) -> RankedCase:
        """The best case of a group; of all that have a slot, if none is named."""
        heads = [cases[-1] for cases in self._cases.values() if cases]
        free = [c for c in heads if (c.subgroup == group if group else slots.get(c.subgroup))]
        case = max(free, key=self._urgency)
        self._cases[case.subgroup].pop()
        overtakes = any(other.utility > case.utility for other in heads)
        return _with_reason(case, "quota") if overtakes else case

    def _urgency(self, case: RankedCase) -> tuple[float, float, int]:
        return case.utility, case.case_entropy, self._random[case.case_id]


def _shuffled(candidates: Sequence[Candidate], rng: np.random.Generator) -> list[Candidate]:
    """In random order that does not depend on the order in which they came."""
    by_id = sorted(candidates, key=lambda c: c.case_id)
    return [by_id[index] for index in rng.permutation(len(by_id))]


def _implausible(
    flagged: list[Candidate], weights: Mapping[str, float], pool: list[Candidate]
) -> list[RankedCase]:
    entropies = [c.case_entropy for c in pool if not math.isnan(c.case_entropy)]
    largest = max(entropies, default=float("nan"))
    # Weight alone orders them, as all have one entropy here; sorted() keeps random ties.
    ordered = sorted(flagged, key=lambda c: -weights[c.subgroup])
    return [_ranked(c, weights, "implausible", entropy=largest) for c in ordered]


def _ranked(
    candidate: Candidate, weights: Mapping[str, float], reason: str, entropy: float | None = None
) -> RankedCase:
    weight = float(weights[candidate.subgroup])
    own = float(candidate.case_entropy)
    utility = weight * (own if entropy is None else entropy)
    return RankedCase(candidate.case_id, candidate.subgroup, own, weight, utility, reason)


def _with_reason(case: RankedCase, reason: str) -> RankedCase:
    return RankedCase(
        case.case_id, case.subgroup, case.case_entropy, case.weight, case.utility, reason
    )


def _check(
    candidates: Sequence[Candidate],
    weights: Mapping[str, float],
    quota_batch: int | None,
    audit_every: int | None,
) -> None:
    for name, number in (("quota_batch", quota_batch), ("audit_every", audit_every)):
        if number is not None and number < 1:
            raise ValueError(f"{name} must be 1 or more, or None, got {number!r}")
    for group, weight in weights.items():
        if not np.isfinite(weight) or weight < 0:
            raise ValueError(f"weight of {group!r} must be 0 or more, got {weight!r}")
    _check_unique([c.case_id for c in candidates])
    for candidate in candidates:
        if candidate.subgroup not in weights:
            raise ValueError(
                f"no weight for subgroup {candidate.subgroup!r}; weights has {sorted(weights)}"
            )
        if candidate.case_entropy < 0 or math.isinf(candidate.case_entropy):
            raise ValueError(
                f"case_entropy of {candidate.case_id} must be 0 or more, or NaN, "
                f"got {candidate.case_entropy!r}"
            )


def _check_unique(case_ids: Sequence[str]) -> None:
    repeated = sorted(case_id for case_id, times in Counter(case_ids).items() if times > 1)
    if repeated:
        raise ValueError(f"case ids must be unique, got {repeated[:5]} more than once")
