"""What the labels of each subgroup cost: time from lease to submit, and volume edited."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import fmean

from fair_strategy.store import work as records
from fair_strategy.store.work import WorkRecord
from fair_strategy.workflows.overview.figures import Figure, GroupWork, Work
from fair_strategy.workflows.overview.keeping import Made, once_per_model
from fair_strategy.workflows.overview.spreads import hidden_groups, spread, values_by_group
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
    """Median and quartiles by subgroup; None for what `suppressed` hides, or what is not known.

    A scan counts once, with the mean over its readers: two labels of one person are no two persons.
    """
    names = sorted(set(subgroups.values()))
    seconds = values_by_group(names, _means(rows, lambda row: row.seconds), subgroups)
    edited = values_by_group(names, _means(rows, lambda row: row.edited_mm3), subgroups)
    hide_seconds = hidden_groups(seconds, min_cell=min_cell)
    hide_edited = hidden_groups(edited, min_cell=min_cell)
    return tuple(
        GroupWork(
            subgroup=name,
            timed=None if hide_seconds[name] else len(seconds[name]),
            seconds=None if hide_seconds[name] else spread(seconds[name]),
            edited=None if hide_edited[name] else len(edited[name]),
            edited_mm3=None if hide_edited[name] else spread(edited[name]),
        )
        for name in names
    )


def _make(study: Study, min_cell: int, _: WorkedGroups | None) -> Made[WorkedGroups]:
    rows = records.work(study.store)
    groups = worked_groups(rows, study.subgroups(), min_cell=min_cell)
    return Made(WorkedGroups(groups=groups), cases=_with_their_labels(rows))


def _means(
    rows: Sequence[WorkRecord], value: Callable[[WorkRecord], float | None]
) -> dict[str, float]:
    by_case: dict[str, list[float]] = {}
    for row in rows:
        known = value(row)
        if known is not None:
            by_case.setdefault(row.case_id, []).append(known)
    return {case_id: fmean(values) for case_id, values in by_case.items()}


def _with_their_labels(rows: Sequence[WorkRecord]) -> list[str]:
    """One entry a scan, which changes with any of its labels."""
    by_case: dict[str, list[str]] = {}
    for row in rows:
        by_case.setdefault(row.case_id, []).append(row.label_digest)
    return [" ".join((case_id, *sorted(digests))) for case_id, digests in by_case.items()]
