"""Window and level by a drag with the left button in a slice, as in desktop Slicer.

Slicer's own drag would take the uppermost volume under the mouse: the overlay, whose scale stays.
"""

from collections.abc import Callable
from dataclasses import dataclass

from trame_slicer.views import SliceView

Window = tuple[float, float]
NARROWEST = 1e-3
_BEFORE_SLICER = 1.0  # its own observers keep some events to themselves


@dataclass(frozen=True, slots=True)
class _Start:
    x: int
    y: int
    window: Window


class WindowDrag:
    """Follows the mouse in slice views.

    Args:
        views: where to drag.
        window: the intensities shown as black and as white when a drag begins; None: none begins.
        react: takes those that the drag asks for.
    """

    def __init__(
        self,
        views: list[SliceView],
        *,
        window: Callable[[], Window | None],
        react: Callable[[Window], None],
    ) -> None:
        self._window, self._react = window, react
        self._start: _Start | None = None
        for view in views:
            mouse = view.interactor()
            for event, seen in (
                ("LeftButtonPressEvent", self._pressed),
                ("MouseMoveEvent", self._moved),
                ("LeftButtonReleaseEvent", self._released),
            ):
                mouse.AddObserver(event, seen, _BEFORE_SLICER)

    def _pressed(self, mouse: object, _event: str) -> None:
        window = self._window()
        x, y = mouse.GetEventPosition()  # type: ignore[attr-defined]
        self._start = None if window is None else _Start(x, y, window)

    def _moved(self, mouse: object, _event: str) -> None:
        start = self._start
        if start is None:
            return
        (x, y), (width, height) = mouse.GetEventPosition(), mouse.GetSize()  # type: ignore[attr-defined]
        across, up = (x - start.x) / max(width, 1), (y - start.y) / max(height, 1)
        self._react(dragged(start.window, across=across, up=up))

    def _released(self, *_: object) -> None:
        self._start = None


def dragged(window: Window, *, across: float, up: float) -> Window:
    """The window after a drag: to the right it is wider, upwards it is higher.

    Args:
        window: the intensities shown as black and as white before.
        across: of the view's width, -1 to 1; a quarter doubles the window's width.
        up: of the view's height, -1 to 1; all of it moves the window by its width.
    """
    low, high = window
    width = max((high - low) * 2.0 ** (4.0 * across), NARROWEST)
    middle = (low + high) / 2 + up * (high - low)
    return middle - width / 2, middle + width / 2
