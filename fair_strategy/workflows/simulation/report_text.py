"""The words and tables of a simulation's report, the same for HTML and Markdown."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fair_strategy.workflows.reporting.text import (
    NBSP,
    NOTHING,
    Table,
    interval,
    listed,
    number,
    p_value,
    percent,
    signed,
    spoken,
    three,
)
from fair_strategy.workflows.simulation.analysis import (
    LEVELLED_DOWN,
    REFERENCES,
    Analysis,
    in_order,
)
from fair_strategy.workflows.simulation.analysis_tables import WHOLE_POOL, Tables

PUBLISHED = {"strong": 0.75, "weak": 0.86}
"""Reduction of the disparity against standard entropy at the final budget: the abstract of Danaee,
Gaillochet, Desrosiers, Lombaert and Bouix, MIDL 2026, arXiv:2605.01706."""
COMMAND = "fair-strategy simulate CONFIG.yaml --out OUT"


@dataclass(frozen=True)
class Reading:
    """What was found in one setting, in plain words.

    Attributes:
        title: the setting.
        figure: the reduction of the gap, as text; a dash where it is not known.
        under: what that figure is.
        sentences: the reading.
        warning: whether a subgroup was levelled down under the headline arm.
    """

    title: str
    figure: str
    under: str
    sentences: tuple[str, ...]
    warning: bool


def readings(analysis: Analysis) -> list[Reading]:
    """A reading for every setting that has a finished headline arm and entropy."""
    found = []
    for bias, start in analysis.settings():
        roles = analysis.roles[bias, start]
        rows = _rows(analysis, bias, start)
        if {roles.get("headline"), roles.get("entropy")} <= set(rows):
            found.append(_reading(analysis, bias, start, roles, rows))
    return found


def _reading(
    analysis: Analysis, bias: str, start: str, roles: dict[str, str], rows: dict[str, Any]
) -> Reading:
    own, entropy = rows[roles["headline"]], rows[roles["entropy"]]
    levelling, down = _levelling(analysis, own)
    return Reading(
        title=_name(bias, start),
        figure=percent(own.gap_reduction),
        under=f"reduction of the gap against entropy{_interval(own, 'gap_reduction', percent)}",
        sentences=(
            f"At {own.n_labelled:.0f} annotated scans the gap in Dice between the subgroups was "
            f"{three(own.gap)} under {spoken(own.arm)} and {three(entropy.gap)} under entropy: "
            f"{_change(own, 'gap_reduction')}, "
            f"{_seeds(own.gap_reduction_seeds)}, {_p(analysis, own, roles['entropy'])}.",
            _above_floor(rows, own, entropy),
            *_against_balanced(analysis, own, roles, rows),
            levelling,
        ),
        warning=down,
    )


def _change(row: Any, name: str) -> str:
    reduction = row[name]
    if np.isnan(reduction):
        return "a reduction that cannot be told"
    told = _with_interval(row, name, percent)
    if reduction < 0:
        return f"an increase by {percent(-reduction)} (as a reduction: {told})"
    return f"a reduction of {told}"


def _above_floor(rows: dict[str, Any], own: Any, entropy: Any) -> str:
    if WHOLE_POOL not in rows or np.isnan(own.excess):
        return "No model was trained on the whole pool, so the gap above its floor is not known."
    text = (
        "The same network trained on the whole pool still has a gap of "
        f"{three(rows[WHOLE_POOL].gap)}, the floor. Above it {spoken(own.arm)} left "
        f"{signed(own.excess)}"
    )
    if np.isnan(own.excess_reduction):
        return f"{text}; entropy's own excess may be 0, so no reduction is told."
    return f"{text} and entropy {signed(entropy.excess)}: {_change(own, 'excess_reduction')}."


def _against_balanced(
    analysis: Analysis, own: Any, roles: dict[str, str], rows: dict[str, Any]
) -> Iterator[str]:
    other = rows.get(roles.get("balanced_random", ""))
    if other is None or other.arm == own.arm:
        return
    test = _test(analysis, own, other.arm, "gap")
    yield (
        f"Drawing at random, the subgroups in turn, ended at a gap of {three(other.gap)}; the "
        f"difference to {spoken(own.arm)} is {signed(test.difference)} "
        f"({interval(test.low, test.high, signed)}), {_p(analysis, own, other.arm)}."
    )


def _levelling(analysis: Analysis, own: Any) -> tuple[str, bool]:
    groups = analysis.groups
    groups = groups[(groups.bias == own.bias) & (groups.start == own.start)]
    groups = groups[groups.arm == own.arm]
    lower = [
        f"{three(-row[key])} below its value under {spoken(name)} (subgroup {row.subgroup}; "
        f"interval of the difference: {interval(row[f'{key}_low'], row[f'{key}_high'], signed)})"
        for _, row in groups.iterrows()
        for name in ("entropy", "balanced_random")
        if row[key := f"to_{name}"] < -LEVELLED_DOWN
    ]
    if lower:
        return f"Levelling down: a subgroup ended {listed(lower)}.", True
    return (
        f"No levelling down: no subgroup ended more than {LEVELLED_DOWN} Dice below its own "
        "value under entropy or balanced random.",
        False,
    )


def tables(analysis: Analysis) -> list[Table]:
    """All tables, in order of showing."""
    found = [published_table(analysis)]
    for bias, start in analysis.settings():
        found.append(final_table(analysis, bias, start))
        found.append(levelling_table(analysis, bias, start))
        found.append(measures_table(analysis, bias, start))
        found.append(tests_table(analysis, bias, start))
    return [table for table in [*found, volume_table(analysis)] if table.rows]


def published_table(analysis: Analysis) -> Table:
    """The headline arm against the published figure."""
    rows = []
    for bias, start in analysis.settings():
        own = _rows(analysis, bias, start).get(analysis.roles[bias, start].get("headline", ""))
        if own is not None:
            rows.append(
                (
                    f"{bias}, {start} start",
                    percent(PUBLISHED.get(bias, np.nan)),
                    _with_interval(own, "gap_reduction", percent),
                    _with_interval(own, "excess_reduction", percent),
                    f"{own.gap_reduction_seeds}",
                )
            )
    return Table(
        "Against the published headline",
        "Reduction of the gap at the final budget, 1 − mean over seeds of the gap under weighted "
        "entropy / mean under entropy; excess: the same of the gap above the whole-pool model's "
        "(over 100 %: below that floor). Published: Danaee et al. 2026 (arXiv 2605.01706), whose "
        "abstract alone was available: other images, other budgets, and it does not say which "
        "start or which disparity metric the figure belongs to. In parentheses 95 % intervals.",
        ("setting", "published", "raw", "excess", "seeds"),
        tuple(rows),
    )


def final_table(analysis: Analysis, bias: str, start: str) -> Table:
    """Gap, reductions and Dice of every arm at the final budget."""
    rows = [
        (
            spoken(row.arm),
            f"{row.seeds}",
            _with_interval(row, "gap", three),
            NOTHING if row.arm == WHOLE_POOL else _with_interval(row, "excess", signed),
            _with_interval(row, "gap_reduction", percent),
            _with_interval(row, "excess_reduction", percent),
            _with_interval(row, "worst", three),
            _with_interval(row, "overall", three),
        )
        for row in _rows(analysis, bias, start).values()
    ]
    last = analysis.summary
    last = last[(last.bias == bias) & (last.start == start) & (last.arm != WHOLE_POOL)]
    return Table(
        f"{_name(bias, start)}: {last.n_labelled.max():.0f} annotated scans",
        "Means over the seeds; in parentheses 95 % intervals of the bootstrap. Excess gap: above "
        "the gap of the whole-pool model. Reductions are against entropy.",
        (
            *("arm", "seeds", "gap in Dice", "excess gap", "reduction of the gap"),
            *("reduction of the excess", "Dice, worst subgroup", "Dice, all"),
        ),
        tuple(rows),
    )


def measures_table(analysis: Analysis, bias: str, start: str) -> Table:
    """The other measures of every arm: equity-scaled, SER, surface distance, areas."""
    rows = [
        (
            spoken(row.arm),
            _with_interval(row, "equity_fairseg", three),
            _with_interval(row, "equity_std", three),
            number(row.ser, 2),
            number(row.overall_mm, 2),
            number(row.gap_mm, 2),
            three(row.aubc_overall),
            three(row.aubc_worst),
            three(row.aubc_gap),
        )
        for row in _rows(analysis, bias, start).values()
    ]
    return Table(
        f"Other measures: {_name(bias, start)}",
        "Means over the seeds at the final budget. SER: error of the worst served subgroup over "
        "that of the best served; 1 is fair. AUBC: area under the curve over the budget, divided "
        "by its range.",
        (
            *("arm", "equity-scaled Dice, FairSeg", "equity-scaled Dice, std", "SER"),
            *("surface distance, mm", "its gap, mm", "AUBC, Dice", "AUBC, worst subgroup"),
            "AUBC, gap",
        ),
        tuple(rows),
    )


def levelling_table(analysis: Analysis, bias: str, start: str) -> Table:
    """Each subgroup under each arm, against its own value under entropy and balanced random."""
    groups = analysis.groups
    groups = groups[(groups.bias == bias) & (groups.start == start)]
    order = {arm: place for place, arm in enumerate(in_order(groups.arm.unique()))}
    groups = groups.assign(order=groups.arm.map(order)).sort_values(["order", "subgroup"])
    rows = [
        (
            spoken(row.arm),
            row.subgroup,
            f"{row.n_test}",
            number(row.labelled, 1),
            _with_interval(row, "dice", three),
            _with_interval(row, "to_entropy", signed),
            _with_interval(row, "to_balanced_random", signed),
            "lower" if row.down else "",
            number(row.surface_distance_mm, 2) + _without(row.without_mm),
        )
        for _, row in groups.iterrows()
    ]
    return Table(
        f"No levelling down? {_name(bias, start)}",
        f"Dice of each subgroup against its own under entropy and balanced random; flagged where "
        f"it is more than {LEVELLED_DOWN} below either. Labelled: its scans in the labelled set. "
        "Surface distance: mean over the test scans that have one, those without (an empty "
        "prediction) over all seeds are counted beside it.",
        (
            *("arm", "subgroup", "test scans", "labelled", "Dice", "against entropy"),
            *("against balanced random", "flag", "surface distance, mm"),
        ),
        tuple(rows),
        words=2,
    )


_MEASURES = {
    "gap": "gap",
    "excess": "excess gap",
    "worst": "worst subgroup",
    "overall": "Dice",
    "equity_fairseg": "equity-scaled, FairSeg",
    "equity_std": "equity-scaled, std",
    "aubc_overall": "AUBC Dice",
    "aubc_worst": "AUBC worst",
    "aubc_gap": "AUBC gap",
}


def tests_table(analysis: Analysis, bias: str, start: str) -> Table:
    """Paired tests of the headline arm; those of all arms are in tests.csv."""
    tests = analysis.tests
    arm = analysis.roles[bias, start].get("headline")
    own = tests[(tests.bias == bias) & (tests.start == start) & (tests.arm == arm)]
    rows = []
    for measure, name in _MEASURES.items():
        cells: list[str] = []
        for role in REFERENCES:
            reference = analysis.roles[bias, start].get(role)
            row = own[(own.measure == measure) & (own.reference == reference)]
            known = len(row) == 1 and row.seeds.iloc[0] > 0
            cells += _cells(row.iloc[0]) if known else [NOTHING, NOTHING]
        rows.append((name, *cells))
    seeds = int(own.seeds.max()) if len(own) else 1
    return Table(
        f"Paired tests: {_name(bias, start)}",
        f"{spoken(arm or '').capitalize()} minus the other: mean of the paired differences over "
        "the seeds with a 95 % t interval, and the exact sign-flip permutation p (two-sided, not "
        f"adjusted for the number of tests; with {seeds} seeds none can lie below "
        f"{min(1.0, 2 / 2**seeds):.2g}). "
        "The test of the excess gap is that of the gap, since both arms have the same floor.",
        ("measure", *(cell for role in REFERENCES for cell in (f"to {spoken(role)}", "p"))),
        tuple(rows) if len(own) else (),
    )


def volume_table(analysis: Analysis) -> Table:
    """Rank correlation of the scores with the true volume."""
    volume, rows = analysis.volume, []
    for bias, start in analysis.settings():
        own = volume[(volume.bias == bias) & (volume.start == start)]
        for score, by_score in own.groupby("score", sort=True):
            by_model = by_score.set_index("model")
            cells = [
                number(by_model[column].get(model, np.nan), 2, sign=True)
                for model in ("first", "last")
                for column in ("fixed_quality", "plain")
            ]
            rows.append((f"{bias}, {start} start", spoken(str(score)), *cells))
    return Table(
        "Do the scores follow the volume of the structure?",
        "Spearman correlation of each case entropy with the true volume over the unlabelled pool, "
        "mean over runs. At fixed quality: partial correlation given Dice (rank residuals); near 0 "
        "is wanted, since a score that follows volume selects by anatomy. First model: shared by "
        "all arms of a seed; last: the last scored round of all arms.",
        (
            *("setting", "score", "first model, fixed quality", "plain"),
            *("last model, fixed quality", "plain"),
        ),
        tuple(rows),
        words=2,
    )


def facts(given: Tables) -> list[tuple[str, str]]:
    """Seeds, number of scans, hardware, time, versions, command."""
    rounds, run = given.rounds, given.run
    runs = rounds[rounds.arm != WHOLE_POOL]
    seeds = sorted(int(seed) for seed in runs.seed.unique())
    tested = rounds.groupby("subgroup").n_test.max()
    found = [
        ("Seeds", f"{len(seeds)}: {', '.join(map(str, seeds))}"),
        ("Test scans", ", ".join(f"{n} of {group}" for group, n in tested.items())),
        ("Arms", listed(spoken(arm) for arm in in_order(runs.arm.unique()))),
        ("Hardware", _flat(run.get("hardware", {})) or "not stated"),
    ]
    if "wall_seconds" in run:
        found.append(("Time", f"{float(run['wall_seconds']) / 3600:.1f} h"))
    found.append(("Versions", _flat(run.get("versions", {})) or "not stated"))
    return [*found, ("Command", str(run.get("command") or COMMAND))]


METHOD = (
    "Gap: mean Dice of the best served subgroup minus that of the worst, per run; for two "
    "subgroups the absolute difference. Excess gap: minus the gap of the model of the same seed "
    "that was trained on the whole pool; it may be negative.",
    "Reduction: 1 − (mean over seeds of the gap) / (mean over seeds of entropy's gap), a ratio of "
    "means, over the seeds that both have.",
    "Bootstrap: seeds, and test scans within each subgroup, drawn with replacement; a draw takes "
    "the same test scans in every run, because the runs share one test set. Intervals are expanded "
    "percentiles (Hesterberg 2015), since plain ones are too narrow for few seeds: in a trial with "
    "8 seeds 95 % intervals of a difference held the truth in 88 % (plain) and 95 % (expanded).",
    "Tests: exact sign-flip permutation of the paired differences over seeds.",
    "AUBC: trapezoids between the first model and the final budget, divided by the range of the "
    "budget: the level that the measure had on average while scans were being annotated.",
)
LIMITS = (
    "Synthetic scans with one planted effect on one structure. Nothing here says how large such a "
    "gap is in patients.",
    "The weight rules are a documented family, written from an abstract; this is no reproduction "
    "of the published method.",
    "A group's Dice depends on its structure's size: small structures score lower at the same "
    "boundary error. Hence the floor, and the surface distance beside Dice.",
    "Intervals tell about other seeds and other test scans of this kind, not about another cohort, "
    "network or budget.",
    "Only the gap under the headline arm against entropy is the stated main comparison. All other "
    "tests are shown unadjusted, as description.",
)


def _with_interval(row: Any, name: str, form: Callable[[float], str]) -> str:
    if np.isnan(row[name]):
        return NOTHING
    return f"{form(row[name])}{_interval(row, name, form)}"


def _interval(row: Any, name: str, form: Callable[[float], str]) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if np.isnan(low) or np.isnan(high) else f" ({interval(low, high, form)})"


def _rows(analysis: Analysis, bias: str, start: str) -> dict[str, Any]:
    summary = analysis.summary
    own = summary[(summary.bias == bias) & (summary.start == start)]
    return {row.arm: row for _, row in own.iterrows()}


def _test(analysis: Analysis, own: Any, reference: str, measure: str) -> Any:
    tests = analysis.tests
    tests = tests[(tests.bias == own.bias) & (tests.start == own.start) & (tests.arm == own.arm)]
    return tests[(tests.reference == reference) & (tests.measure == measure)].iloc[0]


def _p(analysis: Analysis, own: Any, reference: str) -> str:
    if own.arm == reference:
        return "the same arm"
    test = _test(analysis, own, reference, "gap")
    p = test.p
    return "no test" if test.seeds < 2 else f"p{NBSP}={NBSP}{p_value(p)}"


def _seeds(number: int) -> str:
    return f"{number} seed{'' if number == 1 else 's'}"


def _cells(row: pd.Series) -> list[str]:
    difference = signed(row.difference)
    known = not np.isnan(row.low)
    return [
        f"{difference} ({interval(row.low, row.high, signed)})" if known else difference,
        p_value(row.p),
    ]


def _without(count: int) -> str:
    return f" ({count} without)" if count else ""


def _name(bias: str, start: str) -> str:
    return f"{bias.capitalize()} bias, {start} start"


def _flat(given: Any) -> str:
    """A mapping in one line."""
    if not isinstance(given, dict):
        return str(given)
    return ", ".join(f"{spoken(str(name))} {value}" for name, value in given.items())
