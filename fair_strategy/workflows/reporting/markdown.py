"""Tables and text as Markdown, for the documentation."""

from collections.abc import Iterator

from fair_strategy.workflows.reporting.figures import Drawn
from fair_strategy.workflows.reporting.text import Table


def table_markdown(table: Table, *, level: int) -> Iterator[str]:
    """Heading of a level, note and table, a line each."""
    yield from (f"{'#' * level} {escaped(table.title)}", "", escaped(table.note), "")
    yield f"| {' | '.join(map(escaped, table.header))} |"
    sides = ["---" if place < table.words else "--:" for place in range(len(table.header))]
    yield f"| {' | '.join(sides)} |"
    for row in table.rows:
        yield f"| {' | '.join(map(escaped, row))} |"
    yield ""


def figure_markdown(figure: Drawn, *, level: int, folder: str) -> Iterator[str]:
    """Heading of a level, the SVG in a folder relative to the page, and the caption."""
    yield from (f"{'#' * level} {escaped(figure.title)}", "")
    yield from (f"![{escaped(figure.alt)}]({folder}/{figure.svg.name})", "")
    yield from (escaped(figure.caption), "")


def escaped(text: str) -> str:
    """What Markdown would read as something else, escaped."""
    for sign in "\\|*_[]<>`":
        text = text.replace(sign, f"\\{sign}")
    return text
