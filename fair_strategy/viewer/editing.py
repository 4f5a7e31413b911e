"""The tools of the page: which is taken up, how it is set, what it is applied to."""

from collections.abc import Callable
from typing import Any

from fair_strategy.viewer.reading import Reading
from fair_strategy.viewer.scene import COLOURS
from fair_strategy.viewer.tools import BRUSH_MM, Cut, Smoothing, Tool

BRUSH_STEP = 1.25


class Editing:
    """Binds the state of the page to the tools."""

    def __init__(self, server: Any, reading: Reading) -> None:
        self.state, self._reading, self._tools = server.state, reading, reading.tools
        self._scene = reading.scene
        self.state.update(
            {
                "tool": Tool.look.value,
                "brush_mm": self._tools.brush_mm, "brush_range": list(BRUSH_MM), "sphere": False,
                "cut": Cut.erase_inside.value, "corners": 0,
                "paint_range": [0, 1], "paint_within": False,
                "smallest": 10, "smoothing": Smoothing.median.value, "smoothing_mm": 3.0,
                "can_undo": False, "can_redo": False,
                "segments": [], "segment": "",
            }
        )  # fmt: skip
        self.state.change("tool")(self._take_up)
        self.state.change("brush_mm", "sphere")(self._brush)
        self.state.change("cut")(self._cut)
        self.state.change("paint_range", "paint_within")(self._within)
        self.state.change("segment")(self._segment)
        self._scene.undo.index_changed.connect(self._undoable)
        self._scene.slices.on_change(self._tools.cutting.draw)

    def actions(self) -> dict[str, Callable[[], Any]]:
        """What keys and buttons may do here."""
        taken = {f"tool_{tool}": lambda tool=tool: self._choose(tool) for tool in Tool}
        return taken | {
            "undo": self._tools.undo,
            "redo": self._tools.redo,
            "brush_larger": lambda: self._resize(BRUSH_STEP),
            "brush_smaller": lambda: self._resize(1 / BRUSH_STEP),
            "toggle_sphere": self._toggle_sphere,
            "stamp": self._stamp,
            "cut": lambda: self._line(self._tools.cutting.cut),
            "corner_back": lambda: self._line(self._tools.cutting.take_back),
            "forget_line": lambda: self._line(self._tools.cutting.forget),
        }

    def on_case(self) -> None:
        """Set the tools for the case that is open now."""
        scene = self._scene
        editor = scene.app.segmentation_editor
        segments = [
            {"id": key, "name": editor.get_segment(key).GetName(), "colour": _css(number)}
            for number, key in enumerate(scene.values)
        ]
        self.state.segments = segments
        self.state.segment = segments[0]["id"] if segments else ""
        self.state.paint_within = False
        if scene.is_open:
            self.state.paint_range = list(scene.window())
        self._take_up(tool=self.state.tool)
        self._cut(cut=self.state.cut)
        self._undoable()

    # ------------------------------------------------------------ applied by buttons

    def keep_within(self) -> None:
        """Take away what lies outside the range of intensities."""
        low, high = self.state.paint_range
        self._apply(lambda: self._tools.keep_within(low, high))

    def keep_largest(self) -> None:
        """Keep the largest piece."""
        self._apply(self._tools.keep_largest)

    def remove_small(self) -> None:
        """Take away small pieces."""
        self._apply(lambda: self._tools.remove_small(int(self.state.smallest)))

    def smooth(self) -> None:
        """Smooth the mask."""
        how, size = Smoothing(self.state.smoothing), float(self.state.smoothing_mm)
        self._apply(lambda: self._tools.smooth(how, size))

    def _apply(self, change: Callable[[], None]) -> None:
        if self._scene.is_open:
            change()

    # ------------------------------------------------------------ state to tools

    def _choose(self, tool: Tool) -> None:
        self.state.tool = tool.value

    def _take_up(self, tool: str, **_: Any) -> None:
        self._tools.select(Tool(tool))
        self.state.corners = 0

    def _brush(self, brush_mm: float, sphere: bool, **_: Any) -> None:
        self._tools.set_brush(float(brush_mm), sphere=bool(sphere))

    def _resize(self, by: float) -> None:
        low, high = BRUSH_MM
        self.state.brush_mm = round(min(max(self.state.brush_mm * by, low), high), 1)

    def _toggle_sphere(self) -> None:
        self.state.sphere = not self.state.sphere

    def _cut(self, cut: str, **_: Any) -> None:
        self._tools.set_cut(Cut(cut))

    def _within(self, paint_range: list[float], paint_within: bool, **_: Any) -> None:
        if self._scene.is_open:
            low, high = paint_range
            self._tools.paint_within(float(low), float(high), enabled=bool(paint_within))

    def _segment(self, segment: str, **_: Any) -> None:
        if segment in self._scene.values:
            self._scene.app.segmentation_editor.set_active_segment_id(segment)

    def _stamp(self) -> None:
        if not self._scene.is_open:
            return
        view = self._scene.app.view_manager.get_view(self.state.active_view)
        x, y, z = self._scene.slices.crosshair().GetCrosshairRAS()
        if self._tools.tool is Tool.scissors:
            self._line(lambda: self._tools.cutting.add((x, y, z), view))
        else:
            self._tools.stamp((x, y, z), view.get_view_node())

    def _line(self, change: Callable[[], Any]) -> None:
        if self._scene.is_open and self._tools.tool is Tool.scissors:
            change()
            self.state.corners = len(self._tools.cutting.corners)

    def _undoable(self, *_: Any) -> None:
        undo = self._scene.undo
        self.state.update({"can_undo": undo.can_undo(), "can_redo": undo.can_redo()})


def _css(number: int) -> str:
    red, green, blue = (round(255 * part) for part in COLOURS[number % len(COLOURS)])
    return f"rgb({red}, {green}, {blue})"
