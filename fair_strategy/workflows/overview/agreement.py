"""How far several readers of a scan agree, by subgroup: a noisy label is a ceiling for every model.

Where a subgroup's readers agree less, a lower Dice of the model says less about the model.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isnan
from statistics import fmean

from fair_strategy.store import readings
from fair_strategy.store.readings import Agreement as Pair
from fair_strategy.workflows.overview.figures import Agreement, Figure, GroupAgreement
from fair_strategy.workflows.overview.keeping import Made, once_per_model
from fair_strategy.workflows.overview.spreads import hidden_groups, spread, values_by_group
from fair_strategy.workflows.study import Study


class AgreedGroups(Figure):
    """What is kept from one model to the next."""

    groups: tuple[GroupAgreement, ...]


def agreement(study: Study, *, min_cell: int) -> Agreement:
    """Agreement of readers by subgroup; it changes once a model version.

    The first figure waits for `min_cell` scans, so that it does not stay empty until the next model
    because somebody looked early.
    """
    pairs = readings.agreements(study.store)
    kept = once_per_model(
        study,
        "agreement",
        AgreedGroups,
        min_cell=min_cell,
        make=partial(_make, study, pairs, min_cell),
        ready=len({pair.case_id for pair in pairs}) >= min_cell,
    )
    return Agreement(
        readers_per_case=study.settings.readers_per_case,
        consensus=study.settings.consensus,
        groups=kept.content.groups if kept.content else (),
        refreshed=kept.refreshed,
        min_cell=min_cell,
    )


def agreed_groups(
    pairs: Sequence[Pair], subgroups: Mapping[str, str], *, min_cell: int
) -> tuple[GroupAgreement, ...]:
    """Median and quartiles by subgroup; None for what `suppressed` hides, or what is not known.

    A scan counts once, with the mean over the pairs of its readers.
    """
    names = sorted(set(subgroups.values()))
    dice = values_by_group(names, _means(pairs, lambda pair: pair.dice), subgroups)
    distance = values_by_group(
        names, _means(pairs, lambda pair: pair.surface_distance_mm), subgroups
    )
    hide_dice = hidden_groups(dice, min_cell=min_cell)
    hide_distance = hidden_groups(distance, min_cell=min_cell)
    return tuple(
        GroupAgreement(
            subgroup=name,
            n=None if hide_dice[name] else len(dice[name]),
            dice=None if hide_dice[name] else spread(dice[name]),
            n_surface=None if hide_distance[name] else len(distance[name]),
            surface_distance_mm=None if hide_distance[name] else spread(distance[name]),
        )
        for name in names
    )


def _make(
    study: Study, pairs: Sequence[Pair], min_cell: int, _: AgreedGroups | None
) -> Made[AgreedGroups]:
    groups = agreed_groups(pairs, study.subgroups(), min_cell=min_cell)
    # One entry a scan, another one once it was read anew.
    entries = {f"{pair.case_id} {pair.created_at}" for pair in pairs}
    first = {entry.partition(" ")[0]: entry for entry in sorted(entries, reverse=True)}
    return Made(AgreedGroups(groups=groups), cases=sorted(first.values()))


def _means(pairs: Sequence[Pair], value: Callable[[Pair], float]) -> dict[str, float]:
    by_case: dict[str, list[float]] = {}
    for pair in pairs:
        if not isnan(value(pair)):
            by_case.setdefault(pair.case_id, []).append(value(pair))
    return {case_id: fmean(values) for case_id, values in by_case.items()}
