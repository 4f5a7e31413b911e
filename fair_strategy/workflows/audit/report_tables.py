"""The tables of the report of an audit."""

from collections.abc import Sequence

from fair_strategy.workflows.audit.audit import Audit
from fair_strategy.workflows.audit.comparison import Change
from fair_strategy.workflows.audit.estimates import Estimate, MeasureResult
from fair_strategy.workflows.audit.findings import cell, feature_words, plain_number
from fair_strategy.workflows.audit.grouping import Grouping
from fair_strategy.workflows.audit.measures import NEITHER
from fair_strategy.workflows.reporting.text import NOTHING, Table, interval, p_value


def groups_table(audit: Audit, grouping: Grouping, target: str) -> Table:
    """Every measure of a target: raw value, interval and n of each subgroup, shrunk below."""
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
        f"Every measure{of}, by {feature_words(grouping.feature)}",
        "Raw value, in parentheses its 95 % interval and the number of cases that have a value; "
        "under it the shrunk value. “n < 5”: too few persons to show.",
        ("measure", "better", *(_header(name, grouping) for name in names), "all cases"),
        tuple(rows),
        words=2,
    )


def gaps_table(audit: Audit, grouping: Grouping, target: str) -> Table:
    """Every gap of a target with its interval, null and p; ratios of scores in [0, 1]."""
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
        f"Gaps{of}, by {feature_words(grouping.feature)}",
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


def changes_table(changes: Sequence[Change], feature: str, names: tuple[str, str]) -> Table:
    """Paired differences of two models by one feature: of each subgroup, the gap, all cases."""
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
