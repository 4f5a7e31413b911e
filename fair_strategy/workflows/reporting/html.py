"""A report as one HTML file: no script, nothing fetched from elsewhere."""

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib import resources

from fair_strategy.workflows.reporting.figures import Drawn
from fair_strategy.workflows.reporting.text import Table

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_PARENTHESES = re.compile(r"^(\S.*?) \((.*)\)$")


def page_html(title: str, parts: Iterable[str]) -> str:
    """The whole page from its title (text) and the parts of its body (HTML)."""
    style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n"
        "</body>\n</html>\n"
    )


def table_html(table: Table, main: frozenset[str] = frozenset()) -> Iterator[str]:
    """A heading, a note and the table; rows whose first cell is in `main` stand out."""
    yield f'<h3>{escape(table.title)}</h3><p class="note">{escape(table.note)}</p>'
    cells = "".join(
        f'<th scope="col"{_word(place, table)}>{escape(name)}</th>'
        for place, name in enumerate(table.header)
    )
    yield f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>'
    for row in table.rows:
        standing_out = ' class="main"' if row[0] in main else ""
        yield f"<tr{standing_out}>{''.join(_cell(c, p, table) for p, c in enumerate(row))}</tr>"
    yield "</tbody></table></div>"


def _cell(cell: str, place: int, table: Table) -> str:
    if table.header[place] == "flag":
        return f'<td class="flag">{escape(cell)}</td>'
    if place < table.words:
        return f'<td class="word">{escape(cell)}</td>'
    found = _PARENTHESES.match(cell)
    if found:
        return f"<td>{escape(found[1])} <small>({escape(found[2])})</small></td>"
    return f"<td>{escape(cell)}</td>"


def _word(place: int, table: Table) -> str:
    return ' class="word"' if place < table.words else ""


def figure_html(figure: Drawn) -> str:
    """The figure, embedded as SVG."""
    data = base64.b64encode(figure.svg.read_bytes()).decode("ascii")
    return (
        f"<figure><h3>{escape(figure.title)}</h3>"
        f'<img alt="{escape(figure.alt)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
    )


def notes_html(notes: Sequence[str]) -> Iterator[str]:
    """A box of warnings; nothing for none."""
    if notes:
        yield '<div class="notes">'
        yield from list_html(notes)
        yield "</div>"


def facts_html(facts: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Names and values."""
    yield "<dl>"
    for name, value in facts:
        text = f"<code>{escape(value)}</code>" if name == "Command" else escape(value)
        yield f"<dt>{escape(name)}</dt><dd>{text}</dd>"
    yield "</dl>"


def list_html(items: Sequence[str]) -> Iterator[str]:
    """A list."""
    yield "<ul>"
    yield from (f"<li>{escape(item)}</li>" for item in items)
    yield "</ul>"
