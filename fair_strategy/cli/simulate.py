"""``fair-strategy simulate``: active learning played through with a simulated annotator."""

from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fair_strategy.cli.options import AsJson, Device, answer, chosen_device, fail, say
from fair_strategy.cli.stock_client import client_error, stock_client

if TYPE_CHECKING:
    from fair_strategy.workflows.simulation.first_models import Workspace
    from fair_strategy.workflows.simulation.settings import SimulationSettings


def simulate(
    configuration: Annotated[
        Path, typer.Argument(metavar="CONFIG.yaml", help="what to simulate, see experiments/")
    ],
    out: Annotated[
        Path | None, typer.Option(help="folder of the results; default: studies/<CONFIG>")
    ] = None,
    device: Annotated[Device, typer.Option(help="auto: a GPU if there is one")] = Device.auto,
    jobs: Annotated[int, typer.Option(min=1, help="processes, each with one thread")] = 1,
    scratch: Annotated[
        Path | None, typer.Option(help="for the studies while they run; a RAM disk is fastest")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with what is there")] = False,
    stage: Annotated[str | None, typer.Option(help="only the runs of this stage")] = None,
    via_rest: Annotated[
        str | None,
        typer.Option(metavar="URL", help="play the first run against a server, see below"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Play active learning with a simulated annotator, by the server's own functions.

    Every run is a study on disk: the same selection, weights, training and scoring as behind the
    server. A killed call goes on with --resume and ends with the same tables (rounds.csv,
    cases.csv, selected.csv, scores.csv), on a GPU up to rounding. At the end they are reported on
    (report.html); `report` renders that anew.

    --via-rest (with `streams: by_run`) plays the first run (of the stage, if one is given) against
    a running server, with the client of MONAI Label's Slicer plugin, and offline too, and compares
    the scans that were handed out; exit code 1 if they differ. Where no server answers it says how
    to start one; a server of other scans, or of a state that was used, is refused (exit code 2).
    """
    from fair_strategy.workflows.simulation.first_models import Workspace
    from fair_strategy.workflows.simulation.plan import runs
    from fair_strategy.workflows.simulation.settings import read_simulation

    simulation = read_simulation(configuration)
    workspace = Workspace(
        out=(out or Path("studies") / configuration.stem).resolve(),
        device=chosen_device(device),
        scratch=scratch.resolve() if scratch else None,
    )
    if via_rest is not None:
        _compared(runs(simulation, stage)[0], workspace, via_rest, as_json=as_json)
        return
    result = _played(simulation, workspace, stage=stage, jobs=jobs, resume=resume)
    answer(result | _reported(workspace.out), as_json=as_json)


def _played(
    simulation: "SimulationSettings",
    workspace: "Workspace",
    *,
    stage: str | None,
    jobs: int,
    resume: bool,
) -> dict[str, Any]:
    from concurrent.futures.process import BrokenProcessPool

    from fair_strategy.workflows.simulation.simulate import simulate as play

    try:
        return play(simulation, workspace, stage=stage, jobs=jobs, resume=resume, say=say)
    except KeyboardInterrupt:
        fail("interrupted; the same command with --resume goes on from here", code=1)
    except BrokenProcessPool:
        fail(
            "one of the processes was killed, perhaps for memory; the same command with --resume "
            "goes on from here, with fewer --jobs if it happens again",
            code=1,
        )


def _reported(out: Path) -> dict[str, str]:
    """Where the report is; nothing where there is none yet."""
    from fair_strategy.workflows.simulation.analysis_tables import TableError
    from fair_strategy.workflows.simulation.report import write_report

    try:
        return {"report": str(write_report(out).html)}
    except TableError as error:  # e.g. a stage of whole-pool models only
        say(f"no report yet: {error}")
        return {}


def _compared(run: Any, workspace: "Workspace", url: str, *, as_json: bool) -> None:
    """Play one run on both ways and compare what was handed out."""
    from fair_strategy.workflows.simulation.rest import (
        check_served,
        picked_offline,
        play_via_rest,
        served_folder,
    )
    from fair_strategy.workflows.simulation.shards import read_shard
    from fair_strategy.workflows.simulation.simulate import play_one

    check_served(run)
    play_one(workspace, run, say=say)
    offline = picked_offline(read_shard(workspace.out, run))
    folder = served_folder(workspace, run)
    client = stock_client(url, "annotator", workspace.out / "rest" / "downloads")
    try:
        client.info()
    except (OSError, JSONDecodeError, client_error()) as error:
        fail(
            f"{url}: no server of MONAI Label answers ({error}); start one with: "
            f"{folder.command()}",
            code=1,
        )
    served = play_via_rest(workspace, run, client)
    same = offline == served
    answer({"run": run.name, "same": same, "offline": offline, "rest": served}, as_json=as_json)
    if not same:
        raise typer.Exit(1)
