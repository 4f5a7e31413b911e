"""``fair-strategy simulate``: active learning played through with a simulated annotator."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fair_strategy.cli.options import AsJson, answer, errors, fail


class Device(StrEnum):
    """Where the networks run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def simulate(
    configuration: Annotated[
        Path, typer.Argument(metavar="CONFIG.yaml", help="what to simulate, see experiments/")
    ],
    out: Annotated[
        Path | None, typer.Option(help="folder of the results; default: simulations/<CONFIG>")
    ] = None,
    device: Annotated[Device, typer.Option(help="auto: a GPU if there is one")] = Device.auto,
    jobs: Annotated[int, typer.Option(min=1, help="processes, each with one thread")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="go on with what is there")] = False,
    stage: Annotated[str | None, typer.Option(help="only the runs of this stage")] = None,
    as_json: AsJson = False,
) -> None:
    """Play active learning with a simulated annotator, by the server's own functions.

    Every run is a study on disk: the same selection, weights, training and scoring as behind the
    server. A killed call goes on with --resume and ends with the same tables (rounds.csv,
    cases.csv, selected.csv, scores.csv).
    """
    from fair_strategy.workflows.simulation.first_models import Workspace
    from fair_strategy.workflows.simulation.settings import read_simulation
    from fair_strategy.workflows.simulation.simulate import simulate as play

    simulation = read_simulation(configuration)
    workspace = Workspace(
        (out or Path("simulations") / configuration.stem).resolve(), _chosen(device)
    )
    try:
        result = play(simulation, workspace, stage=stage, jobs=jobs, resume=resume, say=_say)
    except KeyboardInterrupt:
        fail("interrupted; the same command with --resume goes on from here", code=1)
    answer(result, as_json=as_json)


def _chosen(device: Device) -> str:
    import torch

    there = torch.cuda.is_available()
    if device is Device.cuda and not there:
        fail("--device cuda: there is no GPU that torch can use", code=2)
    return "cuda" if there and device is not Device.cpu else "cpu"


def _say(sentence: str) -> None:
    errors.print(sentence, markup=False, highlight=False, soft_wrap=True)
