"""``fair-strategy audit``: who is served worse by a model, and is it unsure when it is wrong?"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fair_strategy.cli.options import AgeBins, AsJson, answer, fail, say

if TYPE_CHECKING:
    from fair_strategy.workflows.audit.audit import Source


class Task(StrEnum):
    """What the model predicts."""

    segmentation = "segmentation"
    classification = "classification"
    regression = "regression"


def audit(
    predictions: Annotated[
        Path,
        typer.Argument(help="table (.csv, .tsv, .parquet), or folder of maps (segmentation)"),
    ],
    task: Annotated[Task, typer.Option(help="what the model predicts")],
    participants: Annotated[Path, typer.Option(help="participants.tsv with the features")],
    sensitive_feature: Annotated[
        str,
        typer.Option(
            help="column(s) of participants.tsv, comma separated; several: each, and "
            "their intersection"
        ),
    ],
    out: Annotated[Path, typer.Option(help="folder of report.html, audit.json, tables, figures")],
    against: Annotated[
        Path | None, typer.Option(help="predictions of a second model on the same cases")
    ] = None,
    references: Annotated[
        Path | None, typer.Option(help="reference masks <case>.nii.gz, for flat folders")
    ] = None,
    uncertainties: Annotated[
        Path | None, typer.Option(help="uncertainty maps <case>.nii.gz, for flat folders")
    ] = None,
    against_uncertainties: Annotated[
        Path | None, typer.Option(help="the same of the second model")
    ] = None,
    regions: Annotated[
        str,
        typer.Option(help="WT=1+2+4,TC=1+4,ET=4 or nnU-Net's dataset.json; default: one a label"),
    ] = "",
    age_bins: AgeBins = None,
    draws: Annotated[
        int, typer.Option(help="resamples and dealings; 1000 or more to publish")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="of resamples and dealings")] = 0,
    minimum: Annotated[
        int, typer.Option(help="persons from which a subgroup is ranked; intersections from 10")
    ] = 5,
    as_json: AsJson = False,
) -> None:
    """Audit predictions that you already have, from any framework.

    Writes one HTML report for readers, audit.json and tables for programs, figures for both. A gap
    between subgroups is named only if its permutation test passes Holm's correction over all
    gaps that are tested.
    """  # fmt: skip
    from fair_strategy.workflows.audit.audit import Source

    sources = [Source(predictions, references, uncertainties, regions)]
    if against is not None:
        sources.append(Source(against, references, against_uncertainties, regions))
    result = _run(
        sources,
        task.value,
        participants,
        _features(sensitive_feature),
        age_bins=_edges(age_bins),
        numbers={
            "draws": draws,
            "seed": seed,
            "ranked_from": minimum,
            "ranked_from_intersection": max(10, minimum),
        },
        out=out,
    )
    answer(result, as_json=as_json)


def _run(
    sources: "list[Source]",
    task: str,
    participants: Path,
    features: list[str],
    *,
    age_bins: tuple[float, ...],
    numbers: dict[str, int],
    out: Path,
) -> dict[str, Any]:
    """Audit, write, and what is answered."""
    from fair_strategy.data.cohort import DEFAULT_AGE_BINS
    from fair_strategy.workflows.audit.audit import run_audit
    from fair_strategy.workflows.audit.report import write_audit
    from fair_strategy.workflows.audit.settings import AuditSettings

    audits, changes = run_audit(
        sources,
        task,
        participants,
        features,
        age_bins=age_bins or DEFAULT_AGE_BINS,
        settings=AuditSettings(**numbers),
        say=say,
    )
    paths = write_audit(audits, changes, out)
    return {
        "report": str(paths.html),
        "json": str(paths.json),
        "findings": {a.name: [f.text for f in a.findings if f.named] for a in audits},
        "flags": {a.name: len(a.flags) for a in audits},
    }


def _features(text: str) -> list[str]:
    features = [name.strip() for name in text.split(",") if name.strip()]
    if not features:
        fail("--sensitive-feature: name a column of the participants table", code=2)
    return features


def _edges(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        fail(f"--age-bins {text}: expected numbers, comma separated, e.g. 0,60,70,200", code=2)
