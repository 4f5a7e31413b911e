"""Two models on the same cases: paired differences, by subgroup and of the gap."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fair_strategy.data.cohort import CohortError
from fair_strategy.metrics.fairness import gap_of_means
from fair_strategy.workflows.audit.estimates import signed_gap
from fair_strategy.workflows.audit.evidence import Evidence, Target
from fair_strategy.workflows.audit.findings import plain_number
from fair_strategy.workflows.audit.grouping import Grouping
from fair_strategy.workflows.audit.measures import HIGHER, NEITHER, ZERO, Measure, Measured
from fair_strategy.workflows.audit.resampling import (
    Resamples,
    draw_resamples,
    interval,
    replicates,
)
from fair_strategy.workflows.audit.settings import FLAGGED_BELOW, AuditSettings
from fair_strategy.workflows.reporting.text import NBSP

GAP, OVERALL = "gap", "overall"


@dataclass(frozen=True)
class Change:
    """The second model minus the first, on the cases that both have a value for.

    Attributes:
        feature: of the grouping.
        target: region or quantity.
        measure: what is compared.
        group: a subgroup, "" for the gap between the ranked ones or for all cases.
        part: "group", "gap" or "overall".
        first: value of the first model.
        second: of the second.
        difference: second - first.
        interval: percentile bootstrap of the difference, the same persons drawn for both.
        wide: the same at level 1 - alpha / m, m being the number of differences in the family.
        n: cases that both have a value for.
        persons: of these.
        named: whether `wide` leaves 0 out; only of measures that are tested, and ranked subgroups.
    """

    feature: str
    target: str
    measure: Measure
    group: str
    part: str
    first: float
    second: float
    difference: float
    interval: tuple[float, float]
    wide: tuple[float, float]
    n: int
    persons: int
    named: bool

    @property
    def better(self) -> bool:
        """Whether the second model is better; of gaps, and where 0 is best, whether nearer to 0."""
        if self.part == "gap" or self.measure.better == ZERO:
            return abs(self.second) < abs(self.first)
        return (self.difference > 0) == (self.measure.better == HIGHER)


def check_same(first: Evidence, second: Evidence) -> None:
    """Nothing, if both models have the same cases and targets.

    Raises:
        CohortError: naming what differs.
    """
    apart = sorted(set(first.case_ids) ^ set(second.case_ids))
    if apart:
        raise CohortError(
            f"--against has other cases, such as {', '.join(apart[:3])} ({len(apart)} in all); "
            "two models are compared on the same cases"
        )
    names = [target.name for target in first.targets], [t.name for t in second.targets]
    if sorted(names[0]) != sorted(names[1]):
        raise CohortError(f"--against has other regions or quantities: {names[0]} and {names[1]}")


def compare(
    first: Evidence, second: Evidence, groupings: Sequence[Grouping], settings: AuditSettings
) -> list[Change]:
    """Every measure that both have, by subgroup, its gap, and over all cases."""
    others = {target.name: target for target in second.targets}
    jobs = [
        (grouping, target, pair)
        for grouping in groupings
        for target in first.targets
        for pair in _pairs(target, others[target.name])
    ]
    family = sum(len(grouping.ranked) + 1 for grouping, _, pair in jobs if pair[0].measure.tested)
    changes = []
    for grouping in groupings:
        drawn = draw_resamples(
            grouping.labels, first.subjects, draws=settings.draws, seed=settings.seed
        )
        for own, target, pair in jobs:
            if own is grouping:
                changes += _changes(first, grouping, target, pair, drawn, settings, family)
    return changes


def sentence(change: Change, names: tuple[str, str]) -> str:
    """A named change, for readers."""
    way = "better" if change.better else "worse"
    title = change.measure.title
    of = f" of {change.target}" if change.target else ""
    where = {"gap": "the gap between the subgroups", "overall": "all cases"}.get(
        change.part, f"subgroup {change.group}"
    )
    n = change.n if change.persons >= FLAGGED_BELOW else f"< {FLAGGED_BELOW}"
    numbers = (
        f"{plain_number(change.first)} to {plain_number(change.second)} "
        f"(paired difference {plain_number(change.difference)}, 95{NBSP}% "
        f"{plain_number(change.interval[0])} to {plain_number(change.interval[1])}, n{NBSP}={NBSP}"
        f"{n})"
    )
    if change.part == "gap":
        verb = "closes" if change.better else "widens"
        return f"{names[1]} {verb} the gap in {title}{of}: from {numbers}."
    if change.measure.better == ZERO:  # that the value moved was tested, not its distance from 0
        return f"{names[1]} moves {title}{of} in {where}: from {numbers}; 0 is best."
    return f"{names[1]} is {way} than {names[0]} in {where}: {title}{of} from {numbers}."


def _pairs(first: Target, second: Target) -> list[tuple[Measured, Measured]]:
    """The measures of both, with the cases that both have a value for; the others are NaN."""
    pairs = []
    for one in first.measured:
        other = second.named(one.measure.name)
        if other is None or one.measure.better == NEITHER:
            continue
        if other.rows.shape != one.rows.shape:
            continue  # calibration of variances with other bins: no pair
        both = one.there & other.there
        keep = both if one.rows.ndim == 1 else both[:, None]
        pairs.append(
            (
                replace(one, rows=np.where(keep, one.rows, np.nan)),
                replace(other, rows=np.where(keep, other.rows, np.nan)),
            )
        )
    return pairs


def _changes(
    evidence: Evidence,
    grouping: Grouping,
    target: Target,
    pair: tuple[Measured, Measured],
    drawn: Resamples,
    settings: AuditSettings,
    family: int,
) -> list[Change]:
    everyone = np.ones(evidence.n, bool)
    parts = [("overall", "", everyone)]
    parts += [("group", name, grouping.members(name)) for name in grouping.names]
    changes, ranked = [], []
    for part, name, members in parts:
        own = members & pair[0].there
        if not own.any():
            continue
        values = [float(each.measure.metric(each.rows[own])) for each in pair]
        found = [replicates(each, members, drawn) for each in pair]
        testable = part == "group" and name in grouping.ranked
        if testable:
            ranked.append((values, found))
        persons = len(np.unique(evidence.subjects[own]))
        changes.append(
            _change(grouping, target, pair[0].measure, (part, name), values, found,
                    (int(own.sum()), persons), settings, family if testable else 0)
        )  # fmt: skip
    if len(ranked) > 1:
        gaps = [float(gap_of_means([values[i] for values, _ in ranked])) for i in (0, 1)]
        found = [signed_gap([v[i] for v, _ in ranked], [f[i] for _, f in ranked]) for i in (0, 1)]
        own = grouping.in_ranked & pair[0].there
        sizes = (int(own.sum()), len(np.unique(evidence.subjects[own])))
        changes.append(
            _change(grouping, target, pair[0].measure, ("gap", ""), gaps, found, sizes, settings,
                    family)
        )  # fmt: skip
    return changes


def _change(  # noqa: PLR0913
    grouping: Grouping,
    target: Target,
    measure: Measure,
    where: tuple[str, str],
    values: list[float],
    found: list[np.ndarray],
    sizes: tuple[int, int],
    settings: AuditSettings,
    family: int,
) -> Change:
    drawn = found[1] - found[0]
    nan = (float("nan"), float("nan"))
    wide = interval(drawn, 1 - settings.alpha / family) if family else nan
    named = bool(measure.tested and family and (wide[0] > 0 or wide[1] < 0))
    around = interval(drawn, settings.level) if sizes[1] > 1 else nan
    return Change(
        grouping.feature, target.name, measure, where[1], where[0],
        values[0], values[1], values[1] - values[0], around, wide, *sizes, named,
    )  # fmt: skip
