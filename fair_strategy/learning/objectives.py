"""Training objectives by name: which cases a step shows, and what it minimises.

An objective knows groups and losses, not tasks: segmentation, classification and regression use
the same three.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, isfinite, nan, sqrt
from typing import Any

import numpy as np
import torch

from fair_strategy.data.cohort import UNKNOWN
from fair_strategy.learning.replicas import ALONE, Replicas

OBJECTIVES = ("erm", "balanced", "group_dro")

Selection = slice | list[int]
RowsLoss = Callable[[Selection], torch.Tensor]
"""Mean loss of some rows of a batch, a scalar to differentiate."""

_ALL = slice(None)
_LARGEST_EXPONENT = 80.0
"""Beyond it the other groups have no weight that 32 bits could hold."""


@dataclass(frozen=True, slots=True)
class ObjectiveSettings:
    """Which objective.

    Attributes:
        name: one of OBJECTIVES.
        eta: of group_dro, how fast q follows the losses; 0 keeps it uniform.
        adjustment: of group_dro, C of C / sqrt(n_g), added to a group's loss where q is updated.
    """

    name: str = "erm"
    eta: float = 0.01
    adjustment: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise ValueError(
                f"objective {self.name!r}: expected one of {', '.join(OBJECTIVES)}; choose one"
            )
        for name in ("eta", "adjustment"):
            if not (isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"objective {name}: expected 0 or more, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Rows:
    """Which case stands at which index of a run: a pure function of seed and index.

    Streams take turns, so that any len(streams) rows in a row hold one of each; a stream shows
    its cases in shuffled rounds, each case once a round.

    Attributes:
        streams: numbers of the cases of each stream, none empty.
        seed: of the shuffling.
    """

    streams: tuple[tuple[int, ...], ...]
    seed: int

    def case(self, index: int) -> int:
        """Number of the case at an index, 0 or more."""
        count, stream = divmod(index, len(self.streams))
        turn, place = divmod(count, len(self.streams[stream]))
        key = [self.seed, turn, 0, stream] if stream else [self.seed, turn, 0]
        order = np.random.default_rng(key).permutation(len(self.streams[stream]))
        return self.streams[stream][int(order[place])]


@dataclass
class Objective:
    """Empirical risk minimisation: the mean over the batch. The others change rows or weights.

    A step is one or more parts, each with a forward pass: `loss` for each part, whose gradients
    add up, then `end_step`.

    Attributes:
        settings: what it is.
        groups: subgroup of each case, by the cases' numbers.
        rows: which case comes when.
        replicas: those that train together; losses of subgroups are means over them.
        names: the subgroups, sorted; their places here are the group numbers.
        group_of: group number of each case.
    """

    settings: ObjectiveSettings
    groups: Sequence[str]
    rows: Rows
    replicas: Replicas = ALONE
    names: tuple[str, ...] = field(init=False)
    group_of: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.names = tuple(sorted(set(self.groups)))
        numbers = {name: number for number, name in enumerate(self.names)}
        self.group_of = tuple(numbers[name] for name in self.groups)
        self._seen = {name: [0.0, 0] for name in self.names}

    def rows_per_step(self, batch_size: int) -> int:
        """How many rows a step needs if one forward pass takes `batch_size`."""
        return batch_size

    def loss(self, loss: RowsLoss, groups: Sequence[int]) -> torch.Tensor:
        """What to differentiate for one part of a step.

        Args:
            loss: mean loss of some rows of the part.
            groups: group number of each row.
        Returns:
            A scalar. The gradient of the step is the sum over its parts times `end_step`.
        """
        total = loss(_ALL)
        present = sorted(set(groups))
        alone = len(present) == 1
        with torch.no_grad():
            own = {g: total if alone else loss(_rows_of(g, groups)) for g in present}
        self._note({group: float(value.detach()) for group, value in own.items()})
        return total

    def end_step(self) -> float:
        """Close a step; the factor by which the gradient and value of the step are multiplied."""
        return 1.0

    def report(self) -> dict[str, Any]:
        """Mean loss by subgroup since the last report (None: not seen), and what else moves."""
        means = {name: total / n if n else None for name, (total, n) in self._seen.items()}
        self._seen = {name: [0.0, 0] for name in self.names}
        return {"loss": means}

    def summary(self) -> dict[str, Any]:
        """Name, and how many cases of each subgroup are trained on."""
        used = [self.groups[case] for stream in self.rows.streams for case in stream]
        return {"name": self.settings.name, "cases": {n: used.count(n) for n in self.names}}

    def state(self) -> dict[str, Any]:
        """Plain values from which a killed run goes on, with `restore`."""
        return {"seen": {name: list(sums) for name, sums in self._seen.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same objective on the same cases."""
        self._seen = {name: list(state["seen"][name]) for name in self.names}

    def identity(self) -> str:
        """Equal where a state of the one can be restored into the other."""
        told = repr((self.settings, tuple(self.groups), self.rows))
        if self.replicas.count > 1:  # they show other rows
            told += f" x {self.replicas.count}"
        return hashlib.sha256(told.encode()).hexdigest()

    def _note(self, losses: Mapping[int, float]) -> dict[int, tuple[float, int]]:
        """Mean loss of each subgroup over the replicas that showed it, and their number."""
        means = self.replicas.means(losses, size=len(self.names))
        for group, (mean, _) in means.items():
            sums = self._seen[self.names[group]]
            sums[0] += mean
            sums[1] += 1
        return means


class GroupDRO(Objective):
    """Group distributionally robust optimisation: the loss of a mixture q that follows the worst.

    Per step L_g, the mean loss of each subgroup present; q_g <- q_g exp(eta (L_g + C / sqrt(n_g)))
    for these, then q divided by its sum, absent subgroups included; the step minimises the sum
    of q_g L_g over the present ones, with the new q. n_g counts the training cases.

    Where a step has several parts, no subgroup may lie in two of them. Then the exponentials of
    a part are known in that part, and what is common to all, the sum that q is divided by,
    follows by `end_step`: the gradient is that of the undivided batch, without a second pass.

    References:
        Sagawa et al. 2020, arXiv:1911.08731, algorithm 1; docs/method.md#training-objectives.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.q = [1.0 / len(self.names)] * len(self.names)
        sizes = [self.group_of.count(group) for group in range(len(self.names))]
        self._adjustments = [self.settings.adjustment / sqrt(n) for n in sizes]
        self._raised: dict[int, float] = {}
        self._reference = 0.0

    def rows_per_step(self, batch_size: int) -> int:
        """At least one row of each subgroup."""
        return max(batch_size, len(self.names))

    def loss(self, loss: RowsLoss, groups: Sequence[int]) -> torch.Tensor:
        """See Objective.loss.

        Raises:
            ValueError: if a subgroup was in an earlier part of the same step.
        """
        present = sorted(set(groups))
        if twice := [self.names[group] for group in present if group in self._raised]:
            raise ValueError(
                f"group_dro: expected the rows of a subgroup in one part of a step, got "
                f"{len(twice)} subgroup(s) in two; sort the rows by subgroup, or take larger parts"
            )
        alone = len(present) == 1
        losses = {group: loss(_ALL if alone else _rows_of(group, groups)) for group in present}
        means = self._note({group: float(value.detach()) for group, value in losses.items()})
        self._raise({group: mean for group, (mean, _) in means.items()})
        # Gradients are averaged over all replicas, a subgroup's loss over those that showed it.
        share = {group: self.replicas.count / shown for group, (_, shown) in means.items()}
        weighted = [self._raised[group] * share[group] * value for group, value in losses.items()]
        return torch.stack(weighted).sum() if len(weighted) > 1 else weighted[0]

    def end_step(self) -> float:
        """Divide q by its sum. A loss that is not finite leaves q as it was."""
        absent = exp(min(-self._reference, _LARGEST_EXPONENT))
        raised = [self._raised.get(group, q * absent) for group, q in enumerate(self.q)]
        self._raised = {}
        total = sum(raised)
        if not isfinite(total):
            return 1.0
        self.q = [value / total for value in raised]
        return 1.0 / total

    def report(self) -> dict[str, Any]:
        """See Objective.report; with q."""
        return {**super().report(), "q": dict(zip(self.names, self.q, strict=True))}

    def summary(self) -> dict[str, Any]:
        """See Objective.summary; with eta and adjustment."""
        settings = {"eta": self.settings.eta, "adjustment": self.settings.adjustment}
        return {**super().summary(), **settings}

    def state(self) -> dict[str, Any]:
        """See Objective.state; with q."""
        return {**super().state(), "q": list(self.q)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See Objective.restore."""
        super().restore(state)
        self.q = list(state["q"])

    def _raise(self, losses: Mapping[int, float]) -> None:
        exponents = {
            group: self.settings.eta * (value + self._adjustments[group])
            for group, value in losses.items()
        }
        if not self._raised:
            # A factor common to all subgroups, which the division takes out again: without it
            # large losses would overflow.
            self._reference = max((e for e in exponents.values() if isfinite(e)), default=0.0)
        for group, exponent in exponents.items():
            difference = min(exponent - self._reference, _LARGEST_EXPONENT)
            self._raised[group] = self.q[group] * exp(difference) if isfinite(exponent) else nan


def make_objective(
    settings: ObjectiveSettings,
    groups: Sequence[str],
    *,
    seed: int,
    strata: Sequence[str] | None = None,
    replicas: Replicas = ALONE,
) -> Objective:
    """An objective for a set of training cases.

    Args:
        settings: which one.
        groups: subgroup of each case; `unknown` is one like any other, but for `balanced`.
        seed: of the order of cases, and of the subsample of `balanced`.
        strata: class or stage of each case, within which `balanced` equalises the subgroups;
            the other objectives do not look at it.
        replicas: those that train together.
    Raises:
        ValueError: without cases, with lists of different lengths, or, for `balanced`, if a
            subgroup has no case of a stratum.
    """
    if not len(groups):
        raise ValueError(f"objective {settings.name}: expected at least one case, got none")
    if settings.name == "group_dro":
        members = [_members(groups, name) for name in sorted(set(groups))]
        return GroupDRO(settings, groups, Rows(tuple(members), seed), replicas)
    cases = tuple(range(len(groups)))
    if settings.name == "balanced":
        cases = balanced_subset(groups, strata=strata, seed=seed)
    return Objective(settings, groups, Rows((cases,), seed), replicas)


def balanced_subset(
    groups: Sequence[str], *, strata: Sequence[str] | None = None, seed: int
) -> tuple[int, ...]:
    """Cases of which each subgroup has as many as the smallest one, within every stratum.

    `unknown` is no subgroup to be balanced: it neither sets the size of the others nor has to be
    in every stratum, and of it at most as many are kept. Where all are unknown, all are kept.

    Args:
        groups: subgroup of each case.
        strata: class or stage of each case; None for one stratum.
        seed: of the draw, without replacement.
    Returns:
        Their numbers, rising.
    Raises:
        ValueError: if a subgroup has no case of a stratum: nothing of it would be left.
    References:
        The "Balanced" model of Mehta, Shui and Arbel 2023, arXiv:2303.03242.
    """
    strata = [""] * len(groups) if strata is None else strata
    if len(strata) != len(groups):
        raise ValueError(f"strata: expected {len(groups)}, one a case, got {len(strata)}")
    kept: list[int] = []
    for number, stratum in enumerate(sorted(set(strata))):
        inside = [case for case, own in enumerate(strata) if own == stratum]
        members = {name: [c for c in inside if groups[c] == name] for name in sorted(set(groups))}
        smallest = _smallest(members, stratum)
        draw = np.random.default_rng([seed, number, 3])
        for own in members.values():
            kept += map(int, draw.choice(own, min(smallest, len(own)), replace=False))
    return tuple(sorted(kept))


def _smallest(members: Mapping[str, Sequence[int]], stratum: str) -> int:
    """Size of the smallest subgroup of a stratum; `unknown` counts where there is no other."""
    named = {name: own for name, own in members.items() if name != UNKNOWN} or members
    if empty := [name for name, own in named.items() if not own]:
        raise ValueError(
            f"balanced: no case of stratum {stratum!r} in subgroup {', '.join(empty)}; "
            "merge strata, or leave the stratum out"
        )
    return min(len(own) for own in named.values())


def _members(groups: Sequence[str], name: str) -> tuple[int, ...]:
    return tuple(case for case, own in enumerate(groups) if own == name)


def _rows_of(group: int, groups: Sequence[int]) -> list[int]:
    return [row for row, own in enumerate(groups) if own == group]
