"""How a case is looked at: overlay, uncertain places, window, cross-hair, letters."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fair_strategy.viewer import wording
from fair_strategy.viewer.dragging import Window, WindowDrag
from fair_strategy.viewer.overlay import HIGHEST, Look, Peak
from fair_strategy.viewer.reading import Reading
from fair_strategy.viewer.tools import Tool
from fair_strategy.viewer.views import SLICES
from fair_strategy.viewer.volumes import array

THRESHOLD_STEP = 0.05
CONTRAST_STEP = 1.15
ZOOM_STEP = 1.25
NO_EDGES = {"left": "", "right": "", "top": "", "bottom": ""}
_CROSSHAIR_STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, 1), "down": (0, -1)}


class Display:
    """Binds the state of the page to how the scene is shown."""

    def __init__(self, server: Any, reading: Reading) -> None:
        self.state, self._reading, self._scene = server.state, reading, reading.scene
        look = Look()
        self.state.update(
            {
                "edges": dict.fromkeys(SLICES, NO_EDGES),
                "active_view": next(iter(SLICES)),
                "overlay_shown": look.shown,
                "overlay_threshold": look.threshold,
                "overlay_opacity": look.opacity,
                "overlay_highest": HIGHEST,
                "overlay_colours": "none",
                "has_overlay": False,
                "mask_shown": True,
                "window": [0, 1],
                "intensities": [0, 1],
                "peaks": "",
                "has_peaks": False,
            }
        )
        self.state.change("overlay_shown", "overlay_threshold", "overlay_opacity")(self._look)
        self.state.change("window")(self._window)
        self.state.change("mask_shown")(self._mask)
        self._scene.slices.on_change(self._letters)
        self._scene.slices.show_crosshair()
        self._drag = WindowDrag(
            self._scene.app.view_manager.get_slice_views(),
            window=self._window_to_drag,
            react=self._dragged,
        )

    def actions(self) -> dict[str, Callable[[], Any]]:
        """What keys and buttons may do here."""
        moves = {
            name: lambda step=step: self._move(*step) for name, step in _CROSSHAIR_STEPS.items()
        }
        return moves | {
            "most_uncertain": lambda: self._jump(self._reading.peaks.most_uncertain()),
            "next_peak": lambda: self._jump(self._reading.peaks.next()),
            "previous_peak": lambda: self._jump(self._reading.peaks.previous()),
            "toggle_overlay": lambda: self._flip("overlay_shown"),
            "toggle_mask": lambda: self._flip("mask_shown"),
            "threshold_up": lambda: self._threshold(THRESHOLD_STEP),
            "threshold_down": lambda: self._threshold(-THRESHOLD_STEP),
            "next_view": self._next_view,
            "slice_up": lambda: self._move(0, 0, 1),
            "slice_down": lambda: self._move(0, 0, -1),
            "reset_views": self._scene.slices.fit,
            "zoom_in": lambda: self._scene.slices.zoom(1 / ZOOM_STEP),
            "zoom_out": lambda: self._scene.slices.zoom(ZOOM_STEP),
            "contrast_up": lambda: self._contrast(1 / CONTRAST_STEP, 0.0),
            "contrast_down": lambda: self._contrast(CONTRAST_STEP, 0.0),
            "brighter": lambda: self._contrast(1.0, -0.05),
            "darker": lambda: self._contrast(1.0, 0.05),
        }

    def on_case(self, *, changed: bool) -> None:
        """Show what belongs to the case that is open now."""
        scene = self._scene
        overlay = scene.overlay
        self.state.has_overlay = overlay is not None
        if overlay is not None:
            self.state.overlay_highest = round(overlay.highest, 2)
            colours = ", ".join(f"rgb{colour}" for colour in overlay.colours())
            self.state.overlay_colours = f"linear-gradient(0deg, {colours})"
        self._say_peaks()
        if changed and scene.is_open:
            low, high = scene.window()
            lowest, highest = scene.intensity_range()
            self.state.intensities = [lowest, max(highest, high)]
            self.state.window = [low, high]
            scene.show_mask(bool(self.state.mask_shown))
            self._start_where_it_matters()
            self._letters()

    def _start_where_it_matters(self) -> None:
        peak = self._reading.peaks.most_uncertain()
        self._reading.peaks.restart()
        place = peak.position if peak else self._scene.middle_of_mask()
        if place is not None:
            self._scene.slices.move_to(place)

    # ------------------------------------------------------------ overlay, mask, window

    def _look(self, **_: Any) -> None:
        state = self.state
        shown, threshold, opacity = (
            bool(state.overlay_shown),
            float(state.overlay_threshold),
            float(state.overlay_opacity),
        )
        self._scene.show_overlay(Look(shown, threshold, opacity))

    def _window(self, window: list[float], **_: Any) -> None:
        if self._scene.is_open and window[1] > window[0]:
            self._scene.set_window(float(window[0]), float(window[1]))

    def _window_to_drag(self) -> Window | None:
        looking = self._reading.tools.tool is Tool.look
        return self._scene.window() if looking and self._scene.is_open else None

    def _dragged(self, window: Window) -> None:
        self.state.window = list(window)

    def _mask(self, mask_shown: bool, **_: Any) -> None:
        self._scene.show_mask(bool(mask_shown))

    def _threshold(self, by: float) -> None:
        highest = float(self.state.overlay_highest)
        value = float(np.clip(self.state.overlay_threshold + by, 0.0, highest))
        self.state.overlay_threshold = round(value, 2)

    def _contrast(self, width_by: float, shift_by: float) -> None:
        low, high = self.state.window
        width = max((high - low) * width_by, 1e-3)
        centre = (low + high) / 2 + shift_by * (high - low)
        self.state.window = [centre - width / 2, centre + width / 2]

    def _flip(self, name: str) -> None:
        self.state[name] = not self.state[name]

    # ------------------------------------------------------------ places

    def _jump(self, peak: Peak | None) -> None:
        if peak is not None:
            self._scene.slices.jump(peak.position)
        self._say_peaks()

    def _say_peaks(self) -> None:
        peaks = self._reading.peaks
        self.state.update({"peaks": wording.peaks_line(peaks), "has_peaks": len(peaks) > 0})

    def view(self) -> Any:
        """The slice view that the keyboard works in."""
        return self._scene.app.view_manager.get_view(self.state.active_view)

    def _next_view(self) -> None:
        tags = list(SLICES)
        self.state.active_view = tags[(tags.index(self.state.active_view) + 1) % len(tags)]

    def _move(self, right: int, up: int, through: int = 0) -> None:
        if not self._scene.is_open:
            return
        view = self.view()
        directions = array(view.get_view_node().GetSliceToRAS())[:3, :3]
        step = view.get_slice_step()
        at = np.array(self._scene.slices.crosshair().GetCrosshairRAS())
        place = at + step * directions @ np.array([right, up, through])
        self._scene.slices.move_to((float(place[0]), float(place[1]), float(place[2])))

    def _letters(self) -> None:
        edges = self._scene.slices.edges()
        if edges != self.state.edges:
            self.state.edges = edges
