"""EM and FG against 100 - tau, a column an objective, as Mehta, Shui and Arbel 2023 plot them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fair_strategy.workflows.audit.curves import TAU, VOXELS
from fair_strategy.workflows.reporting.figures import (
    BLUE,
    INK,
    VERMILION,
    Drawn,
    End,
    label_ends,
    panels,
    save,
    style,
)
from fair_strategy.workflows.tasks.results import NAMES, TITLES, TaskRun, numbers

_CURVED = {"isic": ("accuracy", TAU), "brats": ("dice", VOXELS), "adni": ("rmse", TAU)}
_COLOURS = (BLUE, VERMILION)


def draw_filtered(runs: Sequence[TaskRun], folder: Path) -> list[Drawn]:
    """A figure a region or quantity: EM by subgroup, FG and what is retained, for each objective.

    Targets without uncertainties have no curve and no figure.
    """
    measure, kind = _CURVED[runs[0].task]
    figures = []
    with style():
        for target in runs[0].targets:
            curves = {run.objective: run.curve(measure, target, kind) for run in runs}
            there = {name: curve for name, curve in curves.items() if curve is not None}
            if there:
                figures.append(_filtered(runs[0], target, there, folder))
    return figures


def _filtered(
    first: TaskRun, target: str, curves: Mapping[str, Mapping[str, Any]], folder: Path
) -> Drawn:
    groups = first.groups[: len(_COLOURS)]
    any_curve = next(iter(curves.values()))
    things = "voxels" if any_curve["kind"] == VOXELS else "cases"
    title = first.measure(any_curve["measure"], target)["title"]
    figure, axes = panels(len(curves), 3, height=2.5, sharey="row")
    figure.set_size_inches(4.4 * len(curves), 7.4)
    ends = [_column(axes[:, place], curve, groups) for place, curve in enumerate(curves.values())]
    for place, name in enumerate(curves):
        axes[0, place].set_title(NAMES[name])
        axes[1, place].axhline(0, color=INK, linewidth=0.9)
        axes[2, place].set_xlabel("100 − τ", loc="left")
    for row, words in enumerate((f"{title} (EM)", "gap (FG)", f"{things} kept, %")):
        axes[row, 0].set_ylabel(words)
        for place in range(len(curves)):
            label_ends(axes[row, place], ends[place][row])
    of = f" of {target}" if target else ""
    png, svg = save(figure, folder, "-".join(filter(None, (first.task, target.lower()))))
    return Drawn(
        png.stem,
        title=f"{TITLES[first.task]}: {title}{of} as uncertain {things} are set aside",
        caption=f"From left to right more {things} are set aside: those whose uncertainty, 0 to "
        "100 over the test set, is above τ. Above EM of each subgroup, in the middle the gap FG, "
        f"below the share of each subgroup's {things} that is kept. Wanted: FG falls and EM gets "
        "no worse. Bands are 95 % bootstrap intervals; a curve ends where fewer than 5 cases are "
        "kept.",
        alt=f"{title}{of}, gap and {things} kept against 100 − τ, one column an objective",
        png=png,
        svg=svg,
    )


def _column(axes: Any, curve: Mapping[str, Any], groups: Sequence[str]) -> list[list[End]]:
    """Ends of the lines of each of the three panels."""
    x = 100 - numbers(curve["levels"])
    em, kept = [], []
    for group, colour in zip(groups, _COLOURS, strict=False):
        em += _line(axes[0], x, curve["em"][group], curve["em_band"].get(group), (group, colour))
        share = 100 * numbers(curve["coverage"][group])
        kept += _line(axes[2], x, share, None, (group, colour))
    gap = _line(axes[1], x, curve["fg"], curve["fg_band"], ("gap", INK))
    return [em, gap, kept]


def _line(axis: Any, x: np.ndarray, values: Any, band: Any, look: tuple[str, str]) -> list[End]:
    name, colour = look
    y = numbers(values)
    known = ~np.isnan(y)
    if not known.any():
        return []
    order = np.argsort(x[known])
    xs, ys = x[known][order], y[known][order]
    if band is not None:
        low, high = (numbers(side)[known][order] for side in band)
        axis.fill_between(xs, low, high, color=colour, alpha=0.13, linewidth=0)
    axis.plot(xs, ys, linewidth=1.9, color=colour)
    return [End(name, float(xs[-1]), float(ys[-1]), colour, bold=True)]
