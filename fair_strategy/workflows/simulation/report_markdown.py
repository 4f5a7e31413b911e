"""A simulation's report as a Markdown page, for the documentation."""

from collections.abc import Iterator, Sequence

from fair_strategy.workflows.reporting.figures import Drawn
from fair_strategy.workflows.reporting.text import Table
from fair_strategy.workflows.simulation.report_html import LEAD
from fair_strategy.workflows.simulation.report_text import LIMITS, METHOD, Reading


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
        lines += ["**What is missing**", "", *(f"- {_text(note)}" for note in notes), ""]
    lines += ["## In short", ""]
    for reading in readings:
        lines += [f"**{_text(reading.title)}.** {_text(' '.join(reading.sentences))}", ""]
    for table in tables[:1]:
        lines += _table(table, level=2)
    lines += ["## Figures", ""]
    for figure in figures:
        lines += [f"### {_text(figure.title)}", ""]
        lines += [f"![{_text(figure.alt)}]({figures_at}/{figure.svg.name})", ""]
        lines += [_text(figure.caption), ""]
    lines += ["## Tables", ""]
    for table in tables[1:]:
        lines += _table(table, level=3)
    lines += ["## How it was made", ""]
    lines += [f"- {name}: {_text(value)}" for name, value in facts if name != "Command"]
    lines += ["", "### Definitions", "", *(f"- {_text(item)}" for item in METHOD), ""]
    lines += ["## Limits", "", *(f"- {_text(item)}" for item in LIMITS)]
    return "\n".join(lines) + "\n"


def _table(table: Table, *, level: int) -> Iterator[str]:
    yield from (f"{'#' * level} {_text(table.title)}", "", _text(table.note), "")
    yield f"| {' | '.join(map(_text, table.header))} |"
    sides = ["---" if place < table.words else "--:" for place in range(len(table.header))]
    yield f"| {' | '.join(sides)} |"
    for row in table.rows:
        yield f"| {' | '.join(map(_text, row))} |"
    yield ""


def _text(text: str) -> str:
    """What Markdown would read as something else, escaped."""
    for sign in "\\|*_[]<>`":
        text = text.replace(sign, f"\\{sign}")
    return text
