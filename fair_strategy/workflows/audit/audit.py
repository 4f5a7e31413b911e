"""An audit: evidence, subgroups, estimates, curves and findings together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fair_strategy.data.cohort import DEFAULT_AGE_BINS, CohortError
from fair_strategy.workflows.audit.comparison import Change, check_same, compare
from fair_strategy.workflows.audit.curves import Curve, draw_curves
from fair_strategy.workflows.audit.estimates import MeasureResult, estimate_all
from fair_strategy.workflows.audit.evidence import Evidence, Flag
from fair_strategy.workflows.audit.findings import Finding, find
from fair_strategy.workflows.audit.grouping import Grouping, read_groupings
from fair_strategy.workflows.audit.layout import find_cases, parse_regions
from fair_strategy.workflows.audit.maps import read_maps
from fair_strategy.workflows.audit.settings import TASKS, AuditSettings
from fair_strategy.workflows.audit.tables import read_table


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found out about one model.

    Attributes:
        name: of the model, for readers.
        evidence: its predictions, reduced.
        groupings: subgroups by feature.
        results: every measure by every grouping.
        curves: EM and FG as the uncertain part is set aside.
        findings: every tested gap in words; those that are `named` passed their test.
        flags: what a reader must know about the input.
        settings: of the audit.
    """

    name: str
    evidence: Evidence
    groupings: tuple[Grouping, ...]
    results: tuple[MeasureResult, ...]
    curves: tuple[Curve, ...]
    findings: tuple[Finding, ...]
    flags: tuple[Flag, ...]
    settings: AuditSettings


@dataclass(frozen=True)
class Source:
    """Where the predictions of a model are.

    Attributes:
        predictions: a table, or a folder of maps.
        references: flat folder of reference masks, where the predictions are one too.
        uncertainties: flat folder of uncertainty maps.
        regions: "WT=1+2+4,TC=1+4", nnU-Net's dataset.json, or "" for one region a label.
    """

    predictions: Path
    references: Path | None = None
    uncertainties: Path | None = None
    regions: str = ""


def read_evidence(source: Source, task: str, settings: AuditSettings) -> Evidence:
    """Predictions from a table or a folder, reduced to small numbers a case.

    Raises:
        CohortError, VolumeError: naming file, line, column or case.
    """
    if task not in TASKS:
        raise CohortError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    if not source.predictions.exists():
        raise CohortError(f"{source.predictions}: no such file or folder")
    if source.predictions.is_file():
        if source.references or source.uncertainties or source.regions:
            raise CohortError(f"{source.predictions} is a table: it takes no maps and no regions")
        return read_table(source.predictions, task, settings)
    if task != "segmentation":
        raise CohortError(f"{source.predictions} is a folder; {task} takes a table")
    cases = find_cases(
        source.predictions, references=source.references, uncertainties=source.uncertainties
    )
    regions = parse_regions(source.regions) if source.regions else None
    return read_maps(cases, regions, settings)


def audit_evidence(
    evidence: Evidence,
    groupings: Sequence[Grouping],
    settings: AuditSettings,
    *,
    name: str = "the model",
    flags: Sequence[Flag] = (),
    with_curves: bool = True,
) -> Audit:
    """The audit of one model, from its reduced predictions."""
    results = estimate_all(evidence, list(groupings), settings)
    curves = draw_curves(evidence, list(groupings), settings) if with_curves else []
    return Audit(
        name,
        evidence,
        tuple(groupings),
        tuple(results),
        tuple(curves),
        tuple(find(results, settings.alpha)),
        (*evidence.flags, *flags),
        settings,
    )


def same_persons(first: Evidence, other: Evidence) -> Evidence:
    """The evidence of another model on the same cases, its persons told by the first.

    Two tables may name the persons in one only.

    Raises:
        CohortError: for other cases or targets.
    """
    check_same(first, other)
    return replace(other, subject_ids=first.subject_ids)


def run_audit(
    sources: Sequence[Source],
    task: str,
    participants: Path,
    features: Sequence[str],
    *,
    age_bins: Sequence[float] = DEFAULT_AGE_BINS,
    settings: AuditSettings | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> tuple[list[Audit], list[Change]]:
    """The audits of one model or two, and the paired differences of two.

    Raises:
        CohortError, VolumeError: bad input; nothing is written before all of it was read.
    """
    chosen = settings or AuditSettings()
    evidences = []
    for source in sources:
        say(f"reading {source.predictions.name}")
        evidences.append(read_evidence(source, task, chosen))
    evidences[1:] = [same_persons(evidences[0], other) for other in evidences[1:]]
    groupings, flags = read_groupings(
        evidences[0], participants, features, age_bins=age_bins, settings=chosen
    )
    say("estimating")
    names = _names(sources)
    audits = [
        audit_evidence(evidence, groupings, chosen, name=name, flags=flags)
        for evidence, name in zip(evidences, names, strict=True)
    ]
    changes = compare(evidences[0], evidences[1], groupings, chosen) if len(audits) == 2 else []
    return audits, changes


def _names(sources: Sequence[Source]) -> list[str]:
    names = [source.predictions.name.split(".")[0] for source in sources]
    return ["first model", "second model"] if len(set(names)) < len(names) else names
