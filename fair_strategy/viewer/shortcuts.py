"""Every key of the review page, once: for the page that listens and for the panel that explains."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A key, such as `Ctrl+z` or `]`, what it does, and the words for it.

    Attributes:
        draws: it changes the mask; it does nothing while the page is busy.
    """

    key: str
    action: str
    text: str
    group: str
    draws: bool = False


SHORTCUTS = (
    Shortcut("n", "next", "next scan", "Scans"),
    Shortcut("Ctrl+Enter", "submit", "submit", "Scans"),
    Shortcut("k", "ask_skip", "skip, with a reason", "Scans"),
    Shortcut("x", "ask_exclude", "exclude, with a reason", "Scans"),
    Shortcut("o", "reopen", "re-open my last case", "Scans"),
    Shortcut("p", "reveal", "show a hidden pre-segmentation", "Scans"),
    Shortcut("u", "most_uncertain", "most uncertain place", "Uncertainty"),
    Shortcut(".", "next_peak", "next place", "Uncertainty"),
    Shortcut(",", "previous_peak", "previous place", "Uncertainty"),
    Shortcut("e", "toggle_overlay", "overlay on or off", "Uncertainty"),
    Shortcut("]", "threshold_up", "higher threshold", "Uncertainty"),
    Shortcut("[", "threshold_down", "lower threshold", "Uncertainty"),
    Shortcut("1", "tool_look", "look only", "Tools"),
    Shortcut("2", "tool_paint", "paint", "Tools"),
    Shortcut("3", "tool_erase", "erase", "Tools"),
    Shortcut("4", "tool_scissors", "scissors", "Tools"),
    Shortcut("5", "tool_threshold", "threshold", "Tools"),
    Shortcut("6", "tool_islands", "islands", "Tools"),
    Shortcut("7", "tool_smoothing", "smoothing", "Tools"),
    Shortcut("+", "brush_larger", "larger brush", "Tools"),
    Shortcut("-", "brush_smaller", "smaller brush", "Tools"),
    Shortcut("b", "toggle_sphere", "flat or round brush", "Tools"),
    Shortcut("Space", "stamp", "brush, or corner of a cut, at the cross-hair", "Tools", draws=True),
    Shortcut("Enter", "cut", "scissors: cut along the corners", "Tools", draws=True),
    Shortcut("Backspace", "corner_back", "scissors: take back a corner", "Tools"),
    Shortcut("Escape", "forget_line", "scissors: drop the line", "Tools"),
    Shortcut("Ctrl+z", "undo", "undo", "Tools", draws=True),
    Shortcut("Ctrl+y", "redo", "redo", "Tools", draws=True),
    Shortcut("v", "next_view", "choose the next view", "Views"),
    Shortcut("ArrowLeft", "left", "cross-hair left", "Views"),
    Shortcut("ArrowRight", "right", "cross-hair right", "Views"),
    Shortcut("ArrowUp", "up", "cross-hair up", "Views"),
    Shortcut("ArrowDown", "down", "cross-hair down", "Views"),
    Shortcut("PageUp", "slice_up", "next slice", "Views"),
    Shortcut("PageDown", "slice_down", "previous slice", "Views"),
    Shortcut("m", "toggle_mask", "mask on or off", "Views"),
    Shortcut("z", "zoom_in", "closer", "Views"),
    Shortcut("Shift+Z", "zoom_out", "further away", "Views"),
    Shortcut("r", "reset_views", "fit the views", "Views"),
    Shortcut("c", "contrast_up", "more contrast", "Views"),
    Shortcut("Shift+C", "contrast_down", "less contrast", "Views"),
    Shortcut("d", "brighter", "brighter", "Views"),
    Shortcut("Shift+D", "darker", "darker", "Views"),
    Shortcut("h", "toggle_help", "this panel", "Views"),
)


def as_rows() -> list[dict[str, str]]:
    """The shortcuts as the page wants them."""
    return [asdict(shortcut) for shortcut in SHORTCUTS]


def by_group() -> dict[str, list[Shortcut]]:
    """The shortcuts in their groups, in order."""
    groups: dict[str, list[Shortcut]] = {}
    for shortcut in SHORTCUTS:
        groups.setdefault(shortcut.group, []).append(shortcut)
    return groups
