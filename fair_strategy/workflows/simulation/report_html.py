"""A simulation's report as one HTML file: no script, nothing fetched from elsewhere."""

import base64
import re
from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources

from fair_strategy.workflows.simulation.figures_style import Drawn
from fair_strategy.workflows.simulation.report_text import LIMITS, METHOD, Reading, Table

TITLE = "Fair active learning: what the simulation found"
LEAD = (
    "Which scan should be annotated next, so that the model serves every subgroup? Each arm below "
    "is one way to choose. All arms of a seed start from the same first scans and the same first "
    "model, are given the same number of annotations, and are tested on scans that none of them "
    "ever sees."
)
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_PARENTHESES = re.compile(r"^(\S.*?) \((.*)\)$")


def html_page(
    readings: Sequence[Reading],
    tables: Sequence[Table],
    figures: Sequence[Drawn],
    facts: Sequence[tuple[str, str]],
    notes: Sequence[str],
    *,
    main_arms: frozenset[str],
) -> str:
    """The whole page.

    Args:
        readings: shown first.
        tables: the first one follows the reading; the others come after the figures.
        figures: embedded as SVG.
        facts: name and value: seeds, hardware, command.
        notes: what is missing.
        main_arms: as the tables name them; their rows stand out.
    """
    style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    body = "\n".join(
        [
            f"<h1>{TITLE}</h1>",
            f'<p class="lead">{escape(LEAD)}</p>',
            *_notes(notes),
            "<h2>In short</h2>",
            *_readings(readings),
            *(part for table in tables[:1] for part in _table(table, main_arms)),
            "<h2>Figures</h2>",
            *map(_figure, figures),
            "<h2>Tables</h2>",
            *(part for table in tables[1:] for part in _table(table, main_arms)),
            "<h2>How it was made</h2>",
            *_facts(facts),
            "<h3>Definitions</h3>",
            *_list(METHOD),
            "<h2>Limits</h2>",
            *_list(LIMITS),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{TITLE}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n"
        "</body>\n</html>\n"
    )


def _readings(readings: Sequence[Reading]) -> Iterator[str]:
    if not readings:
        yield "<p>No setting has finished runs of both weighted entropy and entropy yet.</p>"
        return
    yield '<div class="readings">'
    for reading in readings:
        yield f'<section class="reading"><h3>{escape(reading.title)}</h3>'
        yield f'<div class="figure">{escape(reading.figure)}</div>'
        yield f'<p class="under">{escape(reading.under)}</p>'
        *first, last = (escape(sentence) for sentence in reading.sentences)
        yield from (f"<p>{sentence}</p>" for sentence in first)
        yield f'<p class="warning">{last}</p>' if reading.warning else f"<p>{last}</p>"
        yield "</section>"
    yield "</div>"


def _table(table: Table, main_arms: frozenset[str]) -> Iterator[str]:
    yield f'<h3>{escape(table.title)}</h3><p class="note">{escape(table.note)}</p>'
    cells = "".join(
        f'<th scope="col"{_word(place, table)}>{escape(name)}</th>'
        for place, name in enumerate(table.header)
    )
    yield f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>'
    for row in table.rows:
        main = ' class="main"' if row[0] in main_arms else ""
        yield f"<tr{main}>{''.join(_cell(c, p, table) for p, c in enumerate(row))}</tr>"
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


def _figure(figure: Drawn) -> str:
    data = base64.b64encode(figure.svg.read_bytes()).decode("ascii")
    return (
        f"<figure><h3>{escape(figure.title)}</h3>"
        f'<img alt="{escape(figure.alt)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
    )


def _notes(notes: Sequence[str]) -> Iterator[str]:
    if notes:
        yield '<div class="notes">'
        yield from _list(notes)
        yield "</div>"


def _facts(facts: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield "<dl>"
    for name, value in facts:
        text = f"<code>{escape(value)}</code>" if name == "Command" else escape(value)
        yield f"<dt>{escape(name)}</dt><dd>{text}</dd>"
    yield "</dl>"


def _list(items: Sequence[str]) -> Iterator[str]:
    yield "<ul>"
    yield from (f"<li>{escape(item)}</li>" for item in items)
    yield "</ul>"
