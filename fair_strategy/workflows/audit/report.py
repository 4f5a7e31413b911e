"""The report of an audit: one HTML page that a clinician can read, figures, tables, audit.json."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import fair_strategy
from fair_strategy.workflows.audit.audit import Audit
from fair_strategy.workflows.audit.comparison import Change, sentence
from fair_strategy.workflows.audit.document import document, write_document, write_tables
from fair_strategy.workflows.audit.figures import draw_changes, draw_figures
from fair_strategy.workflows.audit.findings import (
    QUESTIONS,
    SERVED,
    feature_words,
    plain_number,
    shown,
)
from fair_strategy.workflows.audit.grouping import Grouping
from fair_strategy.workflows.audit.report_tables import changes_table, gaps_table, groups_table
from fair_strategy.workflows.audit.report_text import (
    LIMITS,
    RULES,
    glossary,
    lead,
    notes,
    set_aside,
    summary,
)
from fair_strategy.workflows.reporting.figures import Drawn
from fair_strategy.workflows.reporting.html import (
    facts_html,
    figure_html,
    list_html,
    notes_html,
    page_html,
    table_html,
)
from fair_strategy.workflows.reporting.text import NBSP, interval


@dataclass(frozen=True)
class AuditPaths:
    """What `write_audit` wrote."""

    html: Path
    json: Path
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]


def write_audit(audits: Sequence[Audit], changes: Sequence[Change], out: Path) -> AuditPaths:
    """Write report.html, audit.json, tables/ and figures/ into a folder, which is made.

    Args:
        audits: of one model, or of two on the same cases.
        changes: of two.
        out: files in it of the same names are replaced. The same audits give the same bytes.
    """
    out.mkdir(parents=True, exist_ok=True)
    names = (audits[0].name, audits[-1].name)
    named = [sentence(change, names) for change in changes if change.named]
    found = document(audits, changes, named)
    write_document(out / "audit.json", found)
    tables = write_tables(audits, changes, out / "tables")
    figures: list[list[Drawn]] = []
    for audit in audits:
        folder = out / "figures" / (_folder(audit.name) if len(audits) > 1 else "")
        figures.append(draw_figures(audit, folder))
    primary = audits[0].evidence.targets[0].primary.measure.name
    beside = draw_changes(changes, names, primary, out / "figures") if changes else []
    page = page_html(_title(audits), _parts(audits, changes, named, figures, beside))
    (out / "report.html").write_text(page, encoding="utf-8")
    drawn = [*beside, *(figure for own in figures for figure in own)]
    return AuditPaths(
        out / "report.html",
        out / "audit.json",
        tuple(tables),
        tuple(path for figure in drawn for path in (figure.png, figure.svg)),
    )


def _folder(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


def _title(audits: Sequence[Audit]) -> str:
    return f"Who is served worse? Audit of {' and '.join(audit.name for audit in audits)}"


def _parts(
    audits: Sequence[Audit],
    changes: Sequence[Change],
    named: Sequence[str],
    figures: Sequence[Sequence[Drawn]],
    beside: Sequence[Drawn],
) -> Iterator[str]:
    yield f"<h1>{escape(_title(audits))}</h1>"
    yield f'<p class="lead">{escape(lead(audits[0]))}</p>'
    if changes:
        yield from _side_by_side(audits, changes, named, beside)
    for audit, drawn in zip(audits, figures, strict=True):
        if len(audits) > 1:
            yield f"<h2>{escape(audit.name)}</h2>"
        yield from _model(audit, drawn)
    yield "<h2>How it was done</h2>"
    settings = audits[0].settings
    values = {
        "alpha": settings.alpha,
        "percent": 100 * settings.alpha,
        "ranked": settings.ranked_from,
        "crossed": settings.ranked_from_intersection,
        "draws": settings.draws,
        "seed": settings.seed,
    }
    yield from list_html([rule.format(**values) for rule in RULES])
    yield "<h3>What the measures are</h3>"
    yield from list_html(glossary(audits[0]))
    yield "<h2>Limits</h2>"
    yield from list_html(LIMITS)
    yield from facts_html([("Made with", f"fair-strategy {fair_strategy.__version__}")])


def _model(audit: Audit, figures: Sequence[Drawn]) -> Iterator[str]:
    yield "<h2>In short</h2>" if figures else "<h2>Findings</h2>"
    yield from list_html(summary(audit))
    yield '<div class="readings">'
    for grouping in audit.groupings:
        yield from _card(audit, grouping)
    yield "</div>"
    yield from notes_html(notes(audit))
    yield "<h2>Figures</h2>"
    yield from map(figure_html, figures)
    yield "<h2>Tables</h2>"
    for grouping in audit.groupings:
        for target in audit.evidence.targets:
            yield from table_html(groups_table(audit, grouping, target.name))
            yield from table_html(gaps_table(audit, grouping, target.name))


def _card(audit: Audit, grouping: Grouping) -> Iterator[str]:
    results = [r for r in audit.results if r.feature == grouping.feature]
    yield f'<section class="reading"><h3>By {escape(feature_words(grouping.feature))}</h3>'
    first = results[0]
    if first.gap is None:
        yield '<p class="under">No gap can be assessed: fewer than two subgroups are large enough.'
        yield "</p></section>"
        return
    of = f" of {first.target}" if first.target else ""
    yield f'<div class="figure">{escape(shown(first.measure)(first.gap.value))}</div>'
    yield (
        f'<p class="under">gap in {escape(first.measure.title + of)} between subgroups '
        f"{escape(first.gap.best)} and {escape(first.gap.worst)} (95{NBSP}% "
        f"{interval(*first.gap.interval, plain_number)}); chance alone gives up to "
        f"{plain_number(first.gap.null_95)}</p>"
    )
    findings = [f for f in audit.findings if f.feature == grouping.feature]
    for question, words in QUESTIONS.items():
        own = [f for f in findings if f.question == question]
        if not own:
            continue
        yield f"<p><strong>{escape(words)}</strong></p>"
        named = [f for f in own if f.named]
        yield from (f'<p class="warning">{escape(f.text)}</p>' for f in named)
        if not named and question == SERVED:
            yield "<p>No subgroup was shown to be served worse.</p>"
        rest = [f.text for f in own if not f.named]
        yield from list_html(rest) if rest else ()
    aside = set_aside(audit, grouping)
    if aside:
        yield "<p><strong>If the least certain fifth is left to people?</strong></p>"
        yield f"<p>{escape(aside)}</p>"
    yield "</section>"


def _side_by_side(
    audits: Sequence[Audit],
    changes: Sequence[Change],
    named: Sequence[str],
    figures: Sequence[Drawn],
) -> Iterator[str]:
    yield f"<h2>{escape(audits[1].name)} against {escape(audits[0].name)}</h2>"
    names = (audits[0].name, audits[1].name)
    if named:
        yield "<p>Shown by the paired differences on the same cases:</p>"
        for feature in dict.fromkeys(change.feature for change in changes if change.named):
            own = [c for c in changes if c.feature == feature and c.named]
            yield f"<h3>By {escape(feature_words(feature))}</h3>"
            yield from list_html([sentence(change, names) for change in own])
    else:
        yield "<p>No difference between the two was shown.</p>"
    yield (
        '<p class="note">A difference is named if its interval leaves 0 out at a level that is '
        "corrected for all subgroups, gaps and tested measures (Bonferroni).</p>"
    )
    yield from map(figure_html, figures)
    for feature in dict.fromkeys(change.feature for change in changes):
        yield from table_html(changes_table(changes, feature, names))
