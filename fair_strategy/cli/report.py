"""``fair-strategy report``: the report of a simulation, rendered anew from its tables."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fair_strategy.cli.options import AsJson, answer


def report(
    out: Annotated[Path, typer.Argument(help="folder that `simulate` wrote")],
    html: Annotated[
        Path | None, typer.Option(help="where the report goes; default: OUT/report.html")
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(
            help="where the same goes as Markdown; its figures into a folder beside it. "
            "Default: OUT/report.md"
        ),
    ] = None,
    arm: Annotated[
        str | None, typer.Option(help="the arm to read about; default: weighted_entropy")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Render figures, tables and report of a simulation from the tables in its folder.

    Nothing is simulated. A simulation that is still running can be looked at; the report says what
    is missing.
    """
    from fair_strategy.workflows.simulation.report import write_report

    written = asdict(write_report(out, html=html, markdown=markdown, headline=arm))
    files = {name: str(written[name]) for name in ("html", "markdown")}
    lists = {name: [str(path) for path in written[name]] for name in ("figures", "tables")}
    answer(
        {**files, **lists, "headline": list(written["headline"]), "notes": list(written["notes"])},
        as_json=as_json,
    )
