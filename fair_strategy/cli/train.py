"""``fair-strategy train``: train the U-Net on a folder of scans and masks, without a server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fair_strategy.cli.options import (
    AgeBins,
    AsJson,
    SensitiveFeature,
    Settings,
    answer,
    fail,
    study_settings,
    tracked,
)

if TYPE_CHECKING:
    from fair_strategy.workflows.study import Study


def train(
    images: Annotated[Path, typer.Option(help="BIDS or flat folder of T1-weighted scans")],
    out: Annotated[Path, typer.Option(help="folder for the state of the training and the model")],
    model: Annotated[
        Path | None, typer.Option(help="checkpoint to start from; default: random weights")
    ] = None,
    sensitive_feature: SensitiveFeature = None,
    age_bins: AgeBins = None,
    steps: Annotated[int, typer.Option(min=1, help="optimisation steps")] = 300,
    objective: Annotated[
        str | None, typer.Option(help="erm, balanced or group_dro; default: erm")
    ] = None,
    option: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Train on every scan of a folder that has a mask; a killed run resumes.

    `validation_per_group` subjects of each subgroup are set aside, half of them to choose the
    checkpoint, half untouched. Masks are found as the server finds them.
    """
    from fair_strategy.workflows.study import open_study

    settings = study_settings(
        option,
        sensitive_feature=sensitive_feature,
        age_bins=age_bins,
        train_steps=steps,
        objective=objective,
    )
    _check_paths(images, out, model)
    study = open_study(
        images, settings, state_dir=out, shipped_model=model or out / "no start given"
    )
    statistics = _trained(study)
    answer(statistics if as_json else _tables(statistics), as_json=as_json)


def _check_paths(images: Path, out: Path, model: Path | None) -> None:
    from fair_strategy.data import bids
    from fair_strategy.workflows.tables import NO_SCANS

    if not images.is_dir():
        fail(f"{images}: expected a folder of scans", code=2)
    if not bids.walk(images):
        fail(f"{images}: {NO_SCANS}", code=2)
    if out.exists() and not out.is_dir():
        fail(f"{out}: expected a folder to write into, found a file", code=2)
    if model is not None and not model.is_file():
        fail(f"{model}: expected a checkpoint to start from, found none", code=2)


def _trained(study: "Study") -> dict[str, Any]:
    """Take up scans and masks, set the validation subjects aside, train."""
    from fair_strategy.workflows.intake import freeze_validation, refresh
    from fair_strategy.workflows.rounds import train_round
    from fair_strategy.workflows.study import StudyError

    refresh(study)
    freeze_validation(study)
    try:
        with tracked("training") as progress:
            return train_round(study, progress=progress)
    except StudyError as error:
        fail(str(error), code=1)


def _tables(statistics: dict[str, Any]) -> dict[str, Any]:
    """The statistics with the objective's history as a table of its own."""
    told = statistics["objective"]
    return {**statistics, "objective": told["name"], "cases": told["cases"], "": told["history"]}
