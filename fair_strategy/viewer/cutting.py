"""Scissors without a mouse: corners at the cross-hair one after the other, then the cut."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from trame_slicer.segmentation import SegmentationEffectScissors
from trame_slicer.views import SliceView
from vtkmodules.vtkCommonCore import vtkPoints
from vtkmodules.vtkCommonMath import vtkMatrix4x4

from fair_strategy.viewer.scene import ReviewScene
from fair_strategy.viewer.volumes import array

Place = tuple[float, float, float]
FEWEST = 3
"""Corners that enclose something."""


class Cutting:
    """The corners that were set in one slice view; they stay in the patient while the view moves.

    Args:
        scene: whose scissors cut.
    """

    def __init__(self, scene: ReviewScene) -> None:
        self._scene = scene
        self._view: SliceView | None = None
        self.corners: list[Place] = []

    def add(self, place: Place, view: SliceView) -> None:
        """Set a corner (RAS, mm); in another view than the last one the line begins anew."""
        if view is not self._view:
            self.forget()
            self._view = view
        self.corners.append(place)
        self.draw()

    def take_back(self) -> None:
        """Forget the last corner."""
        del self.corners[-1:]
        self.draw()

    def forget(self) -> None:
        """Forget the line."""
        self.corners.clear()
        self.draw()
        self._view = None

    def cut(self) -> bool:
        """Cut along the closed line, through all slices; False if it encloses nothing yet."""
        if self._view is None or len(self.corners) < FEWEST:
            return False
        points = vtkPoints()
        for x, y in self._on_screen(self._view):
            points.InsertNextPoint(x, y, 0.0)
        view = self._view
        self.forget()
        self._scissors().apply_points_display_coordinates(points, view)
        return True

    def draw(self) -> None:
        """Draw the line where its corners are in the view as it is now."""
        view = self._view
        if view is None:
            return
        for widget in self._widgets(view):
            widget.cancel_painting()
            for x, y in self._on_screen(view):
                widget.add_point(x, y)
                widget.preview_point(x, y)
        view.schedule_render()

    def _on_screen(self, view: SliceView) -> list[tuple[float, float]]:
        to_screen = vtkMatrix4x4()
        vtkMatrix4x4.Invert(view.get_view_node().GetXYToRAS(), to_screen)
        places = np.reshape(self.corners, (-1, 3))
        seen = array(to_screen) @ np.c_[places, np.ones(len(places))].T
        return [(float(x), float(y)) for x, y in seen[:2].T]

    def _widgets(self, view: SliceView) -> Iterator[Any]:
        for known in self._scissors().pipelines:
            pipeline = known()
            if pipeline is not None and pipeline.GetViewNode() is view.get_view_node():
                yield pipeline.widget

    def _scissors(self) -> SegmentationEffectScissors:
        return self._scene.app.segmentation_editor.get_effect(SegmentationEffectScissors)
