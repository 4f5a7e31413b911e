"""``fair-strategy score``: every entropy variant of every scan of a folder, as a table."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fair_strategy.cli.options import (
    AgeBins,
    AsJson,
    Cluster,
    Device,
    SensitiveFeature,
    Settings,
    answer,
    computing,
    device_for,
    fail,
    study_settings,
    tracked,
)

if TYPE_CHECKING:
    from fair_strategy.config import StudySettings
    from fair_strategy.data.cohort import Cohort


def score(
    images: Annotated[Path, typer.Option(help="BIDS or flat folder of T1-weighted scans")],
    model: Annotated[
        Path, typer.Option(help="checkpoint, e.g. apps/fair_caudate/model/pretrained.pt")
    ],
    out: Annotated[Path, typer.Option(help="table to write (TSV); an existing one is continued")],
    participants: Annotated[
        Path | None, typer.Option(help="participants.tsv; default: the one in the folder")
    ] = None,
    sensitive_feature: SensitiveFeature = None,
    age_bins: AgeBins = None,
    option: Settings = None,
    cluster: Cluster = None,
    device: Annotated[
        Device, typer.Option(help="cuda: on a GPU, in half precision; auto: there if there is one")
    ] = Device.cpu,
    as_json: AsJson = False,
) -> None:
    """Score every scan: entropies (nats), predicted volume, plausibility, model checksum.

    Resumable: rows of the same scan, model and settings are kept. A scan that cannot be read is
    listed and left out; the exit code is then 1.
    """
    from fair_strategy.workflows.folder import score_folder
    from fair_strategy.workflows.models import model_file

    settings = study_settings(option, sensitive_feature=sensitive_feature, age_bins=age_bins)
    if not images.is_dir():
        fail(f"{images}: expected a folder of scans", code=2)
    cohort = _cohort(images, participants, settings)
    found = replace(model_file(model), device=device_for(cluster, device))
    with computing(cluster) as given, tracked("scoring") as progress:
        report = score_folder(
            images, cohort, found, settings, out, workers=given, progress=progress
        )
    answer(
        {
            "out": str(out),
            "model": found.checksum,
            "scored": report.scored,
            "kept": report.kept,
            "unreadable": report.unreadable,
        },
        as_json=as_json,
    )
    if report.unreadable:
        raise typer.Exit(1)


def _cohort(images: Path, participants: Path | None, settings: "StudySettings") -> "Cohort":
    from fair_strategy.data import bids
    from fair_strategy.data.cohort import load_cohort

    return load_cohort(
        participants or bids.participants_file(images),
        sensitive_feature=settings.sensitive_feature,
        age_bins=settings.age_bins,
    )
