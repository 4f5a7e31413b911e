"""Labelled, pool and excluded scans by subgroup, and the weights that the plans follow."""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Literal

import numpy as np

from fair_strategy.metrics.suppression import suppressed
from fair_strategy.store import cases, plans
from fair_strategy.store.cases import CaseRecord
from fair_strategy.workflows.overview.figures import (
    Counts,
    Excluded,
    Figure,
    GroupCounts,
    GroupWeight,
    Weights,
)
from fair_strategy.workflows.overview.keeping import Made, once_per_model
from fair_strategy.workflows.overview.performance import is_measured
from fair_strategy.workflows.planning import ALWAYS_MADE, plan_is_stale
from fair_strategy.workflows.study import Study

Place = Literal["labelled", "pool", "excluded"]
PLACES: tuple[Place, ...] = ("labelled", "pool", "excluded")


class CountedGroups(Figure):
    """The table without its totals, which are not kept."""

    groups: tuple[GroupCounts, ...]


class KeptWeights(Figure):
    """The weights of one plan."""

    groups: tuple[GroupWeight, ...]


def counts(study: Study, *, min_cell: int) -> Counts:
    """Scans by subgroup and place, once a model version; their totals, as they are now."""
    places = places_of(study)
    kept = once_per_model(
        study,
        "counts",
        CountedGroups,
        min_cell=min_cell,
        make=lambda _: Made(
            CountedGroups(groups=counted(places, study.subgroups(), min_cell=min_cell)),
            cases=[f"{place} {case_id}" for case_id, place in places.items() if place != "pool"],
        ),
    )
    totals = Counter(places.values())
    return Counts(
        groups=kept.content.groups if kept.content else (),
        labelled=totals["labelled"],
        pool=totals["pool"],
        excluded=totals["excluded"],
        refreshed=kept.refreshed,
    )


def places_of(study: Study) -> dict[str, Place]:
    """case_id -> where each scan that is there stands; excluded also if it cannot be read."""
    labelled = set(cases.labelled_ids(study.store))
    return {c.case_id: _place(c, labelled) for c in cases.cases(study.store) if c.present}


def counted(
    places: Mapping[str, Place], subgroups: Mapping[str, str], *, min_cell: int
) -> tuple[GroupCounts, ...]:
    """The table of subgroups and places; None for what `suppressed` hides."""
    names = sorted(set(subgroups.values()))
    found = Counter((subgroups[i], place) for i, place in places.items() if i in subgroups)
    table = np.array([[found[name, place] for place in PLACES] for name in names], dtype=int)
    if not names:
        return ()
    hidden = suppressed(table, minimum=min_cell)
    return tuple(
        GroupCounts(
            subgroup=name,
            **{
                place: None if hide else int(n)
                for place, n, hide in zip(PLACES, row, mask, strict=True)
            },
        )
        for name, row, mask in zip(names, table, hidden, strict=True)
    )


def excluded(study: Study) -> tuple[Excluded, ...]:
    """Scans that are out of the study now, with the reason; no subgroup."""
    return tuple(
        Excluded(
            image=c.case_id,
            reason=c.excluded or c.unreadable or "",
            by=c.excluded_by,
            reopens=bool(c.excluded),
        )
        for c in cases.cases(study.store)
        if c.present and (c.excluded or c.unreadable)
    )


def weights(study: Study, *, min_cell: int) -> Weights:
    """Weight of each subgroup in the first plan of a model version."""
    kept = once_per_model(
        study,
        "weights",
        KeptWeights,
        min_cell=min_cell,
        make=partial(_weights, study),
        ready=_is_planned(study),
    )
    on = study.cohort().fairness_on
    return Weights(
        rule=study.settings.rule,
        estimator=study.settings.estimator,
        groups=kept.content.groups if kept.content else (),
        refreshed=kept.refreshed,
        note="" if on else "No sensitive feature is in use: every weight is 1.",
    )


def _weights(study: Study, _: KeptWeights | None) -> Made[KeptWeights]:
    """Plans that are made together share their weights: those of the one that always is."""
    plan = plans.latest_plan(study.store, ALWAYS_MADE)
    return Made(KeptWeights(groups=group_weights_of(plan.weights if plan else {})))


def _is_planned(study: Study) -> bool:
    """Whether the newest plan was made from the newest model and all that is measured of it."""
    return is_measured(study) and not plan_is_stale(study)


def group_weights_of(weights: Mapping[str, float]) -> tuple[GroupWeight, ...]:
    """Weights by subgroup, sorted by name."""
    return tuple(GroupWeight(subgroup=name, weight=weights[name]) for name in sorted(weights))


def _place(record: CaseRecord, labelled: set[str]) -> Place:
    if record.excluded or record.unreadable:
        return "excluded"
    return "labelled" if record.case_id in labelled else "pool"
