"""An audit as one JSON document and as tidy tables. Described in docs/how-to, audit."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fair_strategy
from fair_strategy.workflows.audit.audit import Audit
from fair_strategy.workflows.audit.comparison import Change
from fair_strategy.workflows.audit.curves import KINDS, Curve
from fair_strategy.workflows.audit.estimates import Estimate, Gap, MeasureResult
from fair_strategy.workflows.audit.measures import Measure, count_rows, total_counts
from fair_strategy.workflows.reporting.plain import plain

FORMAT = "fair-strategy audit, version 1"
Row = dict[str, Any]


def document(audits: Sequence[Audit], changes: Sequence[Change], named: Sequence[str]) -> Row:
    """All of audit.json, with null where a number is undefined.

    Args:
        audits: of one model or two.
        changes: paired differences of two.
        named: the sentences of the changes that are findings.
    """
    first = audits[0]
    features = [
        {
            "feature": grouping.feature,
            "ranked_from_persons": grouping.ranked_from,
            "subgroups": {
                name: {
                    "cases": int(grouping.members(name).sum()),
                    "persons": grouping.persons[name],
                    "ranked": name in grouping.ranked,
                    "below_5": grouping.persons[name] < 5,
                }
                for name in grouping.names
            },
        }
        for grouping in first.groupings
    ]
    found: Row = plain(
        {
            "format": FORMAT,
            "version": fair_strategy.__version__,
            "task": first.evidence.task,
            "cases": first.evidence.n,
            "settings": asdict(first.settings),
            "features": features,
            "models": [_model(audit) for audit in audits],
            "changes": [_change(change) for change in changes],
            "changes_named": list(named),
        }
    )
    return found


def write_document(path: Path, found: Row) -> None:
    """The document as JSON, indented."""
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_tables(audits: Sequence[Audit], changes: Sequence[Change], folder: Path) -> list[Path]:
    """groups, gaps, curves, reliability, cases and flags, and changes where there are two models.

    No table tells the subgroup of a single case.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "groups": [r for audit in audits for r in _group_rows(audit)],
        "gaps": [r for audit in audits for r in _gap_rows(audit)],
        "curves": [r for audit in audits for r in _curve_rows(audit)],
        "reliability": [r for audit in audits for r in _reliability_rows(audit)],
        "cases": [r for audit in audits for r in _case_rows(audit)],
        "flags": [{"model": a.name, **asdict(flag)} for a in audits for flag in a.flags],
        "changes": [_flat_change(change) for change in changes],
    }
    return [_write(folder / f"{name}.csv", rows) for name, rows in tables.items() if rows]


def _write(path: Path, rows: Sequence[Row]) -> Path:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n", restval="")
        table.writeheader()
        table.writerows({name: _text(value) for name, value in row.items()} for row in rows)
    return path


def _text(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.8g}"
    return value


def _model(audit: Audit) -> Row:
    return {
        "name": audit.name,
        "findings": [asdict(f) for f in audit.findings if f.named],
        "not_shown": [asdict(f) for f in audit.findings if not f.named],
        "measures": [_result(result) for result in audit.results],
        "curves": [_curve(curve) for curve in audit.curves],
        "flags": [asdict(flag) for flag in audit.flags],
    }


def _measure(measure: Measure) -> Row:
    names = ("name", "title", "unit", "better", "tested", "about")
    return {name: getattr(measure, name) for name in names}


def _estimate(estimate: Estimate) -> Row:
    low, high = estimate.interval
    counts = {name: getattr(estimate, name) for name in ("n", "persons", "missing")}
    return {"value": estimate.value, "low": low, "high": high, **counts}


def _result(result: MeasureResult) -> Row:
    groups = {
        name: {
            **_estimate(each),
            "shrunk": each.shrunk,
            "ranked": each.ranked,
            "below_5": each.small,
        }
        for name, each in result.by_group.items()
    }
    return {
        "feature": result.feature,
        "target": result.target,
        **_measure(result.measure),
        "overall": _estimate(result.overall),
        "subgroups": groups,
        "gap": None if result.gap is None else _gap(result.gap),
        "ratios": {name: _estimate(each) for name, each in result.ratios.items()},
    }


def _gap(gap: Gap) -> Row:
    low, high = gap.interval
    rest = ("best", "worst", "null_95", "p", "p_holm", "draws")
    return {"value": gap.value, "low": low, "high": high, **{n: getattr(gap, n) for n in rest}}


def _curve(curve: Curve) -> Row:
    metric = curve.metric
    return {
        "feature": curve.feature,
        "target": curve.target,
        "measure": curve.measure.name,
        "kind": curve.kind,
        "retains": KINDS[curve.kind],
        "levels": metric.levels,
        "em": metric.by_group,
        "em_band": curve.bands,
        "em_overall": metric.overall,
        "fg": curve.gap,
        "fg_band": curve.gap_band,
        "retained": metric.retained,
        "retained_overall": metric.retained_overall,
        "coverage": {name: metric.coverage(name) for name in metric.by_group},
        "coverage_overall": metric.coverage(),
    }


def _change(change: Change) -> Row:
    return {**asdict(change), "measure": change.measure.name, "better": change.better}


def _flat_change(change: Change) -> Row:
    row = _change(change)
    (row["low"], row["high"]), (row["wide_low"], row["wide_high"]) = change.interval, change.wide
    return {name: value for name, value in row.items() if name not in ("interval", "wide")}


def _key(audit: Audit, result: MeasureResult | Curve) -> Row:
    key = {"model": audit.name, "feature": result.feature, "target": result.target}
    return {**key, "measure": result.measure.name}


def _group_rows(audit: Audit) -> Iterable[Row]:
    for result in audit.results:
        key = {**_key(audit, result), "better": result.measure.better}
        yield {**key, "subgroup": "(all)", **_estimate(result.overall)}
        for name, each in result.by_group.items():
            rest = {"shrunk": each.shrunk, "ranked": each.ranked, "below_5": each.small}
            yield {**key, "subgroup": name, **_estimate(each), **rest}


def _gap_rows(audit: Audit) -> Iterable[Row]:
    for result in audit.results:
        if result.gap is not None:
            key = {**_key(audit, result), "better": result.measure.better}
            yield {**key, "quantity": "gap", **_gap(result.gap)}
            for name, each in result.ratios.items():
                yield {**key, "quantity": name, **_estimate(each)}


def _curve_rows(audit: Audit) -> Iterable[Row]:
    for curve in audit.curves:
        metric = curve.metric
        parts: list[tuple[str, Any, Any, Any, Any]] = [
            (name, em, curve.bands.get(name), metric.retained[name], metric.coverage(name))
            for name, em in metric.by_group.items()
        ]
        parts.append(("(all)", metric.overall, None, metric.retained_overall, metric.coverage()))
        parts.append(("(gap)", curve.gap, curve.gap_band, None, None))
        for name, values, band, retained, coverage in parts:
            for place, level in enumerate(metric.levels):
                row = {**_key(audit, curve), "kind": curve.kind, "level": float(level)}
                row |= {"subgroup": name, "value": float(values[place])}
                if band is not None:
                    row |= {"low": float(band[0, place]), "high": float(band[1, place])}
                if retained is not None:
                    row |= {"retained": int(retained[place]), "coverage": float(coverage[place])}
                yield row


def _reliability_rows(audit: Audit) -> Iterable[Row]:
    for grouping in audit.groupings:
        for target in audit.evidence.targets:
            if target.counts is None:
                continue
            rows, limits = count_rows(target.counts), target.counts[0].limits
            for name in grouping.names:
                if not grouping.persons[name]:
                    continue
                bins = total_counts(rows[grouping.members(name)], limits).reliability()
                for place, count in enumerate(bins.counts):
                    key = {"model": audit.name, "feature": grouping.feature, "target": target.name}
                    yield {
                        **key, "subgroup": name, "claims": target.claims,
                        "low": float(bins.edges[place]), "high": float(bins.edges[place + 1]),
                        "n": int(count), "claimed": float(bins.confidence[place]),
                        "observed": float(bins.accuracy[place]),
                    }  # fmt: skip


def _case_rows(audit: Audit) -> Iterable[Row]:
    for target in audit.evidence.targets:
        columns: Mapping[str, Any] = {
            m.measure.name: m.rows for m in target.measured if m.rows.ndim == 1
        }
        for place, case_id in enumerate(audit.evidence.case_ids):
            row: Row = {"model": audit.name, "case": case_id, "target": target.name}
            row |= {name: float(values[place]) for name, values in columns.items()}
            if target.uncertainty is not None:
                row["uncertainty"] = float(target.uncertainty[place])
            yield row
