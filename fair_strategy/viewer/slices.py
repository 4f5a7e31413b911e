"""The three slice views and the cross-hair: where they look, and what their edges are called."""

from collections.abc import Callable

from slicer import vtkMRMLCrosshairNode, vtkMRMLSliceNode
from trame_slicer.core import SlicerApp
from trame_slicer.views import SliceView

from fair_strategy.viewer import letters
from fair_strategy.viewer.volumes import array


class Slices:
    """The slice views of Slicer's core."""

    def __init__(self, app: SlicerApp) -> None:
        self._app = app

    def zoom(self, factor: float) -> None:
        """Show less (factor below 1) or more of every slice, around the cross-hair."""
        place = self.crosshair().GetCrosshairRAS()
        for view in self._views():
            view.zoom(1.0 - factor)
            view.get_view_node().JumpSliceByCentering(*place)

    def fit(self) -> None:
        """Fit every view, the one in space too, to the scan, in the three standard orientations."""
        self._app.display_manager.reset_views()

    def jump(self, position: tuple[float, float, float]) -> None:
        """Move every slice, and the cross-hair, to a place (RAS, mm)."""
        for view in self._views():
            with view.trigger_modified_once():
                node: vtkMRMLSliceNode = view.get_view_node()
                node.JumpSliceByCentering(*position)
        self.crosshair().SetCrosshairRAS(*position)

    def move_to(self, position: tuple[float, float, float]) -> None:
        """Move the cross-hair, and every slice through it; the views do not pan (RAS, mm)."""
        for view in self._views():
            with view.trigger_modified_once():
                view.get_view_node().JumpSliceByOffsetting(*position)
        self.crosshair().SetCrosshairRAS(*position)

    def show_crosshair(self) -> None:
        """Draw a small cross where the keyboard works."""
        node = self.crosshair()
        node.SetCrosshairMode(vtkMRMLCrosshairNode.ShowSmallBasic)
        node.SetCrosshairToFine()

    def crosshair(self) -> vtkMRMLCrosshairNode:
        """The scene's cross-hair."""
        return self._app.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")

    def edges(self) -> dict[str, dict[str, str]]:
        """For each slice view, by its name, the letters at its four edges, as it is turned now."""
        views = self._views()
        return {view.get_singleton_tag(): _edges_of(view.get_view_node()) for view in views}

    def on_change(self, react: Callable[[], None]) -> None:
        """Call `react` whenever a slice view is moved or turned."""
        for view in self._views():
            view.modified.connect(lambda *_: react())

    def _views(self) -> list[SliceView]:
        found: list[SliceView] = self._app.view_manager.get_slice_views()
        return found


def _edges_of(node: vtkMRMLSliceNode) -> dict[str, str]:
    """The letters at the edges of a slice view, from its node."""
    return letters.edges(array(node.GetSliceToRAS()))
