"""Dice by subgroup over the model versions: means, intervals, gap, and what exceeds the floor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fair_strategy.acquisition.performance import GroupPerformance, group_performance
from fair_strategy.metrics.suppression import suppressed, tells_nobody_apart
from fair_strategy.metrics.two_samples import welch_interval
from fair_strategy.store import cases, scores
from fair_strategy.store.scores import ComparisonRecord, ModelRecord
from fair_strategy.workflows.overview.figures import (
    EvidenceName,
    Figure,
    Floor,
    Gap,
    GroupDice,
    Performance,
    Series,
    Version,
)
from fair_strategy.workflows.overview.keeping import SHORT, Made, moment, once_per_model
from fair_strategy.workflows.performance import estimator_comparisons, newest_comparisons
from fair_strategy.workflows.study import Study

Evidence = Callable[[Study, ModelRecord], list[ComparisonRecord]]


class Measured(Figure):
    """A version and the cases that it was measured on."""

    version: Version
    cases: tuple[str, ...]


class MeasuredSeries(Figure):
    """All versions, by kind of evidence; what is kept from one model to the next."""

    series: dict[str, tuple[Measured, ...]]


@dataclass(frozen=True)
class Terms:
    """What a version is judged by: the smallest cell, and the subgroups that there are."""

    min_cell: int
    subgroups: Mapping[str, str]


def performance(study: Study, *, min_cell: int) -> Performance:
    """Mean Dice of each subgroup under each model; it changes once a model version."""
    floor = floor_of(study)
    kept = once_per_model(
        study,
        "performance",
        MeasuredSeries,
        min_cell=min_cell,
        make=partial(_measure, study, Terms(min_cell, study.subgroups())),
        ready=is_measured(study),
    )
    measured = kept.content.series if kept.content else {}
    return Performance(
        series=tuple(
            Series(
                evidence=name,
                title=title,
                description=description,
                versions=tuple(above(m.version, floor.value) for m in measured.get(name, ())),
            )
            for name, title, description in _described(study)
        ),
        floor=floor,
        refreshed=kept.refreshed,
        min_cell=min_cell,
    )


def floor_of(study: Study) -> Floor:
    """The gap between the attainable Dice of the subgroups, where the settings give all of them."""
    attainable = dict(study.settings.attainable)
    missing = sorted(set(study.subgroups().values()) - attainable.keys())
    if not attainable or missing:
        sentence = "No floor is known: the excess gap cannot be told. " + (
            f"The setting attainable names no value for {', '.join(missing)}."
            if attainable
            else "Give the best Dice within reach of each subgroup, e.g. attainable A=0.9,B=0.87."
        )
        return Floor(value=None, attainable=attainable, sentence=sentence)
    value = max(attainable.values()) - min(attainable.values())
    told = ", ".join(f"{name} {dice:.2f}" for name, dice in sorted(attainable.items()))
    return Floor(
        value=value,
        attainable=attainable,
        sentence=f"Floor {value:.3f}: the gap between the attainable Dice that the settings give "
        f"({told}). The excess gap is what lies above it.",
    )


def above(version: Version, floor: float | None) -> Version:
    """A version with its excess gap: the floor may be given, or be another, after it was kept."""
    gap = version.gap
    if gap is None:
        return version
    excess, low, high = (
        None if floor is None or end is None else end - floor
        for end in (gap.value, gap.low, gap.high)
    )
    told = {"excess": excess, "excess_low": low, "excess_high": high}
    return version.model_copy(update={"gap": gap.model_copy(update=told)})


def is_measured(study: Study) -> bool:
    """Whether the current model has been compared with every label that it can be."""
    model = scores.current_model(study.store)
    if model is None:
        return True
    unscored = scores.unscored(study.store, model.checksum, study.settings_hash)
    if set(unscored) & set(cases.labelled_ids(study.store)):
        return False
    return not scores.uncompared_with(study.store, model.checksum)


def measured_version(
    number: int, model: ModelRecord, rows: Sequence[ComparisonRecord], terms: Terms
) -> Version:
    """One model's figures from its comparisons; subgroups without any are there with n = 0."""
    rows = [c for c in rows if c.case_id in terms.subgroups and not np.isnan(c.dice)]
    groups = [terms.subgroups[c.case_id] for c in rows]
    found = group_performance(
        [c.dice for c in rows], groups, known_groups=sorted(set(terms.subgroups.values()))
    )
    hidden = suppressed([p.n for p in found.values()], minimum=terms.min_cell)
    told = tuple(_dice(p, hide) for p, hide in zip(found.values(), hidden.tolist(), strict=True))
    samples = {name: [c.dice for c, g in zip(rows, groups, strict=True) if g == name]
               for name in found}  # fmt: skip
    gap = None if hidden.any() else _gap(samples)
    note = ""
    if hidden.any():
        note = f"a subgroup has fewer than {terms.min_cell} measured cases"
    elif not rows:
        note = "no label to compare with"
    elif gap is None:
        note = "fewer than two subgroups have a measured case"
    return _version(number, model, told, gap=gap, note=note)


def _measure(study: Study, terms: Terms, before: MeasuredSeries | None) -> Made[MeasuredSeries]:
    series: dict[str, tuple[Measured, ...]] = {
        name: _over_models(study, evidence, terms, before.series.get(name, ()) if before else ())
        for name, evidence in _EVIDENCE.items()
    }
    return Made(MeasuredSeries(series=series))


def _over_models(
    study: Study, evidence: Evidence, terms: Terms, before: Sequence[Measured]
) -> tuple[Measured, ...]:
    """All versions, none of which tells a few cases apart from those of another.

    One that lost or gained a few cases since it was shown stays as it was; one whose cases differ
    by a few from those of the version shown before it is withheld.
    """
    kept = {m.version.model: m for m in before}
    shown: tuple[str, ...] | None = None
    versions = []
    for number, model in enumerate(scores.models(study.store), start=1):
        rows = evidence(study, model)
        ids = tuple(sorted(c.case_id for c in rows if c.case_id in terms.subgroups))
        old = kept.get(model.checksum[:SHORT])
        if old is not None and not tells_nobody_apart(old.cases, ids, minimum=terms.min_cell):
            measured = old
        else:
            measured = Measured(version=measured_version(number, model, rows, terms), cases=ids)
        if shown is not None and not tells_nobody_apart(
            shown, measured.cases, minimum=terms.min_cell
        ):
            measured = _withheld(measured, terms)
        if any(not g.suppressed and g.n for g in measured.version.groups):
            shown = measured.cases
        versions.append(measured)
    return tuple(versions)


def _withheld(measured: Measured, terms: Terms) -> Measured:
    nothing = {"n": None, "mean": None, "low": None, "high": None, "suppressed": True}
    version = measured.version.model_copy(
        update={
            "groups": tuple(g.model_copy(update=nothing) for g in measured.version.groups),
            "gap": None,
            "note": f"fewer than {terms.min_cell} cases set it apart from the version before",
        }
    )
    return measured.model_copy(update={"version": version})


def _version(
    number: int, model: ModelRecord, groups: tuple[GroupDice, ...], *, gap: Gap | None, note: str
) -> Version:
    return Version(
        number=number,
        model=model.checksum[:SHORT],
        origin=model.origin,
        created_at=moment(model.created_at),
        groups=groups,
        gap=gap,
        note=note,
    )


def _dice(found: GroupPerformance, hide: bool) -> GroupDice:
    low, high = found.interval
    return GroupDice(
        subgroup=found.subgroup,
        n=None if hide else found.n,
        mean=None if hide else finite(found.mean),
        low=None if hide else finite(low),
        high=None if hide else finite(high),
        suppressed=hide,
    )


def _gap(samples: Mapping[str, Sequence[float]]) -> Gap | None:
    means = {name: float(np.mean(own)) for name, own in samples.items() if own}
    if len(means) < 2:
        return None
    best, worst = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    value = means[best] - means[worst]
    low, high = map(finite, welch_interval(samples[best], samples[worst]))
    return Gap(
        value=value,
        low=low,
        high=high,
        excess=None,
        excess_low=None,
        excess_high=None,
        best_group=best,
        worst_group=worst,
    )


def finite(value: float) -> float | None:
    """The number, or None where it is NaN or infinite: JSON has neither."""
    return float(value) if np.isfinite(value) else None


def _of_split(
    study: Study, model: ModelRecord, *, halves: frozenset[str]
) -> list[ComparisonRecord]:
    splits = cases.splits(study.store)
    subject = {c.case_id: c.subject_id for c in cases.cases(study.store)}
    newest = newest_comparisons(study, model.checksum)
    return [c for c in newest.values() if splits.get(subject[c.case_id]) in halves]


_EVIDENCE: Mapping[EvidenceName, Evidence] = {
    "validation": partial(_of_split, halves=frozenset({"select", "audit"})),
    "audit": partial(_of_split, halves=frozenset({"audit"})),
    "estimator": estimator_comparisons,
}


def _described(study: Study) -> list[tuple[EvidenceName, str, str]]:
    estimator = study.settings.estimator
    return [
        (
            "validation",
            "Frozen validation set",
            "Both halves. No model is trained on them; one half chooses checkpoints and, by "
            "default, the weights.",
        ),
        (
            "audit",
            "Audit half of the validation set",
            "It touches neither weights nor checkpoints: the fairest figure, of half the cases.",
        ),
        (
            "estimator",
            f"What the weights rest on ({estimator})",
            "The cases that the study's estimator looks at.",
        ),
    ]
