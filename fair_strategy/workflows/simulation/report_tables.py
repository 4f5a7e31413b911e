"""The tables of a simulation's report."""

import numpy as np
import pandas as pd

from fair_strategy.workflows.reporting.text import (
    NOTHING,
    Table,
    interval,
    number,
    p_value,
    percent,
    signed,
    spoken,
    three,
)
from fair_strategy.workflows.simulation.analysis import LEVELLED_DOWN, Analysis
from fair_strategy.workflows.simulation.analysis_settings import REFERENCES, in_order
from fair_strategy.workflows.simulation.analysis_tables import WHOLE_POOL
from fair_strategy.workflows.simulation.report_values import rows_of, setting_name, with_interval

PUBLISHED = {"strong": 0.75, "weak": 0.86}
"""Reduction of the disparity against standard entropy at the final budget: the abstract of Danaee,
Gaillochet, Desrosiers, Lombaert and Bouix, MIDL 2026, arXiv:2605.01706."""


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
        own = rows_of(analysis, bias, start).get(analysis.roles[bias, start].get("headline", ""))
        if own is not None:
            rows.append(
                (
                    f"{bias}, {start} start",
                    percent(PUBLISHED.get(bias, np.nan)),
                    with_interval(own, "gap_reduction", percent),
                    with_interval(own, "excess_reduction", percent),
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
            with_interval(row, "gap", three),
            NOTHING if row.arm == WHOLE_POOL else with_interval(row, "excess", signed),
            with_interval(row, "gap_reduction", percent),
            with_interval(row, "excess_reduction", percent),
            with_interval(row, "worst", three),
            with_interval(row, "overall", three),
        )
        for row in rows_of(analysis, bias, start).values()
    ]
    last = analysis.summary
    last = last[(last.bias == bias) & (last.start == start) & (last.arm != WHOLE_POOL)]
    return Table(
        f"{setting_name(bias, start)}: {last.n_labelled.max():.0f} annotated scans",
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
            with_interval(row, "equity_fairseg", three),
            with_interval(row, "equity_std", three),
            number(row.ser, 2),
            number(row.overall_mm, 2),
            number(row.gap_mm, 2),
            three(row.aubc_overall),
            three(row.aubc_worst),
            three(row.aubc_gap),
        )
        for row in rows_of(analysis, bias, start).values()
    ]
    return Table(
        f"Other measures: {setting_name(bias, start)}",
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
            number(row.weight, 2),
            with_interval(row, "dice", three),
            with_interval(row, "to_entropy", signed),
            with_interval(row, "to_balanced_random", signed),
            "lower" if row.down else "",
            number(row.surface_distance_mm, 2) + _without(row.without_mm),
        )
        for _, row in groups.iterrows()
    ]
    return Table(
        f"No levelling down? {setting_name(bias, start)}",
        f"Dice of each subgroup against its own under entropy and balanced random; flagged where "
        f"it is more than {LEVELLED_DOWN} below either. Labelled: its scans in the labelled set. "
        "Weight: mean over the plans of the runs, where the strategy follows weights. "
        "Surface distance: mean over the test scans that have one, those without (an empty "
        "prediction) over all seeds are counted beside it.",
        (
            *("arm", "subgroup", "test scans", "labelled", "weight", "Dice"),
            *("against entropy", "against balanced random", "flag", "surface distance, mm"),
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
        f"Paired tests: {setting_name(bias, start)}",
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
        for (score, measured), by_score in own.groupby(["score", "measured"], sort=True):
            by_model = by_score.set_index("model")
            cells = [
                number(by_model[column].get(model, np.nan), 2, sign=True)
                for model in ("first", "last")
                for column in ("fixed_quality", "plain")
            ]
            name = spoken(str(score)) + (f" ({measured})" if measured else "")
            rows.append((f"{bias}, {start} start", name, *cells))
    return Table(
        "Do the scores follow the volume of the structure?",
        "Spearman correlation of each case entropy with the true volume over the unlabelled pool, "
        "mean over runs. At fixed quality: partial correlation given Dice (rank residuals); near 0 "
        "is wanted, since a score that follows volume selects by anatomy. First model: shared by "
        "all arms of a seed; last: the last scored round of all arms that measure so.",
        (
            *("setting", "score", "first model, fixed quality", "plain"),
            *("last model, fixed quality", "plain"),
        ),
        tuple(rows),
        words=2,
    )


def _cells(row: pd.Series) -> list[str]:
    difference = signed(row.difference)
    known = not np.isnan(row.low)
    return [
        f"{difference} ({interval(row.low, row.high, signed)})" if known else difference,
        p_value(row.p),
    ]


def _without(count: int) -> str:
    return f" ({count} without)" if count else ""
