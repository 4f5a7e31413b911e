"""Figures of a simulation: PNG and SVG, a panel a bias."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fair_strategy.metrics.intervals import t_interval
from fair_strategy.workflows.reporting.figures import (
    INK,
    SOFT,
    Drawn,
    End,
    label_ends,
    level,
    panels,
    save,
    style,
)
from fair_strategy.workflows.reporting.text import listed, spoken
from fair_strategy.workflows.simulation.analysis import Analysis
from fair_strategy.workflows.simulation.analysis_settings import in_order
from fair_strategy.workflows.simulation.analysis_tables import WHOLE_POOL
from fair_strategy.workflows.simulation.figures_style import COLOURS, look

POOL, FLOOR, FIRST = "whole pool", "whole pool (floor)", "first model"
_BANDS = "Lines are means over the seeds, bands 95 % t intervals over the seeds."


def draw_figures(analysis: Analysis, rounds: pd.DataFrame, folder: Path) -> list[Drawn]:
    """All figures of an analysis, in order of showing.

    Args:
        analysis: as `analyse` gives it.
        rounds: the table of that name.
        folder: is made; files in it of the same names are replaced.
    Returns:
        What was drawn; the same tables give the same bytes.
    """
    draw: tuple[Callable[..., Drawn], ...] = (_gap, _dice, _final, _equity, _composition)
    starts = in_order({start for _, start in analysis.settings()})
    analysis, rounds = replace(analysis, measures=_ended(analysis.measures)), _ended(rounds)
    with style():
        return [make(analysis, rounds, start, folder) for start in starts for make in draw]


def _ended(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the runs that reached the last round of their setting.

    With the others a curve would be the mean of other seeds at its beginning than at its end.
    """
    setting = ["bias", "start"]
    reached = table.groupby([*setting, "arm", "seed"])["round"].transform("max")
    return table[reached == table.groupby(setting)["round"].transform("max")]


def _gap(analysis: Analysis, rounds: pd.DataFrame, start: str, folder: Path) -> Drawn:
    biases = _biases(analysis, start)
    figure, axes = panels(len(biases))
    ends = []
    for axis, bias in zip(axes[0], biases, strict=True):
        axis.set_title(f"{bias} bias")
        named = _curves(axis, analysis, bias, start, "gap")
        named += level(axis, _first(analysis, bias, start, "gap"), FIRST, dashes=(1, 2))
        named += level(axis, _whole_pool(analysis, bias, start, "gap"), FLOOR, dashes=(5, 2))
        ends.append(named)
        axis.set_ylim(bottom=0)
    axes[0, 0].set_ylabel("gap in Dice (0 is fair)")
    _finish(analysis, start, axes, ends)
    return _drawn(
        figure,
        folder,
        f"gap-{start}",
        title=f"Gap between the subgroups, {start} start",
        caption="Mean Dice of the best served subgroup minus that of the worst, on test scans that "
        f"are never annotated; lower is fairer. {_BANDS} Dotted: the first model, before any "
        "selection. Dashed: the floor, the same network trained on the whole pool as it is; "
        "a selection that takes more of the worst served subgroup can end below it.",
        alt=_alt(analysis, start, "gap", "Gap in Dice"),
    )


def _equity(analysis: Analysis, rounds: pd.DataFrame, start: str, folder: Path) -> Drawn:
    biases = _biases(analysis, start)
    figure, axes = panels(len(biases))
    ends = []
    for axis, bias in zip(axes[0], biases, strict=True):
        axis.set_title(f"{bias} bias")
        named = _curves(axis, analysis, bias, start, "equity_fairseg")
        whole = _whole_pool(analysis, bias, start, "equity_fairseg")
        ends.append(named + level(axis, whole, POOL, dashes=(5, 2)))
    axes[0, 0].set_ylabel("equity-scaled Dice (FairSeg)")
    _finish(analysis, start, axes, ends)
    return _drawn(
        figure,
        folder,
        f"equity-{start}",
        title=f"Equity-scaled Dice, {start} start",
        caption="Dice over all test scans divided by 1 plus the subgroups' distances from it "
        f"(FairSeg's variant): high only if the model is good and even. {_BANDS} Dashed: the "
        "network trained on the whole pool.",
        alt=_alt(analysis, start, "equity_fairseg", "Equity-scaled Dice"),
    )


def _dice(analysis: Analysis, rounds: pd.DataFrame, start: str, folder: Path) -> Drawn:
    biases = _biases(analysis, start)
    groups = sorted(rounds.subgroup.unique())
    figure, axes = panels(len(biases), len(groups), height=3.1)
    ends = []
    for row, group in enumerate(groups):
        own = rounds[rounds.subgroup == group]
        for axis, bias in zip(axes[row], biases, strict=True):
            axis.set_title(f"subgroup {group}, {bias} bias")
            named = _curves(axis, analysis, bias, start, "dice", own)
            whole = _whole_pool_dice(analysis, bias, start, group)
            ends.append(named + level(axis, whole, POOL, dashes=(5, 2)))
        axes[row, 0].set_ylabel("Dice")
    _finish(analysis, start, axes, ends)
    return _drawn(
        figure,
        folder,
        f"dice-{start}",
        title=f"Dice of each subgroup, {start} start",
        caption=f"Mean Dice of each subgroup's test scans. {_BANDS} Dashed: the network trained on "
        "the whole pool. A gap may close because the worst served subgroup rises, which is wanted, "
        "or because the best served one falls, which is not.",
        alt=_alt(analysis, start, "worst", "Dice of the worst served subgroup"),
    )


def _final(analysis: Analysis, rounds: pd.DataFrame, start: str, folder: Path) -> Drawn:
    biases = _biases(analysis, start)
    own = analysis.summary[(analysis.summary.start == start)]
    arms = [arm for arm in in_order(own.arm.unique()) if arm != WHOLE_POOL]
    last = own[own.arm.isin(arms)].groupby("arm").gap.mean().sort_values(ascending=False)
    order = list(last.index)
    figure, axes = panels(len(biases), height=1.3 + 0.34 * len(order), sharex=True)
    for axis, bias in zip(axes[0], biases, strict=True):
        axis.set_title(f"{bias} bias")
        for place, arm in enumerate(order):
            _interval(axis, analysis, own[(own.bias == bias) & (own.arm == arm)], place)
        floor = _whole_pool(analysis, bias, start, "gap")
        if not np.isnan(floor):
            axis.axvline(floor, color=INK, linewidth=1.0, dashes=(5, 2), zorder=1)
            axis.annotate(
                "floor", (floor, len(order) - 0.45), xytext=(3, 0), textcoords="offset points",
                fontsize=8, va="center",
            )  # fmt: skip
        names = [_with_seeds(own, arm) for arm in order]
        axis.set_yticks(range(len(order)), names, color=INK)
        axis.set_ylim(-0.6, len(order) - 0.2)
        axis.set_xlabel("gap in Dice at the final budget")
        axis.grid(axis="y", visible=False)
    axes[0, 0].set_xlim(0, 1.25 * axes[0, 0].get_xlim()[1])  # all panels; room for the numbers
    return _drawn(
        figure,
        folder,
        f"final-{start}",
        title=f"Gap at the final budget, every arm, {start} start",
        caption="Points are means over the seeds; lines are 95 % intervals of a hierarchical "
        "bootstrap over seeds and test scans. Beside them: reduction against entropy in the seeds "
        "that both have; after a name the number of seeds, where it is smaller than the others'. "
        "Dashed: floor, the model trained on the whole pool.",
        alt=_alt(analysis, start, "gap", "Gap in Dice"),
    )


def _with_seeds(summary: pd.DataFrame, arm: str) -> str:
    """The arm's name, and its number of seeds where others have more."""
    seeds = summary[summary.arm == arm].seeds.max()
    return spoken(arm) if seeds == summary.seeds.max() else f"{spoken(arm)} ({seeds})"


def _interval(axis: Any, analysis: Analysis, row: pd.DataFrame, place: int) -> None:
    if row.empty:
        return
    found = row.iloc[0]
    role = _roles(analysis, found.bias, found.start).get(found.arm)
    colour = COLOURS[role] if role else SOFT
    axis.plot([found.gap_low, found.gap_high], [place, place], color=colour, linewidth=2)
    axis.plot(
        found.gap, place, color=colour, marker=look(role).get("marker", "o"), markersize=6.5,
        markeredgecolor="white",
    )  # fmt: skip
    if not np.isnan(found.gap_reduction):
        end = np.nanmax([found.gap, found.gap_high])
        axis.annotate(
            f"{-100 * found.gap_reduction:+.0f} %".replace("-", "−"),
            (end, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8.5,
            color=colour, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip


def _composition(analysis: Analysis, rounds: pd.DataFrame, start: str, folder: Path) -> Drawn:
    biases = _biases(analysis, start)
    figure, axes = panels(len(biases))
    worst = {bias: _worst_at_first(analysis, bias, start) for bias in biases}
    labelled = rounds.assign(share=100 * rounds.labelled / rounds.n_labelled)
    ends = []
    for axis, bias in zip(axes[0], biases, strict=True):
        own = labelled[labelled.subgroup == worst[bias]]
        axis.set_title(f"{bias} bias: subgroup {worst[bias]}")
        named = _curves(axis, analysis, bias, start, "share", own)
        even = 100 / rounds.subgroup.nunique()
        ends.append(named + level(axis, even, "an even share", dashes=(1, 2)))
        axis.set_ylim(0, 100)
    axes[0, 0].set_ylabel("share of the annotated scans, %")
    _finish(analysis, start, axes, ends)
    return _drawn(
        figure,
        folder,
        f"composition-{start}",
        title=f"Whose scans were annotated, {start} start",
        caption="Share of the labelled set that comes from the subgroup which the first model "
        f"serves worst. {_BANDS}",
        alt=f"Share of subgroup {listed(sorted(set(worst.values())))} in the labelled set against "
        "the number of annotated scans; the numbers are in the table of subgroups.",
    )


def _curves(
    axis: Any,
    analysis: Analysis,
    bias: str,
    start: str,
    measure: str,
    table: pd.DataFrame | None = None,
) -> list[End]:
    """Mean and band of each arm against the budget; the ends of the named ones."""
    rows = analysis.measures if table is None else table
    rows = rows[(rows.bias == bias) & (rows.start == start) & (rows["round"] >= 0)]
    roles = _roles(analysis, bias, start)
    ends = []
    for arm in in_order(rows.arm.unique()):
        curve = _over_seeds(rows[rows.arm == arm], measure)
        line = look(roles.get(arm))
        axis.plot(curve.n_labelled, curve.centre, **line)
        if arm in roles and len(curve):
            axis.fill_between(
                curve.n_labelled, curve.low, curve.high, color=line["color"], alpha=0.13,
                linewidth=0, zorder=line["zorder"] - 2,
            )  # fmt: skip
            x, y = curve[["n_labelled", "centre"]].iloc[-1]
            ends.append(End(spoken(arm), x, y, line["color"], bold=roles[arm] == "headline"))
    return ends


def _over_seeds(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    points = []
    for _, seeds in rows.groupby("round", sort=True):
        values = seeds[measure].dropna().to_numpy(np.float64)
        if not values.size:
            continue
        error = values.std(ddof=1) / np.sqrt(values.size) if values.size > 1 else float("nan")
        low, high = t_interval(float(values.mean()), float(error), values.size, 0.95)
        points.append((float(seeds.n_labelled.mean()), float(values.mean()), low, high))
    return pd.DataFrame(points, columns=["n_labelled", "centre", "low", "high"])


def _finish(analysis: Analysis, start: str, axes: Any, ends: list[list[End]]) -> None:
    """Direct labels, once the shared limits are known; what the grey lines are."""
    for axis, own in zip(axes.flat, ends, strict=True):
        label_ends(axis, own)
    for axis in axes[-1]:
        axis.set_xlabel("annotated scans", loc="left")
    drawn = analysis.summary[analysis.summary.start == start].arm
    named = {arm for bias in _biases(analysis, start) for arm in _roles(analysis, bias, start)}
    others = set(drawn) - named - {WHOLE_POOL}
    if others:
        text = f"grey: {len(others)} other arm{'s' if len(others) > 1 else ''}"
        axes[0, -1].set_title(text, loc="right", fontsize=8.5, fontweight="normal", color=SOFT)


def _roles(analysis: Analysis, bias: str, start: str) -> dict[str, str]:
    """Arm -> role; an arm with two is the headline."""
    roles = analysis.roles[bias, start]
    return {arm: role for role, arm in reversed(roles.items())}


def _biases(analysis: Analysis, start: str) -> list[str]:
    return [bias for bias, other in analysis.settings() if other == start]


def _whole_pool(analysis: Analysis, bias: str, start: str, measure: str) -> float:
    rows = analysis.summary
    own = rows[(rows.bias == bias) & (rows.start == start) & (rows.arm == WHOLE_POOL)]
    return float(own[measure].mean())


def _whole_pool_dice(analysis: Analysis, bias: str, start: str, group: str) -> float:
    rows = analysis.groups
    rows = rows[(rows.bias == bias) & (rows.start == start) & (rows.arm == WHOLE_POOL)]
    return float(rows[rows.subgroup == group].dice.mean())


def _first(analysis: Analysis, bias: str, start: str, measure: str) -> float:
    """Mean over seeds of the model that all arms of a seed start from."""
    rows = analysis.measures
    rows = rows[(rows.bias == bias) & (rows.start == start) & (rows["round"] == 0)]
    return float(rows.drop_duplicates("seed")[measure].mean())


def _worst_at_first(analysis: Analysis, bias: str, start: str) -> str:
    """The group that the first model of most seeds serves worst."""
    rows = analysis.measures
    rows = rows[(rows.bias == bias) & (rows.start == start) & (rows["round"] >= 0)]
    first = rows[rows["round"] == rows["round"].min()].drop_duplicates("seed")
    return str(first.worst_group.mode().iloc[0])


def _alt(analysis: Analysis, start: str, measure: str, name: str) -> str:
    sentences = []
    for bias in _biases(analysis, start):
        roles = _roles(analysis, bias, start)
        own = analysis.summary[(analysis.summary.bias == bias) & (analysis.summary.start == start)]
        values = [
            f"{spoken(row.arm)} {row[measure]:.3f}"
            for _, row in own.iterrows()
            if row.arm in roles or row.arm == WHOLE_POOL
        ]
        sentences.append(f"{bias} bias: {', '.join(values)}")
    return f"{name} against the number of annotated scans. At the end, {'; '.join(sentences)}."


def _drawn(figure: Any, folder: Path, name: str, **text: str) -> Drawn:
    name = re.sub(r"[^A-Za-z0-9]+", "-", name)
    png, svg = save(figure, folder, name)
    return Drawn(name, png=png, svg=svg, **text)
