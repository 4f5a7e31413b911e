"""The report of a simulation: its tables read, analysed, drawn and written down."""

import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from fair_strategy.workflows.reporting.figures import Drawn
from fair_strategy.workflows.reporting.text import spoken
from fair_strategy.workflows.simulation.analysis import Analysis, analyse
from fair_strategy.workflows.simulation.analysis_tables import Tables, read_tables
from fair_strategy.workflows.simulation.figures import draw_figures
from fair_strategy.workflows.simulation.report_html import html_page
from fair_strategy.workflows.simulation.report_markdown import markdown_page
from fair_strategy.workflows.simulation.report_readings import readings
from fair_strategy.workflows.simulation.report_tables import tables
from fair_strategy.workflows.simulation.report_text import facts

HEADLINE = (
    *("arm", "seeds", "n_labelled", "gap", "excess"),
    *("gap_reduction", "gap_reduction_low", "gap_reduction_high"),
    *("excess_reduction", "excess_reduction_low", "excess_reduction_high", "worst", "overall"),
)


@dataclass(frozen=True)
class ReportPaths:
    """What `write_report` wrote.

    Attributes:
        html: the report; needs no other file.
        markdown: the same as a page of documentation.
        figures: PNG and SVG.
        tables: the analysis as CSV: summary, groups, tests, volume, composition, measures.
        headline: the headline arm at the final budget, a row a setting.
        notes: what is missing.
    """

    html: Path
    markdown: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    headline: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


def write_report(
    out: Path,
    *,
    html: Path | None = None,
    markdown: Path | None = None,
    headline: str | None = None,
) -> ReportPaths:
    """Analyse the tables in the folder of a simulation and write its report there.

    The same tables give the same bytes. A run that is still going may be reported on; what is
    missing is said.

    Args:
        out: where `simulate` wrote; figures/ and analysis/ are made in it.
        html: by default out/report.html.
        markdown: by default out/report.md; elsewhere the figures that it shows are copied beside
            it, into a folder of its name.
        headline: the arm that the reading is about, by default `weighted_entropy`.
    Raises:
        TableError: if a table is missing or is not what it should be.
        ValueError: if the headline arm is not in the tables.
        FileNotFoundError: if the folder of a given file does not exist.
    """
    given = read_tables(out)
    analysis = analyse(given, headline=headline)
    figures = draw_figures(analysis, given.rounds, out / "figures")
    page = html or out / "report.html"
    page.write_text(_html(analysis, given, figures), encoding="utf-8")
    text = markdown or out / "report.md"
    at = "figures" if text.parent == out else text.stem
    if text.parent != out:
        (text.parent / at).mkdir(exist_ok=True)
        for figure in figures:
            shutil.copyfile(figure.svg, text.parent / at / figure.svg.name)
    text.write_text(_markdown(analysis, given, figures, at), encoding="utf-8")
    return ReportPaths(
        html=page,
        markdown=text,
        figures=tuple(path for figure in figures for path in (figure.png, figure.svg)),
        tables=_write_tables(analysis, out / "analysis"),
        headline=tuple(_headline(analysis)),
        notes=analysis.notes,
    )


def _html(analysis: Analysis, given: Tables, figures: list[Drawn]) -> str:
    main = {roles["headline"] for roles in analysis.roles.values() if "headline" in roles}
    return html_page(
        readings(analysis),
        tables(analysis),
        figures,
        facts(given),
        analysis.notes,
        main_arms=frozenset(map(spoken, main)),
    )


def _markdown(analysis: Analysis, given: Tables, figures: list[Drawn], at: str) -> str:
    found = readings(analysis), tables(analysis), figures, facts(given), analysis.notes
    return markdown_page(*found, figures_at=at)


def _write_tables(analysis: Analysis, folder: Path) -> tuple[Path, ...]:
    folder.mkdir(exist_ok=True)
    written = []
    for field in fields(analysis):
        table = getattr(analysis, field.name)
        if isinstance(table, pd.DataFrame):
            written.append(folder / f"{field.name}.csv")
            table.to_csv(written[-1], index=False, float_format="%.6g", lineterminator="\n")
    return tuple(written)


def _headline(analysis: Analysis) -> list[dict[str, Any]]:
    found = []
    for bias, start in analysis.settings():
        arm = analysis.roles[bias, start].get("headline")
        rows = analysis.summary
        rows = rows[(rows.bias == bias) & (rows.start == start) & (rows.arm == arm)]
        for record in rows.to_dict("records"):
            values = {name: record[name] for name in HEADLINE}
            found.append({"bias": bias, "start": start, **values})
    return found
