"""Figures of an audit: PNG and SVG; every mark is a subgroup, none is a person."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fair_strategy.workflows.audit.audit import Audit
from fair_strategy.workflows.audit.comparison import Change
from fair_strategy.workflows.audit.curves import TAU, VOXELS, WITHIN, Curve
from fair_strategy.workflows.audit.estimates import MeasureResult
from fair_strategy.workflows.audit.findings import feature_words, plain_number
from fair_strategy.workflows.audit.grouping import Grouping
from fair_strategy.workflows.audit.measures import HIGHER, ZERO, count_rows
from fair_strategy.workflows.audit.resampling import draw_resamples
from fair_strategy.workflows.reporting.figures import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    OTHER,
    PURPLE,
    SKY,
    SOFT,
    VERMILION,
    Drawn,
    End,
    label_ends,
    panels,
    save,
    style,
)

_PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
_MARKERS = ("o", "s", "^", "D", "v", "h")
_SERVED = ("dice", "accuracy", "rmse", "surface_distance_mm", "volume_error", "mean_error",
           "overconfidence")  # fmt: skip
_BIN_FROM = 10
_BAND_DRAWS = 400


def draw_figures(audit: Audit, folder: Path) -> list[Drawn]:
    """All figures of an audit, in order of showing; the same audit gives the same bytes."""
    figures: list[Drawn] = []
    with style():
        for grouping in audit.groupings:
            if len(grouping.ranked) < 2:
                continue
            figures.append(_groups(audit, grouping, folder))
            figures += _reliability(audit, grouping, folder)
            figures += _selective(audit, grouping, folder)
            figures += _filtered(audit, grouping, folder)
    return figures


def draw_changes(
    changes: Sequence[Change], names: tuple[str, str], primary: str, folder: Path
) -> list[Drawn]:
    """Paired differences of the primary measure, a figure a feature."""
    with style():
        return [
            _changes([c for c in changes if c.feature == feature], names, primary, folder)
            for feature in dict.fromkeys(change.feature for change in changes)
        ]


def looks(grouping: Grouping) -> dict[str, dict[str, Any]]:
    """Colour and marker of each ranked subgroup, the same in every figure."""
    return {
        name: {"color": _PALETTE[place], "marker": _MARKERS[place]}
        if place < len(_PALETTE)
        else {"color": OTHER, "marker": "o"}
        for place, name in enumerate(grouping.ranked)
    }


def _groups(audit: Audit, grouping: Grouping, folder: Path) -> Drawn:
    """Every subgroup with its interval: a column a measure, a row a target."""
    results = [r for r in audit.results if r.feature == grouping.feature]
    there = {r.measure.name for r in results}
    names = [name for name in _SERVED if name in there][:4]
    targets = [target.name for target in audit.evidence.targets]
    shown = [g for g in grouping.names if grouping.persons[g]]
    height = 1.25 + 0.36 * len(shown)
    figure, axes = panels(len(names), len(targets), height=height, sharey=True)
    figure.set_size_inches(min(3.6 * len(names) + 0.8, 14.5), height * len(targets))
    colours = looks(grouping)
    for row, target in enumerate(targets):
        for axis, name in zip(axes[row], names, strict=True):
            own = next(r for r in results if (r.target, r.measure.name) == (target, name))
            _forest(axis, own, shown, colours)
        if target:
            axes[row, 0].set_ylabel(target, fontweight="bold")
    primary = results[0]
    return _drawn(
        figure, folder, f"groups-{grouping.feature}",
        title=f"Each subgroup, by {feature_words(grouping.feature)}",
        caption="Points are the subgroups, lines 95 % bootstrap intervals, the dotted line is all "
        "cases together. Hollow grey points: too few persons (or no value of the feature) to be "
        "ranked. Which way is better stands below each panel.",
        alt=f"{primary.measure.title} of each subgroup by {feature_words(grouping.feature)}: "
        + "; ".join(f"{n} {plain_number(primary.by_group[n].value)}" for n in grouping.ranked),
    )  # fmt: skip


def _forest(
    axis: Any, result: MeasureResult, shown: Sequence[str], colours: Mapping[str, dict[str, Any]]
) -> None:
    better = {HIGHER: "higher is better", ZERO: "0 is best"}.get(
        result.measure.better, "lower is better"
    )
    unit = f", {result.measure.unit}" if result.measure.unit else ""
    axis.set_title(f"{result.measure.title}{unit}")
    axis.set_xlabel(better)
    if result.measure.better == ZERO:
        axis.axvline(0, color=INK, linewidth=0.9, zorder=1)
    axis.axvline(result.overall.value, color=SOFT, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
    for place, name in enumerate(reversed(shown)):
        own = result.by_group[name]
        look = colours.get(name, {"color": OTHER, "marker": "o"})
        if not own.small:
            axis.plot(own.interval, [place, place], color=look["color"], linewidth=2.2)
        face = look["color"] if name in colours else "white"
        axis.plot(
            own.value, place, marker=look["marker"], color=look["color"], markerfacecolor=face,
            markersize=7, markeredgecolor="white" if name in colours else OTHER,
        )  # fmt: skip
    counts = [result.by_group[name] for name in reversed(shown)]
    labels = [
        f"{name}  (n < 5)" if own.small else f"{name}  (n = {own.n})"
        for name, own in zip(reversed(shown), counts, strict=True)
    ]
    axis.set_yticks(range(len(shown)), labels, color=INK)
    axis.set_ylim(-0.6, len(shown) - 0.4)
    axis.grid(axis="y", visible=False)
    axis.locator_params(axis="x", nbins=5)


def _reliability(audit: Audit, grouping: Grouping, folder: Path) -> list[Drawn]:
    targets = [target for target in audit.evidence.targets if target.counts is not None]
    if not targets:
        return []
    figure, axes = panels(len(targets), height=3.9, sharey=False)
    variance = targets[0].claims == "variance"
    for axis, target in zip(axes[0], targets, strict=True):
        ends = []
        counts = target.counts or ()
        rows, limits = count_rows(counts), counts[0].limits
        drawn = draw_resamples(
            grouping.labels, audit.evidence.subjects,
            draws=min(audit.settings.draws, _BAND_DRAWS), seed=audit.settings.seed,
        ).counts  # fmt: skip
        for name, look in looks(grouping).items():
            own = grouping.members(name)
            ends += _reliability_line(axis, rows[own], drawn[:, own], name, look)
        low = min((line.get_xdata().min() for line in axis.lines), default=limits[0])
        axis.plot(
            [low, limits[1]], [low, limits[1]], color=INK, linewidth=1.1, dashes=(5, 2), zorder=1
        )
        axis.set_title(target.name or ("Variance and error" if variance else "Claim and truth"))
        axis.set_xlabel("variance claimed" if variance else "confidence claimed", loc="left")
        label_ends(axis, ends)
    axes[0, 0].set_ylabel("squared error, mean" if variance else "share that was right")
    below = "above" if variance else "below"
    return [
        _drawn(
            figure, folder, f"reliability-{grouping.feature}",
            title=f"Does the model claim what comes true? By {feature_words(grouping.feature)}",
            caption=f"On the dashed line claims come true; {below} it the model is over-confident. "
            f"Bands are 95 % bootstrap intervals; bins with fewer than {_BIN_FROM} predictions, or "
            "of fewer than 5 persons, are left out.",
            alt="What was observed against what was claimed, a line a subgroup; the numbers are in "
            "tables/reliability.csv.",
        )
    ]  # fmt: skip


def _reliability_line(
    axis: Any, rows: np.ndarray, drawn: np.ndarray, name: str, look: Mapping[str, Any]
) -> list[End]:
    counts, claimed, observed = np.split(rows, 3, axis=1)
    enough = (counts.sum(axis=0) >= _BIN_FROM) & ((counts > 0).sum(axis=0) >= 5)
    if not enough.any():
        return []
    n = counts.sum(axis=0)[enough]
    x, y = claimed.sum(axis=0)[enough] / n, observed.sum(axis=0)[enough] / n
    with np.errstate(invalid="ignore", divide="ignore"):
        again = (drawn @ observed)[:, enough] / (drawn @ counts)[:, enough]
    low, high = np.nanquantile(again, [0.025, 0.975], axis=0)
    axis.fill_between(x, low, high, color=look["color"], alpha=0.13, linewidth=0)
    axis.plot(x, y, linewidth=1.9, markersize=4.5, markeredgecolor="white", zorder=3, **look)
    return [End(name, float(x[-1]), float(y[-1]), look["color"], bold=True)]


def _selective(audit: Audit, grouping: Grouping, folder: Path) -> list[Drawn]:
    curves = _primary_curves(audit, grouping, WITHIN)
    if not curves:
        return []
    figure, axes = panels(len(curves), height=3.7)
    for axis, curve in zip(axes[0], curves, strict=True):
        ends = []
        x = 100 * (1 - curve.metric.levels)
        for name, look in looks(grouping).items():
            ends += _line(axis, x, curve.metric.by_group[name], curve.bands.get(name), name, look)
        axis.set_title(curve.target or curve.measure.title)
        axis.set_xlabel("set aside, % of each subgroup's cases", loc="left")
        label_ends(axis, ends)
    axes[0, 0].set_ylabel(curves[0].measure.title)
    rises = "rises" if curves[0].measure.better == HIGHER else "falls"
    return [
        _drawn(
            figure, folder, f"selective-{grouping.feature}",
            title=f"If each subgroup's least certain cases are left to people, by "
            f"{feature_words(grouping.feature)}",
            caption=f"A curve that {rises} to the right: the model is unsure of the cases that it "
            "gets wrong. A flat curve: its uncertainty says nothing about its errors, for that "
            "subgroup. Bands are 95 % bootstrap intervals; a curve ends where fewer than 5 cases "
            "are left.",
            alt=f"{curves[0].measure.title} of the cases that are kept, against the share set "
            "aside; the numbers are in tables/curves.csv.",
        )
    ]  # fmt: skip


def _filtered(audit: Audit, grouping: Grouping, folder: Path) -> list[Drawn]:
    kind = VOXELS if _primary_curves(audit, grouping, VOXELS) else TAU
    curves = _primary_curves(audit, grouping, kind)
    if not curves:
        return []
    figure, axes = panels(3, len(curves), height=3.1, sharey=False)
    figure.set_size_inches(13.2, 3.1 * len(curves))
    things = "voxels" if kind == VOXELS else "cases"
    for row, curve in zip(axes, curves, strict=True):
        x = 100 - curve.metric.levels
        ends: list[list[End]] = [[], [], []]
        for name, look in looks(grouping).items():
            quiet = {"color": look["color"]}
            band = curve.bands.get(name)
            ends[0] += _line(row[0], x, curve.metric.by_group[name], band, name, quiet)
            kept = 100 * curve.metric.coverage(name)
            ends[2] += _line(row[2], x, kept, None, name, quiet)
        _line(row[1], x, curve.gap, curve.gap_band, "gap", {"color": INK})
        titles = (f"{curve.measure.title} (EM)", "gap (FG)", f"{things} kept, %")
        for axis, own, title in zip(row, ends, titles, strict=True):
            axis.set_title(f"{curve.target}: {title}" if curve.target else title)
            axis.set_xlabel("100 − τ", loc="left")
            label_ends(axis, own)
        row[1].axhline(0, color=INK, linewidth=0.9)
    return [
        _drawn(
            figure, folder, f"filtered-{grouping.feature}",
            title=f"As uncertain {things} are set aside, one threshold for all, by "
            f"{feature_words(grouping.feature)}",
            caption=f"From left to right more {things} are set aside: those whose uncertainty, 0 "
            "to 100 over the data set, is above τ. Wanted: the gap falls and no subgroup gets "
            "worse. Read the right-hand panel with it: a gap also closes where one subgroup's "
            f"{things} are nearly all set aside. At the left end nothing is set aside.",
            alt=f"{curves[0].measure.title}, gap and retained {things} against 100 − τ; the "
            "numbers are in tables/curves.csv.",
        )
    ]  # fmt: skip


def _primary_curves(audit: Audit, grouping: Grouping, kind: str) -> list[Curve]:
    primary = {target.name: target.primary.measure.name for target in audit.evidence.targets}
    return [
        curve
        for curve in audit.curves
        if (curve.feature, curve.kind) == (grouping.feature, kind)
        and curve.measure.name == primary[curve.target]
    ]


def _line(
    axis: Any, x: np.ndarray, y: np.ndarray, band: Any, name: str, look: Mapping[str, Any]
) -> list[End]:
    known = ~np.isnan(y)
    if not known.any():
        return []
    order = np.argsort(x[known])
    xs, ys = x[known][order], y[known][order]
    if band is not None:
        low, high = band[:, known][:, order]
        axis.fill_between(xs, low, high, color=look["color"], alpha=0.13, linewidth=0)
    axis.plot(xs, ys, linewidth=1.9, markersize=4, markeredgecolor="white", **look)
    return [End(name, float(xs[-1]), float(ys[-1]), look["color"], bold=True)]


def _changes(
    changes: Sequence[Change], names: tuple[str, str], primary: str, folder: Path
) -> Drawn:
    own = [c for c in changes if c.measure.name == primary]
    targets = list(dict.fromkeys(c.target for c in own))
    count = max(sum(c.target == target for c in own) for target in targets)
    figure, axes = panels(len(targets), height=1.2 + 0.36 * count, sharey=False)
    for axis, target in zip(axes[0], targets, strict=True):
        rows = [c for c in own if c.target == target][::-1]
        for place, change in enumerate(rows):
            colour = INK if change.part != "group" else BLUE
            if change.persons >= 5:
                axis.plot(change.interval, [place, place], color=colour, linewidth=2.2)
                axis.plot(change.difference, place, marker="o", color=colour, markersize=7,
                          markeredgecolor="white")  # fmt: skip
        words = {"gap": "gap between subgroups", "overall": "all cases"}
        labels = [words.get(c.part, c.group) for c in rows]
        axis.set_yticks(range(len(rows)), labels, color=INK)
        axis.axvline(0, color=INK, linewidth=0.9, zorder=1)
        axis.set_title(target or own[0].measure.title)
        axis.set_xlabel(f"difference in {own[0].measure.title}")
        axis.set_ylim(-0.6, len(rows) - 0.4)
        axis.grid(axis="y", visible=False)
    feature = own[0].feature
    return _drawn(
        figure, folder, f"changes-{feature}",
        title=f"{names[1]} against {names[0]}, by {feature_words(feature)}",
        caption=f"{names[1]} minus {names[0]} on the same cases, with 95 % bootstrap intervals of "
        "the paired difference. A gap that is negative here is smaller under "
        f"{names[1]}.",
        alt="Paired differences by subgroup; the numbers are in tables/changes.csv.",
    )  # fmt: skip


def _drawn(figure: Any, folder: Path, name: str, **text: str) -> Drawn:
    name = re.sub(r"[^A-Za-z0-9]+", "-", name)
    png, svg = save(figure, folder, name)
    return Drawn(name, png=png, svg=svg, **text)
