"""A case of a task, what reading a data set gave, and the splits by subject."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

import numpy as np

from fair_strategy.data.cohort import CohortError
from fair_strategy.workflows.tasks.settings import Sizes, SplitBlock


@dataclass(frozen=True, eq=False)
class Case:
    """One image, or set of images, with what is to be told about it.

    Attributes:
        case_id: its name.
        subject_id: whom (or which lesion) it shows; never in two parts of a split.
        subgroup: by the feature of splits and objectives; the same for all cases of a subject.
        stratum: class or stage within which `balanced` equalises; "" for none.
        features: sensitive feature -> value, for the audit.
        files: the images, in the order of the network's channels.
        target: class number, label file, or values.
    """

    case_id: str
    subject_id: str
    subgroup: str
    stratum: str
    features: Mapping[str, str]
    files: tuple[Path, ...]
    target: Any


@dataclass(frozen=True)
class LeftOut:
    """A case that cannot be used, and why; without any sensitive attribute."""

    case_id: str
    reason: str


@dataclass(frozen=True, eq=False)
class Reading:
    """The cases of a data set that can be used, sorted, and those that cannot."""

    cases: tuple[Case, ...]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class Split:
    """Numbers of cases, rising."""

    training: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def make_splits(cases: Sequence[Case], settings: SplitBlock, *, seed: int) -> list[Split]:
    """Splits by subject, proportional in the strata of each subgroup; one for each fold.

    A part gets as many cases as asked for where subjects with one case each allow it, never more.

    Raises:
        CohortError: sizes for another subgroup than there is, or too few cases of one.
    """
    groups = sorted({case.subgroup for case in cases})
    orders = {
        group: _order(cases, group, np.random.default_rng([seed, number, 7]))
        for number, group in enumerate(groups)
    }
    if settings.folds > 1:
        tests = [
            {g: [u for i, u in enumerate(orders[g]) if i % settings.folds == fold] for g in groups}
            for fold in range(settings.folds)
        ]
    else:
        tests = [{g: _take(orders[g], _wanted(settings.test, g, orders, "test")) for g in groups}]
    return [_split(orders, test, settings) for test in tests]


def _split(
    orders: Mapping[str, list[tuple[int, ...]]],
    test: Mapping[str, list[tuple[int, ...]]],
    settings: SplitBlock,
) -> Split:
    parts: dict[str, list[int]] = {"training": [], "validation": [], "test": []}
    for group, order in orders.items():
        tested = set(test[group])
        rest = [unit for unit in order if unit not in tested]
        seen = _take(rest, _wanted(settings.validation, group, orders, "validation"))
        chosen = set(seen)
        left = [unit for unit in rest if unit not in chosen]
        if not left or not test[group]:
            raise CohortError(
                f"split: of subgroup {group!r}, {_count(order)} cases, nothing is left for "
                f"{'training' if not left else 'the test'}; ask for other sizes in --config"
            )
        for name, units in (("training", left), ("validation", seen), ("test", test[group])):
            parts[name] += [case for unit in units for case in unit]
    return Split(*(tuple(sorted(parts[name])) for name in ("training", "validation", "test")))


def _order(cases: Sequence[Case], group: str, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Subjects of a subgroup, shuffled, such that any beginning has the strata's proportions."""
    units: dict[str, list[int]] = {}
    for number, case in enumerate(cases):
        if case.subgroup == group:
            units.setdefault(case.subject_id, []).append(number)
    strata: dict[str, list[tuple[int, ...]]] = {}
    for unit in units.values():
        strata.setdefault(cases[unit[0]].stratum, []).append(tuple(unit))
    placed: list[tuple[float, tuple[int, ...]]] = []
    for name in sorted(strata):
        own = strata[name]
        for place, chosen in enumerate(rng.permutation(len(own))):
            placed.append(((place + rng.random()) / len(own), own[int(chosen)]))
    return [unit for _, unit in sorted(placed)]


def _wanted(
    sizes: Sizes, group: str, orders: Mapping[str, list[tuple[int, ...]]], part: str
) -> int:
    if isinstance(sizes, dict) and group not in sizes:
        raise CohortError(
            f"split.{part}: sizes for {', '.join(map(repr, sorted(sizes)))}, but the subgroups are "
            f"{', '.join(map(repr, sorted(orders)))}; name these in --config, or give one share"
        )
    size = sizes[group] if isinstance(sizes, dict) else sizes
    there = _count(orders[group])
    count = floor(size * there + 0.5) if size < 1 else int(size)
    if count >= there:
        raise CohortError(
            f"split.{part}: {count} cases of subgroup {group!r} wanted, {there} are there; "
            "ask for fewer in --config"
        )
    return count


def _take(units: Sequence[tuple[int, ...]], count: int) -> list[tuple[int, ...]]:
    taken: list[tuple[int, ...]] = []
    for unit in units:
        if len(unit) <= count:
            taken.append(unit)
            count -= len(unit)
    return taken


def _count(units: Sequence[tuple[int, ...]]) -> int:
    return sum(map(len, units))


def sizes(cases: Sequence[Case], split: Split) -> dict[str, dict[str, int]]:
    """Part -> subgroup -> cases."""
    return {
        name: dict(sorted(Counter(cases[i].subgroup for i in getattr(split, name)).items()))
        for name in ("training", "validation", "test")
    }
