"""``fair-strategy score-study``: what a server has not scored yet, on many processes."""

from pathlib import Path
from typing import Annotated

import typer

from fair_strategy.cli.options import (
    AsJson,
    Cluster,
    Device,
    answer,
    computing,
    device_for,
    study_of,
    tracked,
)


def score_study(
    studies: Annotated[str, typer.Option(help="the image folder, or the PACS, of the server")],
    state_dir: Annotated[
        Path | None, typer.Option(help="state directory, if it is not the default")
    ] = None,
    cluster: Cluster = None,
    device: Annotated[Device, typer.Option(help="where the networks run")] = Device.cpu,
    as_json: AsJson = False,
) -> None:
    """Score what a study's current model has not scored, compare labels, make plans.

    The server may run meanwhile: it waits with its own scoring until this has ended, and serves by
    what is there. Scores are written by this command alone, each as it comes; run it again after
    whatever happened. The exit code is 1 if a scan could not be read.
    """
    from fair_strategy.workflows.exclusive import exclusive
    from fair_strategy.workflows.upkeep import score_and_plan

    study = study_of(studies, state_dir, device=device_for(cluster, device))
    with (
        exclusive(study.state_dir, "score"),
        computing(cluster) as given,
        tracked("scoring") as progress,
    ):
        done = score_and_plan(study, workers=given, progress=progress)
    answer(done, as_json=as_json)
    if done["unreadable"]:
        raise typer.Exit(1)
