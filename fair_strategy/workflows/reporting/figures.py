"""How figures look: colours, direct labels, files that come out the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

INK, SOFT, GRID = "#1c2226", "#5b666d", "#e3e7e9"
OTHER = "#b3bbc0"
LABEL_HEIGHT = 0.066  # of the axis
# Okabe and Ito's palette: told apart with any colour vision, and by marker in black and white.
BLUE, VERMILION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#a8518a"
ORANGE, SKY = "#b87700", "#3a8fc4"
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "fair-strategy",
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Drawn:
    """A figure on disk.

    Attributes:
        name: of the files, without suffix: kind and start.
        title: what it shows.
        caption: how to read it.
        alt: the same for who cannot see it, with numbers.
        png: file.
        svg: file; text as outlines, so that it looks the same everywhere.
    """

    name: str
    title: str
    caption: str
    alt: str
    png: Path
    svg: Path


def style() -> Any:
    """Context in which figures are drawn; nothing of matplotlib's own settings is changed."""
    return mpl.rc_context({**mpl.rcParamsDefault, **_STYLE, "backend": "Agg"})


def panels(
    columns: int,
    rows: int = 1,
    *,
    height: float = 3.5,
    sharex: bool = False,
    sharey: bool | Literal["row"] = True,
) -> tuple[Figure, NDArray[Any]]:
    """A figure and its axes (rows, columns)."""
    width = 5.0 * columns if columns > 1 else 6.4
    engine = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.02, hspace=0.03)
    figure = Figure(figsize=(width, height * rows), layout=engine)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey)
    return figure, axes


def save(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """PNG and SVG, byte for byte the same whenever the content is; returns both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    figure.savefig(png, dpi=150, metadata={"Software": None})
    figure.set_layout_engine("none")  # it stays as it was laid out for the first file
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    return png, svg


@dataclass(frozen=True)
class End:
    """The right end of a line, and the name that stands beside it."""

    text: str
    x: float
    y: float
    colour: str = INK
    bold: bool = False


def label_ends(axis: Any, ends: Sequence[End]) -> None:
    """Names right of the lines' ends, moved apart where they would overlap.

    The axis, whose vertical limits are final, gets room for them; its ticks end with the lines.
    """
    ends = [end for end in ends if np.isfinite([end.x, end.y]).all()]
    if not ends:
        return
    low, right = axis.get_xlim()[0], max(end.x for end in ends)
    axis.set_xticks([tick for tick in axis.get_xticks() if low <= tick <= right])
    axis.set_xlim(low, right + 0.56 * (right - low))
    axis.spines.bottom.set_bounds(low, right)
    bottom, top = axis.get_ylim()
    wanted = [end.y for end in ends]
    places = apart(wanted, least=LABEL_HEIGHT * (top - bottom), low=bottom, high=top)
    room = 0.045 * (right - low)
    for end, place in zip(ends, places, strict=True):
        axis.plot(
            [right + 0.2 * room, right + room], [end.y, place],
            color=end.colour, linewidth=0.8, alpha=0.7, clip_on=False,
        )  # fmt: skip
        axis.text(
            right + 1.3 * room, place, end.text,
            color=end.colour, va="center", fontsize=9, fontweight="bold" if end.bold else "normal",
        )  # fmt: skip


def apart(places: Sequence[float], *, least: float, low: float, high: float) -> list[float]:
    """Places at least so far apart, in the same order, as near to the wanted ones as it goes.

    The mean of pushing upwards from below and downwards from above keeps the distance; what then
    lies outside of [low, high] is pushed back in, if all fit there.
    """
    order = np.argsort(places, kind="stable")
    wanted = np.asarray(places, np.float64)[order]
    steps = least * np.arange(wanted.size)
    upwards = np.maximum.accumulate(wanted - steps) + steps
    downwards = np.minimum.accumulate((wanted - steps)[::-1])[::-1] + steps
    moved = (upwards + downwards) / 2
    moved = np.minimum.accumulate((np.minimum(moved, high) - steps)[::-1])[::-1] + steps
    moved = np.maximum.accumulate(np.maximum(moved, low) - steps) + steps
    found = np.empty_like(moved)
    found[order] = moved
    return [float(place) for place in found]


def level(axis: Any, y: float, text: str, *, dashes: tuple[float, float]) -> list[End]:
    """A horizontal line for comparison, as far as the curves go; its end, none where y is NaN."""
    if np.isnan(y) or not axis.lines:
        return []
    xs = np.concatenate([line.get_xdata() for line in axis.lines])
    axis.plot([xs.min(), xs.max()], [y, y], color=INK, linewidth=1.1, dashes=dashes, zorder=3)
    return [End(text, float(xs.max()), y)]
