"""``fair-strategy task``: a published task of fair uncertainty, from its data to an audit."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fair_strategy.cli.options import AsJson, Device, answer, chosen_device, fail, say, tracked


class TaskName(StrEnum):
    """Which one."""

    isic = "isic"
    brats = "brats"
    adni = "adni"


class ObjectiveName(StrEnum):
    """What is minimised over which cases."""

    erm = "erm"
    balanced = "balanced"
    group_dro = "group_dro"


def task(
    name: Annotated[TaskName, typer.Argument(help="isic: ISIC-2019; brats: BraTS-2019; adni")],
    data: Annotated[Path | None, typer.Option(help="the data as its owners publish it")] = None,
    objective: Annotated[ObjectiveName, typer.Option(help="what is minimised")] = ObjectiveName.erm,
    out: Annotated[
        Path | None, typer.Option(help="folder of networks, predictions and audit")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML over the published settings of the task")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="isic: file of ImageNet weights of torchvision's ResNet-18")
    ] = None,
    device: Annotated[Device, typer.Option(help="auto: a GPU if there is one")] = Device.auto,
    make_lookalike: Annotated[
        Path | None, typer.Option(help="write a synthetic data set of this layout here, and end")
    ] = None,
    cases: Annotated[int | None, typer.Option(min=20, help="of the look-alike")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the look-alike")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train an ensemble by one objective, predict with its doubt, and audit who is served worse.

    The settings without --config are those of Mehta, Shui and Arbel 2023: 3 networks x 20 passes.
    A killed call goes on where it stopped when it is given again.
    """
    if make_lookalike is not None:
        from fair_strategy.data import lookalikes

        if data is not None or out is not None:
            fail("--make-lookalike goes without --data and --out; train in a second call", code=2)
        folder = lookalikes.make_lookalike(name.value, make_lookalike, cases=cases, seed=seed)
        answer({"data": str(folder), "note": "synthetic"}, as_json=as_json)
        return
    if data is None or out is None:
        fail("task: give --data and --out, or --make-lookalike", code=2)
    from fair_strategy.workflows.tasks.run import run_task
    from fair_strategy.workflows.tasks.settings import read_task_settings

    settings = read_task_settings(name.value, config)
    if weights is not None:
        if name is not TaskName.isic:
            fail("--weights: ImageNet weights go with isic only", code=2)
        settings = settings.model_copy(update={"weights": weights})
    with tracked("training") as track:
        result = run_task(
            settings, data, objective.value, out, device=chosen_device(device), say=say, track=track
        )
    answer(result, as_json=as_json)
