"""A simulation's report as one HTML file: no script, nothing fetched from elsewhere."""

from collections.abc import Iterator, Sequence
from html import escape

from fair_strategy.workflows.reporting.figures import Drawn
from fair_strategy.workflows.reporting.html import (
    facts_html,
    figure_html,
    list_html,
    notes_html,
    page_html,
    table_html,
)
from fair_strategy.workflows.reporting.text import Table
from fair_strategy.workflows.simulation.report_readings import Reading
from fair_strategy.workflows.simulation.report_text import LIMITS, METHOD

TITLE = "Fair active learning: what the simulation found"
LEAD = (
    "Which scan should be annotated next, so that the model serves every subgroup? Each arm below "
    "is one way to choose. All arms of a seed start from the same first scans and the same first "
    "model, are given the same number of annotations, and are tested on scans that none of them "
    "ever sees."
)


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
    return page_html(
        TITLE,
        [
            f"<h1>{TITLE}</h1>",
            f'<p class="lead">{escape(LEAD)}</p>',
            *notes_html(notes),
            "<h2>In short</h2>",
            *_readings(readings),
            *(part for table in tables[:1] for part in table_html(table, main_arms)),
            "<h2>Figures</h2>",
            *map(figure_html, figures),
            "<h2>Tables</h2>",
            *(part for table in tables[1:] for part in table_html(table, main_arms)),
            "<h2>How it was made</h2>",
            *facts_html(facts),
            "<h3>Definitions</h3>",
            *list_html(METHOD),
            "<h2>Limits</h2>",
            *list_html(LIMITS),
        ],
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
