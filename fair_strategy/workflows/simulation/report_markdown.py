"""A simulation's report as a Markdown page, for the documentation."""

from collections.abc import Sequence

from fair_strategy.workflows.reporting.figures import Drawn
from fair_strategy.workflows.reporting.markdown import (
    escaped,
    figure_markdown,
    table_markdown,
)
from fair_strategy.workflows.reporting.text import Table
from fair_strategy.workflows.simulation.report_html import LEAD
from fair_strategy.workflows.simulation.report_readings import Reading
from fair_strategy.workflows.simulation.report_text import LIMITS, METHOD


def markdown_page(
    readings: Sequence[Reading],
    tables: Sequence[Table],
    figures: Sequence[Drawn],
    facts: Sequence[tuple[str, str]],
    notes: Sequence[str],
    *,
    figures_at: str,
) -> str:
    """The page; figures are linked to as SVG in the folder `figures_at`, relative to the page."""
    lines = ["# Fair active learning", "", LEAD, ""]
    for name, value in facts:
        if name == "Command":
            lines += ["```", value, "```", ""]
    if notes:
        lines += ["**What is missing**", "", *(f"- {escaped(note)}" for note in notes), ""]
    lines += ["## In short", ""]
    for reading in readings:
        lines += [f"**{escaped(reading.title)}.** {escaped(' '.join(reading.sentences))}", ""]
    for table in tables[:1]:
        lines += table_markdown(table, level=2)
    lines += ["## Figures", ""]
    for figure in figures:
        lines += figure_markdown(figure, level=3, folder=figures_at)
    lines += ["## Tables", ""]
    for table in tables[1:]:
        lines += table_markdown(table, level=3)
    lines += ["## How it was made", ""]
    lines += [f"- {name}: {escaped(value)}" for name, value in facts if name != "Command"]
    lines += ["", "### Definitions", "", *(f"- {escaped(item)}" for item in METHOD), ""]
    lines += ["## Limits", "", *(f"- {escaped(item)}" for item in LIMITS)]
    return "\n".join(lines) + "\n"
