"""What the labels of each subgroup cost: time from lease to submit, and volume edited."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from fair_strategy.metrics.suppression import suppressed
from fair_strategy.store import work as records
from fair_strategy.store.work import WorkRecord
from fair_strategy.workflows.overview.figures import Figure, GroupWork, Spread, Work
from fair_strategy.workflows.overview.keeping import Made, once_per_model
from fair_strategy.workflows.study import Study


class WorkedGroups(Figure):
    """What is kept from one model to the next."""

    groups: tuple[GroupWork, ...]


def work(study: Study, *, min_cell: int) -> Work:
    """Time and edited volume of today's labels by subgroup; it changes once a model version."""
    kept = once_per_model(
        study, "work", WorkedGroups, min_cell=min_cell, make=partial(_make, study, min_cell)
    )
    groups = kept.content.groups if kept.content else ()
    return Work(groups=groups, refreshed=kept.refreshed, min_cell=min_cell)


def worked_groups(
    rows: Sequence[WorkRecord], subgroups: Mapping[str, str], *, min_cell: int
) -> tuple[GroupWork, ...]:
    """Median and quartiles by subgroup; None for what `suppressed` hides, or what is not known."""
    names = sorted(set(subgroups.values()))
    seconds = _by_group(names, {r.case_id: r.seconds for r in rows}, subgroups)
    edited = _by_group(names, {r.case_id: r.edited_mm3 for r in rows}, subgroups)
    hide_seconds, hide_edited = (
        dict(zip(names, _hidden([len(found[n]) for n in names], min_cell), strict=True))
        for found in (seconds, edited)
    )
    return tuple(
        GroupWork(
            subgroup=name,
            timed=None if hide_seconds[name] else len(seconds[name]),
            seconds=None if hide_seconds[name] else _spread(seconds[name]),
            edited=None if hide_edited[name] else len(edited[name]),
            edited_mm3=None if hide_edited[name] else _spread(edited[name]),
        )
        for name in names
    )


def _make(study: Study, min_cell: int, _: WorkedGroups | None) -> Made[WorkedGroups]:
    rows = records.work(study.store)
    groups = worked_groups(rows, study.subgroups(), min_cell=min_cell)
    return Made(WorkedGroups(groups=groups), cases=[f"{r.case_id} {r.label_digest}" for r in rows])


def _by_group(
    names: Sequence[str], values: Mapping[str, float | None], subgroups: Mapping[str, str]
) -> dict[str, list[float]]:
    known = {case_id: value for case_id, value in values.items() if value is not None}
    return {
        name: [value for case_id, value in known.items() if subgroups.get(case_id) == name]
        for name in names
    }


def _hidden(numbers: Sequence[int], min_cell: int) -> list[bool]:
    hidden: list[bool] = suppressed(numbers, minimum=min_cell).tolist() if numbers else []
    return hidden


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return Spread(median=median, low=low, high=high)
