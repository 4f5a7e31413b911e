"""The report of an audit: one HTML page that a clinician can read, figures, tables, audit.json."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import fair_strategy
from fair_strategy.workflows.audit.audit import Audit
from fair_strategy.workflows.audit.comparison import Change, sentence
from fair_strategy.workflows.audit.curves import VOXELS, WITHIN
from fair_strategy.workflows.audit.document import document, write_document, write_tables
from fair_strategy.workflows.audit.estimates import Estimate, MeasureResult
from fair_strategy.workflows.audit.figures import draw_changes, draw_figures
from fair_strategy.workflows.audit.findings import (
    QUESTIONS,
    SERVED,
    Finding,
    cell,
    plain_number,
    shown,
)
from fair_strategy.workflows.audit.grouping import Grouping
from fair_strategy.workflows.audit.measures import NEITHER
from fair_strategy.workflows.reporting.figures import Drawn
from fair_strategy.workflows.reporting.html import (
    facts_html,
    figure_html,
    list_html,
    notes_html,
    page_html,
    table_html,
)
from fair_strategy.workflows.reporting.text import (
    NBSP,
    NOTHING,
    Table,
    interval,
    listed,
    p_value,
    spoken,
)

_FLAGS_SHOWN = 12
_SET_ASIDE = 0.8
RULES = (
    "A gap is the value of the best subgroup minus that of the worst, among the ranked ones. It is "
    "named as a finding only if its permutation test, corrected by Holm over all tested gaps of "
    "the audit, has p below {alpha:g}. The labels are dealt anew among persons, so that several "
    "scans of one person stay together. Where no subgroup differs from another, an audit names "
    "anything at all in at most {percent:g} of 100 audits.",
    "“By chance up to”: 95 of 100 gaps lie below it when the labels are dealt anew. With these "
    "numbers of cases a smaller gap could not have been seen; a larger one may still fail the "
    "correction for the number of tests.",
    "A subgroup is ranked from {ranked} persons on, an intersection of features from {crossed}; "
    "smaller ones, and cases without a value of the feature ('unknown'), are listed only. Where "
    "there are fewer than 5 persons the text says “n < 5”; the figures are in audit.json, flagged.",
    "Intervals are 95 % percentile intervals of a bootstrap over persons within subgroups "
    "({draws} resamples, seed {seed}). That of a gap is of the difference between the two "
    "subgroups that are the highest and the lowest here.",
    "“Shrunk” is the value drawn towards the other subgroups' as far as a subgroup is small. The "
    "raw value is the finding; the shrunk one is a second opinion on small subgroups.",
    "The skewed error ratio is the worst subgroup's error over the best one's (1 is fair). "
    "Equity-scaled scores are the overall score divided by 1 + disparity; FairSeg's sums the "
    "distances of the subgroups from the overall score, the other takes their standard deviation.",
)
LIMITS = (
    "An audit tells how this model did on these cases. It does not tell why, and other cases may "
    "differ in more than the feature: age, severity, scanner.",
    "“No gap was shown” is not “there is no gap”: read what the test could have seen.",
    "The expected calibration error grows where there are few cases, by chance alone; compare it "
    "between subgroups of like size, or read confidence minus accuracy instead.",
    "Dice favours large structures: a subgroup with smaller ones scores lower at the same error of "
    "the contour. Read the surface distance beside it.",
)


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
    yield f'<p class="lead">{escape(_lead(audits[0]))}</p>'
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
    yield from list_html(_glossary(audits[0]))
    yield "<h2>Limits</h2>"
    yield from list_html(LIMITS)
    yield from facts_html([("Made with", f"fair-strategy {fair_strategy.__version__}")])


def _lead(audit: Audit) -> str:
    evidence = audit.evidence
    targets = [target.name for target in evidence.targets if target.name]
    what = f" of {listed(targets)}" if targets else ""
    persons = len(set(evidence.subject_ids))
    of = "" if persons == evidence.n else f" of {persons} persons"
    groups = "; ".join(_sizes(grouping) for grouping in audit.groupings)
    return (
        f"What was tested: {evidence.task}{what}, {evidence.n} cases{of}. Compared were, by "
        f"{groups}."
    )


def _sizes(grouping: Grouping) -> str:
    words = []
    for name in grouping.names:
        n = int(grouping.members(name).sum())
        if n:
            few = grouping.persons[name] < 5
            words.append(f"{name} (n < 5)" if few else f"{name} (n = {n})")
    return f"{_words(grouping.feature)}: {listed(words)}"


def _model(audit: Audit, figures: Sequence[Drawn]) -> Iterator[str]:
    yield "<h2>In short</h2>" if figures else "<h2>Findings</h2>"
    yield from list_html(_summary(audit))
    yield '<div class="readings">'
    for grouping in audit.groupings:
        yield from _card(audit, grouping)
    yield "</div>"
    yield from notes_html(_notes(audit))
    yield "<h2>Figures</h2>"
    yield from map(figure_html, figures)
    yield "<h2>Tables</h2>"
    for grouping in audit.groupings:
        for target in audit.evidence.targets:
            yield from table_html(_groups_table(audit, grouping, target.name))
            yield from table_html(_gaps_table(audit, grouping, target.name))


def _summary(audit: Audit) -> list[str]:
    """A line a feature: which subgroup was named, for what."""
    lines = []
    for grouping in audit.groupings:
        named: dict[str, list[str]] = {}
        for finding in audit.findings:
            if finding.named and finding.feature == grouping.feature:
                named.setdefault(finding.group, []).append(_titled(audit, finding))
        words = [f"subgroup {name} is worse off in {listed(of)}" for name, of in named.items()]
        found = "; ".join(words) or "no gap between subgroups was shown"
        lines.append(f"By {_words(grouping.feature)}: {found}.")
    return lines


def _titled(audit: Audit, finding: Finding) -> str:
    title = next(r.measure.title for r in audit.results if r.measure.name == finding.measure)
    title = title if title[:2].isupper() or title == "Dice" else title[0].lower() + title[1:]
    return f"{title} of {finding.target}" if finding.target else title


def _words(feature: str) -> str:
    return spoken(feature.replace(" x ", " × "))


def _card(audit: Audit, grouping: Grouping) -> Iterator[str]:
    results = [r for r in audit.results if r.feature == grouping.feature]
    yield f'<section class="reading"><h3>By {escape(_words(grouping.feature))}</h3>'
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
    aside = _set_aside(audit, grouping)
    if aside:
        yield f"<p><strong>If the least certain fifth is left to people?</strong></p><p>{aside}</p>"
    yield "</section>"


def _set_aside(audit: Audit, grouping: Grouping) -> str:
    """What the curves say at 80 % of each subgroup's cases; a description, no finding."""
    sentences = []
    for curve in audit.curves:
        primary = next(t for t in audit.evidence.targets if t.name == curve.target).primary.measure
        if (curve.feature, curve.kind) != (grouping.feature, WITHIN) or curve.measure != primary:
            continue
        place = int(abs(curve.metric.levels - _SET_ASIDE).argmin())
        before, after = float(curve.gap[-1]), float(curve.gap[place])
        if before != before or after != after:
            continue
        around = ""
        if curve.gap_band is not None:
            low, high = curve.gap_band[:, place]
            around = f" (95{NBSP}% {interval(low, high, plain_number)})"
        of = f" of {curve.target}" if curve.target else ""
        sentences.append(
            f"Among the certain four fifths of each subgroup the gap in {primary.title}{of} is "
            f"{shown(primary)(after)}{around}, instead of {shown(primary)(before)}."
        )
    return escape(" ".join(sentences))


def _notes(audit: Audit) -> list[str]:
    """Flags as readers see them: many of one kind become a number."""
    whole = [flag.what for flag in audit.flags if not flag.case_id]
    counted: dict[tuple[str, str], list[str]] = {}
    for flag in audit.flags:
        if flag.case_id:
            counted.setdefault((flag.target, flag.what), []).append(flag.case_id)
    cases = []
    for (target, what), ids in counted.items():
        of = f" ({target})" if target else ""
        several = f"{len(ids)} cases" if len(ids) > 1 else "1 case"
        cases.append(f"{several}{of}: {what}. Listed in tables/flags.csv.")
    notes = [*dict.fromkeys(whole), *cases]
    more = len(notes) - _FLAGS_SHOWN
    return notes[:_FLAGS_SHOWN] + ([f"{more} more in tables/flags.csv"] if more > 0 else [])


def _groups_table(audit: Audit, grouping: Grouping, target: str) -> Table:
    results = _of(audit, grouping, target)
    names = grouping.names
    of = f" of {target}" if target else ""
    rows = []
    for result in results:
        rows.append(
            (
                f"{result.measure.title}{_unit(result)}",
                _better(result),
                *(_number(result.by_group[name], result) for name in names),
                _number(result.overall, result),
            )
        )
        if any(each.shrunk == each.shrunk for each in result.by_group.values()):
            shrunk = (
                NOTHING if result.by_group[n].small else plain_number(result.by_group[n].shrunk)
                for n in names
            )
            rows.append(("  shrunk", "", *shrunk, ""))
    return Table(
        f"Every measure{of}, by {_words(grouping.feature)}",
        "Raw value, in parentheses its 95 % interval and the number of cases that have a value; "
        "under it the shrunk value. “n < 5”: too few persons to show.",
        ("measure", "better", *(_header(name, grouping) for name in names), "all cases"),
        tuple(rows),
        words=2,
    )


def _gaps_table(audit: Audit, grouping: Grouping, target: str) -> Table:
    rows = []
    for result in _of(audit, grouping, target):
        gap = result.gap
        if gap is None:
            continue
        ratios = (
            _ratio(result, name)
            for name in (
                "skewed_error_ratio",
                "equity_scaled_fairseg",
                "equity_scaled_std",
            )
        )
        rows.append(
            (
                f"{result.measure.title}{_unit(result)}",
                gap.worst or NOTHING,
                f"{plain_number(gap.value)} ({interval(*gap.interval, plain_number)})",
                plain_number(gap.null_95),
                p_value(gap.p),
                p_value(gap.p_holm) if result.measure.tested else "not tested",
                *ratios,
            )
        )
    of = f" of {target}" if target else ""
    return Table(
        f"Gaps{of}, by {_words(grouping.feature)}",
        "Among the ranked subgroups. “By chance”: 95 of 100 gaps lie below it if the subgroup "
        "makes no difference. p: of this test alone; Holm: corrected over all tested gaps of the "
        "audit, and what findings come from. Ratios exist for scores between 0 and 1 only.",
        ("measure", "worst off", "gap", "by chance", "p", "Holm", "skewed error ratio",
         "equity-scaled (FairSeg)", "equity-scaled (std)"),
        tuple(rows),
        words=2,
    )  # fmt: skip


def _of(audit: Audit, grouping: Grouping, target: str) -> list[MeasureResult]:
    return [r for r in audit.results if (r.feature, r.target) == (grouping.feature, target)]


def _unit(result: MeasureResult) -> str:
    return f", {result.measure.unit}" if result.measure.unit else ""


def _better(result: MeasureResult) -> str:
    better = result.measure.better
    return {"zero": "0 is best", NEITHER: NOTHING}.get(better, better)


def _header(name: str, grouping: Grouping) -> str:
    return name if name in grouping.ranked else f"{name}, not ranked"


def _number(estimate: Estimate, result: MeasureResult) -> str:
    if estimate.n == 0:
        return NOTHING
    if estimate.small:
        return cell(estimate, result.measure)
    around = interval(*estimate.interval, plain_number)
    return f"{plain_number(estimate.value)} ({around}; {estimate.n})"


def _ratio(result: MeasureResult, name: str) -> str:
    found = result.ratios.get(name)
    if found is None:
        return NOTHING
    return f"{plain_number(found.value)} ({interval(*found.interval, plain_number)})"


def _glossary(audit: Audit) -> list[str]:
    measures = {m.measure.name: m.measure for t in audit.evidence.targets for m in t.measured}
    lines = [
        f"{measure.title}: {measure.about or 'see the documentation'}."
        for measure in measures.values()
    ]
    if any(curve.kind == VOXELS for curve in audit.curves):
        lines.append("τ: voxels whose uncertainty, 0 to 100 over the data set, is above τ are set "
                     "aside; at τ = 100 none is.")  # fmt: skip
    return lines


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
            yield f"<h3>By {escape(_words(feature))}</h3>"
            yield from list_html([sentence(change, names) for change in own])
    else:
        yield "<p>No difference between the two was shown.</p>"
    yield (
        '<p class="note">A difference is named if its interval leaves 0 out at a level that is '
        "corrected for all subgroups, gaps and tested measures (Bonferroni).</p>"
    )
    yield from map(figure_html, figures)
    for feature in dict.fromkeys(change.feature for change in changes):
        yield from table_html(_changes_table(changes, feature, names))


def _changes_table(changes: Sequence[Change], feature: str, names: tuple[str, str]) -> Table:
    rows = tuple(
        (
            f"{change.measure.title}{f' of {change.target}' if change.target else ''}",
            {"gap": "gap", "overall": "all cases"}.get(change.part, change.group),
            *_change_cells(change),
        )
        for change in changes
        if change.feature == feature and (change.measure.tested or change.measure.bounded)
    )
    return Table(
        f"Paired differences, by {feature}",
        f"{names[1]} minus {names[0]}, on the cases that both have a value for, with 95 % "
        "intervals. Measures that are not tested are in tables/changes.csv.",
        ("measure", "of", names[0], names[1], "difference", "n"),
        rows,
        words=2,
    )


def _change_cells(change: Change) -> tuple[str, ...]:
    if change.persons < 5:
        return (NOTHING, NOTHING, NOTHING, "< 5")
    return (
        plain_number(change.first),
        plain_number(change.second),
        f"{plain_number(change.difference)} ({interval(*change.interval, plain_number)})",
        str(change.n),
    )
