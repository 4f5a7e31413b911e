"""What the commands share: options, the answer as text or JSON, progress, exit codes."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from fair_strategy.config import SettingsError, StudySettings, parse_settings
from fair_strategy.workflows.reporting.plain import plain

if TYPE_CHECKING:
    from fair_strategy.workflows.executors import Workers
    from fair_strategy.workflows.study import Study

AsJson = Annotated[bool, typer.Option("--json", help="answer in JSON, for scripts")]
SensitiveFeature = Annotated[
    str | None,
    typer.Option(help="column(s) of participants.tsv, comma separated; default: group"),
]
AgeBins = Annotated[str | None, typer.Option(help="edges of age_group, e.g. 0,60,70,200")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", help="any study setting as NAME=VALUE, e.g. margin_mm=3"),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE",
        help="processes:N, local:N (Dask), slurm, slurm:JOBS or a Dask scheduler's address; "
        "default: this process",
    ),
]

errors = Console(stderr=True)


class Device(StrEnum):
    """Where the networks run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def chosen_device(device: Device) -> str:
    """`cpu` or `cuda`; exit code 2 for a GPU that is not there."""
    import torch

    there = torch.cuda.is_available()
    if device is Device.cuda and not there:
        fail("--device cuda: there is no GPU that torch can use", code=2)
    return "cuda" if there and device is not Device.cpu else "cpu"


def device_for(cluster: str | None, device: Device) -> str:
    """`cpu` or `cuda`, here or where a cluster computes; exit code 2 for what cannot be known."""
    if cluster is None:
        return chosen_device(device)
    if device is Device.auto:
        fail("--device auto: say cpu or cuda where --cluster says who computes", code=2)
    return device.value  # it is theirs to have


def computing(cluster: str | None) -> AbstractContextManager["Workers | None"]:
    """Who computes, for the time of a ``with`` block; None for this process."""
    from fair_strategy.workflows.executors import workers

    return nullcontext() if cluster is None else workers(cluster)


def study_of(studies: str | Path, state_dir: Path | None, *, device: str | None = None) -> "Study":
    """The study that a server has left, or serves; exit code 2 where there is none."""
    from fair_strategy.workflows.study import default_state_dir, open_study

    state = state_dir or default_state_dir(studies)
    if not (state / "state.sqlite3").exists():
        fail(f"{state}: expected the state of a study, found none; give --state-dir", code=2)
    return open_study(studies, state_dir=state, shipped_model=Path("unused"), device=device)


def say(sentence: str) -> None:
    """A line on standard error: standard output is for the answer."""
    errors.print(sentence, markup=False, highlight=False, soft_wrap=True)


def study_settings(options: list[str] | None, **given: Any) -> StudySettings:
    """Study settings from ``--option`` pairs and the named options that were given."""
    pairs = [text.partition("=") for text in options or []]
    for name, equals, _ in pairs:
        if not equals:
            fail(f"--option {name}: expected NAME=VALUE", code=2)
    chosen = {name: value for name, _, value in pairs}
    chosen |= {name: value for name, value in given.items() if value is not None}
    try:
        return parse_settings(StudySettings, chosen)
    except SettingsError as error:
        fail(str(error), code=2)


def fail(sentence: str, *, code: int) -> NoReturn:
    """Say why on standard error and end: 1 for a failure, 2 for bad arguments or input."""
    errors.print(
        f"fair-strategy: {sentence}", style="red", markup=False, highlight=False, soft_wrap=True
    )
    raise typer.Exit(code)


def answer(result: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a command's result: one JSON object, or a line an entry."""
    if as_json:
        typer.echo(json.dumps(plain(result), indent=2))
        return
    for name, value in result.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            typer.echo("\t".join(value[0]))
            for row in value:
                typer.echo("\t".join(_text(cell) for cell in row.values()))
        else:
            typer.echo(f"{name}: {_text(value)}")


@contextmanager
def tracked(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; yields the function that moves it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=errors) as bar:
        task = bar.add_task(what, total=None)

        def move(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield move


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "n/a" if math.isnan(value) else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items()) or "none"
    return str(value)
