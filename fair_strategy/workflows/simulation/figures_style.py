"""The line of each role of an arm in the figures of a simulation."""

from typing import Any

from fair_strategy.workflows.reporting.figures import BLUE, GREEN, OTHER, PURPLE, VERMILION

COLOURS = {
    "headline": BLUE,
    "entropy": VERMILION,
    "balanced_random": GREEN,
    "random": PURPLE,
}
MARKERS = {"headline": "o", "entropy": "s", "balanced_random": "^", "random": "D"}


def look(role: str | None) -> dict[str, Any]:
    """Line of an arm by its role; arms without one are thin and grey."""
    if role is None:
        return {"color": OTHER, "linewidth": 1.0, "zorder": 2}
    width = 2.4 if role == "headline" else 1.6
    return {
        "color": COLOURS[role],
        "marker": MARKERS[role],
        "markersize": 4.5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
        "linewidth": width,
        "zorder": 5 if role == "headline" else 4,
    }
