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
        axes[2, place].set_xlabel("100 − τ", loc="left")
    for row, words in enumerate((f"{title} (EM)", "gap (FG)", f"{things} kept, %")):
        axes[row, 0].set_ylabel(words)
    for place, (em, kept) in enumerate(ends):
        label_ends(axes[0, place], em)
        label_ends(axes[2, place], kept)
    for above, axis in zip(axes[0], axes[1], strict=True):  # one line needs no name beside it
        axis.set_xticks(above.get_xticks())
        axis.set_xlim(above.get_xlim())
        axis.spines.bottom.set_bounds(above.spines.bottom.get_bounds() or above.get_xlim())
    of = f" of {target}" if target else ""
    png, svg = save(figure, folder, "-".join(filter(None, (first.task, target.lower()))))
    return Drawn(
        png.stem,
        title=f"{TITLES[first.task]}: {title}{of} as uncertain {things} are set aside",
        caption=f"EM of each subgroup, the gap FG, and the share of each subgroup's {things} that "
        f"is kept; one column an objective. n = {_sizes(any_curve, groups)}.",
        alt=f"{title}{of}, gap and {things} kept against 100 − τ, one column an objective",
        png=png,
        svg=svg,
    )


def _sizes(curve: Mapping[str, Any], groups: Sequence[str]) -> str:
    """What is kept of each subgroup where nothing is set aside."""
    return ", ".join(f"{curve['retained'][group][-1]:,} {group}" for group in groups)


def _column(
    axes: Any, curve: Mapping[str, Any], groups: Sequence[str]
) -> tuple[list[End], list[End]]:
    """Draw the three panels of an objective; names for the lines of the first and the last."""
    x = 100 - numbers(curve["levels"])
    ends: tuple[list[End], list[End]] = ([], [])
    for group, colour in zip(groups, _COLOURS, strict=False):
        kept = 100 * numbers(curve["coverage"][group])
        lines = (
            _line(axes[0], x, numbers(curve["em"][group]), curve["em_band"].get(group), colour),
            _line(axes[2], x, kept, None, colour),
        )
        for own, last in zip(ends, lines, strict=True):
            own.append(End(group, float(x.max()), last, colour, bold=True))
    _line(axes[1], x, numbers(curve["fg"]), curve["fg_band"], INK)
    return ends


def _line(axis: Any, x: np.ndarray, y: np.ndarray, band: Any, colour: str) -> float:
    """Draw what is known of a line and its band; its last value."""
    known = ~np.isnan(y)
    if not known.any():
        return float("nan")
    order = np.argsort(x[known])
    xs, ys = x[known][order], y[known][order]
    if band is not None:
        low, high = (numbers(side)[known][order] for side in band)
        axis.fill_between(xs, low, high, color=colour, alpha=0.13, linewidth=0)
    axis.plot(xs, ys, linewidth=1.9, color=colour)
    return float(ys[-1])
