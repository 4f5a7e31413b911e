"""Whose case is it: participants.tsv -> the subgroup of each case, by feature and intersection."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fair_strategy.data.cohort import UNKNOWN, Cohort, CohortError, load_cohort
from fair_strategy.workflows.audit.evidence import Evidence, Flag
from fair_strategy.workflows.audit.settings import AuditSettings


@dataclass(frozen=True, eq=False)
class Grouping:
    """Subgroups by one sensitive feature, or by the intersection of several.

    Attributes:
        feature: its name; 'sex x age_group' for an intersection.
        labels: (N,), the subgroup of each case.
        names: all subgroups, sorted: those of the table too, and 'unknown' only where a case is.
        ranked: those that are compared: enough persons, and not 'unknown'.
        ranked_from: number of persons that is enough.
        persons: subgroup -> number of persons.
    """

    feature: str
    labels: NDArray[np.str_]
    names: tuple[str, ...]
    ranked: tuple[str, ...]
    ranked_from: int
    persons: dict[str, int]

    def members(self, name: str) -> NDArray[np.bool_]:
        """(N,), whether the case belongs to the subgroup."""
        return self.labels == name

    @property
    def in_ranked(self) -> NDArray[np.bool_]:
        """(N,), whether the case belongs to a subgroup that is compared."""
        return np.isin(self.labels, self.ranked)


def read_groupings(
    evidence: Evidence,
    participants: Path,
    features: Sequence[str],
    *,
    age_bins: Sequence[float],
    settings: AuditSettings,
) -> tuple[list[Grouping], list[Flag]]:
    """A grouping for each feature, and one for their intersection where there are several.

    Raises:
        CohortError: from the table; no case is in it; all cases are of one subgroup.
    """
    wanted: list[tuple[str, ...]] = [(name,) for name in dict.fromkeys(features)]
    if len(wanted) > 1:
        wanted.append(tuple(dict.fromkeys(features)))
    cohorts = [
        load_cohort(participants, sensitive_feature=names, age_bins=age_bins) for names in wanted
    ]
    flags = _absent_flags(evidence, cohorts[0], participants)
    groupings = [
        _grouping(evidence, cohort, names, settings)
        for cohort, names in zip(cohorts, wanted, strict=True)
    ]
    for grouping in groupings:
        flags += _size_flags(grouping)
    return groupings, flags


def _absent_flags(evidence: Evidence, cohort: Cohort, participants: Path) -> list[Flag]:
    absent = [
        case
        for case, person in zip(evidence.case_ids, evidence.subject_ids, strict=True)
        if not {person, f"sub-{person}", person.removeprefix("sub-")} & cohort.subgroups.keys()
    ]
    if len(absent) == evidence.n:
        known = ", ".join(list(cohort.subgroups)[:3]) or "none"
        raise CohortError(
            f"{participants}: none of the {evidence.n} cases is in it; cases are such as "
            f"{', '.join(evidence.case_ids[:3])}, participants such as {known}. "
            "Name them alike, or give the table a column 'subject'"
        )
    return [Flag(case, "", f"is not in {participants.name}; no subgroup") for case in absent]


def _grouping(
    evidence: Evidence, cohort: Cohort, features: tuple[str, ...], settings: AuditSettings
) -> Grouping:
    labels = np.array([cohort.subgroup(person) for person in evidence.subject_ids])
    names = tuple(sorted({*labels.tolist(), *cohort.known_groups}))
    persons = {name: len(set(evidence.subjects[labels == name].tolist())) for name in names}
    several = len(features) > 1
    enough = settings.ranked_from_intersection if several else settings.ranked_from
    ranked = tuple(name for name in names if name != UNKNOWN and persons[name] >= enough)
    there = [name for name in names if name != UNKNOWN and persons[name]]
    if len(there) < 2:
        raise CohortError(
            f"an audit compares subgroups, but by {' x '.join(features)!r} all {evidence.n} cases "
            f"are in {', '.join(map(repr, there or [UNKNOWN]))}; choose another --sensitive-feature"
        )
    return Grouping(" x ".join(features), labels, names, ranked, enough, persons)


def _size_flags(grouping: Grouping) -> list[Flag]:
    small = [
        name
        for name in grouping.names
        if name != UNKNOWN and 0 < grouping.persons[name] < grouping.ranked_from
    ]
    flags = [
        Flag("", "", f"{grouping.feature}: subgroup {name} has fewer than {grouping.ranked_from} "
             "persons; its figures are listed, it is neither ranked nor tested")
        for name in small
    ]  # fmt: skip
    absent = [name for name in grouping.names if not grouping.persons[name]]
    if absent:
        flags.append(Flag("", "", f"{grouping.feature}: no case of {', '.join(absent)}"))
    unknown = int(grouping.members(UNKNOWN).sum())
    if unknown:
        flags.append(Flag("", "", f"{grouping.feature}: {unknown} cases have no value ('unknown')"))
    if len(grouping.ranked) < 2:
        flags.append(
            Flag(
                "",
                "",
                f"{grouping.feature}: fewer than two subgroups are large enough; "
                "no gap can be assessed",
            )
        )
    return flags  # fmt: skip
