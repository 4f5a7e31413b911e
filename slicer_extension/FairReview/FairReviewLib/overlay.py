"""The entropy map as the foreground of the slice views: thresholded, with a colour bar in nats."""

from __future__ import annotations

from math import log
from typing import Any

from FairReviewLib.current import mark_own, own_nodes, remove_own

ENTROPY = "entropy"
COLOURS = "vtkMRMLPETProceduralColorNodePET-Heat"
TITLE = "entropy, nats"
THRESHOLD_NATS = 0.1
OPACITY = 0.5


class Overlay:
    """The entropy map of one scan.

    Args:
        scene: the MRML scene.
        volumes_logic: of the module Volumes; it loads the file.
        colours_logic: of the module Colors; it makes the colour bar.
    """

    def __init__(self, scene: Any, *, volumes_logic: Any, colours_logic: Any) -> None:
        self._scene = scene
        self._volumes_logic = volumes_logic
        self._colours_logic = colours_logic
        self.threshold = THRESHOLD_NATS
        self.opacity = OPACITY
        self.shown = True
        self.highest = log(2)

    @property
    def node(self) -> Any:
        """The volume in the scene; None without one."""
        return next(iter(own_nodes(self._scene, ENTROPY)), None)

    def load(self, path: str, case_id: str, *, classes: int = 2) -> None:
        """Put a map into the scene in place of an earlier one, and show it.

        Args:
            classes: with background; their number bounds the entropy (ln of it, in nats).
        Raises:
            ValueError: if the file holds no volume.
        """
        self.remove()
        node = self._volumes_logic.AddArchetypeVolume(path, f"{case_id} entropy", 0)
        if node is None:
            raise ValueError(f"{path}: expected a volume, could not read one")
        self.highest = log(max(classes, 2))
        display = node.GetDisplayNode()
        display.SetAndObserveColorNodeID(COLOURS)
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(0.0, self.highest)
        display.AutoThresholdOff()
        display.ApplyThresholdOn()
        self._add_colour_bar(node)
        mark_own(node, ENTROPY)
        self.apply()

    def apply(self) -> None:
        """Show the map, if there is one, by `threshold` (nats), `opacity` (0 to 1) and `shown`."""
        node = self.node
        if node is None:
            return
        # A threshold of 0 would paint the whole field of view.
        lowest = min(max(self.threshold, 1e-6), self.highest)
        node.GetDisplayNode().SetThreshold(lowest, 1.01 * self.highest)
        for composite in self._composites():
            if self.shown:
                composite.SetForegroundVolumeID(node.GetID())
                composite.SetForegroundOpacity(self.opacity)
            elif composite.GetForegroundVolumeID() == node.GetID():
                composite.SetForegroundVolumeID(None)
        bar = self._colours_logic.GetColorLegendDisplayNode(node)
        if bar is not None:
            bar.SetVisibility(self.shown)
            # A view looks whether its layers have a bar when the bar changes, not when they do.
            bar.Modified()

    def remove(self) -> None:
        """Take the map and its colour bar out of the scene."""
        for node in own_nodes(self._scene, ENTROPY):
            for composite in self._composites():
                if composite.GetForegroundVolumeID() == node.GetID():
                    composite.SetForegroundVolumeID(None)
        remove_own(self._scene, ENTROPY)

    def _composites(self) -> list[Any]:
        name = "vtkMRMLSliceCompositeNode"
        count = self._scene.GetNumberOfNodesByClass(name)
        return [self._scene.GetNthNodeByClass(index, name) for index in range(count)]

    def _add_colour_bar(self, node: Any) -> None:
        bar = self._colours_logic.AddDefaultColorLegendDisplayNode(node)
        if bar is None:  # a Slicer without colour bars still shows the map
            return
        bar.SetTitleText(TITLE)
        # VTK changed the notation of formats; the preset tells which one this Slicer reads.
        bar.SetLabelFormat("{:.2f}" if "{" in bar.GetLabelFormat() else "%.2f")
        bar.SetNumberOfLabels(4)
        bar.SetSize(0.08, 0.4)
        for text in (bar.GetTitleTextProperty(), bar.GetLabelTextProperty()):
            text.SetFontSize(12)
