"""The editing tools of a reader: Slicer's effects under plain names, each with undo."""

from collections.abc import Callable
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from slicer import vtkMRMLSliceNode
from trame_slicer.segmentation import (
    BrushDiameterMode,
    SegmentationEffect,
    SegmentationEffectErase,
    SegmentationEffectIslands,
    SegmentationEffectNoTool,
    SegmentationEffectPaint,
    SegmentationEffectScissors,
    SegmentationEffectSmoothing,
    SegmentationEffectVolumeIntensityMask,
)
from trame_slicer.segmentation.brush_source import BrushSource
from trame_slicer.segmentation.paint_effect_parameters import BrushShape
from trame_slicer.segmentation.scissors_effect_parameters import ScissorsEffectFillMode
from trame_slicer.segmentation.segment_modifier import ModificationMode
from vtkmodules.vtkCommonCore import vtkPoints

from fair_strategy.viewer.cutting import Cutting
from fair_strategy.viewer.scene import ReviewScene
from fair_strategy.viewer.volumes import voxels

BRUSH_MM = (1.0, 40.0)
"""Smallest and largest brush."""


class Tool(StrEnum):
    """What the left mouse button, or the space bar, does; `look` drags window and level."""

    look = "look"
    paint = "paint"
    erase = "erase"
    scissors = "scissors"
    threshold = "threshold"
    islands = "islands"
    smoothing = "smoothing"


class Smoothing(StrEnum):
    """How a mask is smoothed. Joint smoothing is left out: it empties a lone segment."""

    median = "median"
    opening = "opening"
    closing = "closing"
    gaussian = "gaussian"


class Cut(StrEnum):
    """What scissors do with what lies inside, or outside, the line that was drawn."""

    erase_inside = "erase_inside"
    erase_outside = "erase_outside"
    fill_inside = "fill_inside"
    fill_outside = "fill_outside"


_EFFECTS: dict[Tool, type[SegmentationEffect]] = {
    Tool.look: SegmentationEffectNoTool,
    Tool.paint: SegmentationEffectPaint,
    Tool.erase: SegmentationEffectErase,
    Tool.scissors: SegmentationEffectScissors,
    Tool.threshold: SegmentationEffectNoTool,
    Tool.islands: SegmentationEffectIslands,
    Tool.smoothing: SegmentationEffectSmoothing,
}
_CUTS = {cut: ScissorsEffectFillMode[cut.value.upper()] for cut in Cut}
_BRUSHES = (SegmentationEffectPaint, SegmentationEffectErase)


class Tools:
    """The tools of one scene."""

    def __init__(self, scene: ReviewScene) -> None:
        self._scene = scene
        self._editor = scene.app.segmentation_editor
        self.tool = Tool.look
        self.brush_mm = 5.0
        self.sphere = False
        self.cut = Cut.erase_inside
        self.cutting = Cutting(scene)

    def select(self, tool: Tool) -> None:
        """Take up a tool."""
        self.tool = tool
        if not self._scene.is_open:
            return
        self.cutting.forget()
        self._editor.set_active_effect_type(_EFFECTS[tool])
        self._adjust()

    def set_brush(self, diameter_mm: float, *, sphere: bool) -> None:
        """Size of the brush in mm; a sphere reaches into the neighbouring slices."""
        self.brush_mm = float(np.clip(diameter_mm, *BRUSH_MM))
        self.sphere = sphere
        self._adjust()

    def set_cut(self, cut: Cut) -> None:
        """What the scissors do."""
        self.cut = cut
        self._adjust()

    def _adjust(self) -> None:
        # The tool in hand alone: Slicer makes something in each view for one that is asked for,
        # and its shell stays when the case goes, see leftovers.
        kind = _EFFECTS[self.tool]
        if not self._scene.is_open or kind not in (*_BRUSHES, SegmentationEffectScissors):
            return
        effect = self._editor.get_effect(kind)
        if kind is SegmentationEffectScissors:
            effect.set_fill_mode(_CUTS[self.cut])
        else:
            effect.set_brush_diameter(self.brush_mm, BrushDiameterMode.Absolute)
            effect.set_use_sphere_brush(self.sphere)

    def stamp(self, position: tuple[float, float, float], view: vtkMRMLSliceNode) -> None:
        """Press the brush on one place (RAS, mm), as a click there would.

        Args:
            view: the slice in whose plane a flat brush lies.
        """
        if self.tool not in (Tool.paint, Tool.erase):
            return
        shape = BrushShape.Sphere if self.sphere else BrushShape.Cylinder
        brush = BrushSource(shape, self.brush_mm, cylinder_height=_step_mm(self._scene) / 2.0)
        brush.set_brush_rotation(view.GetSliceToRAS())
        places = vtkPoints()
        places.InsertNextPoint(*position)
        port = brush.get_untransformed_output_port().GetProducer()
        port.Update()
        self._editor.active_effect.paint_glyph_at_world_coordinates(port.GetOutput(), places)

    # ------------------------------------------------------------ threshold

    def paint_within(self, low: float, high: float, *, enabled: bool) -> None:
        """Let brush and scissors change only voxels whose intensity is from low to high."""
        if enabled:  # it would make something in each view, see _adjust
            mask = self._editor.get_effect(SegmentationEffectVolumeIntensityMask)
            mask.set_mask_range(low, high)
        self._editor.editor_node.SetSourceVolumeIntensityMask(enabled)

    def keep_within(self, low: float, high: float) -> None:
        """Take away what is labelled where the intensity is not from low to high."""
        scan = self._scene.intensities()
        self._replace(lambda mask: mask & (scan >= low) & (scan <= high))

    # ------------------------------------------------------------ islands and smoothing

    def keep_largest(self) -> None:
        """Keep the largest connected piece."""
        self._islands().keep_largest_island()

    def remove_small(self, smallest_voxels: int) -> None:
        """Take away connected pieces of fewer voxels than this."""
        self._islands().remove_small_islands(smallest_voxels)

    def smooth(self, how: Smoothing, size_mm: float) -> None:
        """Smooth the segment; `size_mm` is the kernel's size, or the standard deviation."""
        self.select(Tool.smoothing)
        effect = self._editor.active_effect
        segment = self._editor.active_segment_id
        if how is Smoothing.gaussian:
            effect.apply_gaussian_smoothing(size_mm, segment)
        elif how is Smoothing.median:
            effect.apply_median_smoothing(size_mm, segment)
        elif how is Smoothing.opening:
            effect.apply_opening(size_mm, segment)
        else:
            effect.apply_closing(size_mm, segment)

    def _islands(self) -> SegmentationEffectIslands:
        self.select(Tool.islands)
        return self._editor.active_effect

    def _replace(self, change: Callable[[NDArray[np.bool_]], NDArray[np.bool_]]) -> None:
        modifier = self._editor.active_segment_modifier
        segment = self._editor.active_segment_id
        changed = change(voxels(modifier.get_segment_labelmap(segment)) != 0)
        image = modifier.create_modifier_labelmap()
        voxels(image)[:] = changed
        modifier.apply_labelmap(
            image, modification_mode=ModificationMode.Set, do_bypass_masking=True
        )

    # ------------------------------------------------------------ undo

    def undo(self) -> None:
        """Take back the last step, if there is one."""
        self._scene.undo.undo()
        self._scene.style()

    def redo(self) -> None:
        """Do again what was taken back last, if anything."""
        self._scene.undo.redo()
        self._scene.style()


def _step_mm(scene: ReviewScene) -> float:
    steps = [view.get_slice_step() for view in scene.app.view_manager.get_slice_views()]
    return min(steps, default=1.0)
