"""The entropy of the model's prediction over the scan: thresholded, with a colour bar in nats."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray
from slicer import vtkMRMLScalarVolumeNode, vtkSlicerColorLogic
from trame_slicer.core import SlicerApp

from fair_strategy.viewer.volumes import Grid, add_volume

COLOURS = "vtkMRMLPETProceduralColorNodePET-Heat"
TITLE = "entropy, nats"
HIGHEST = log(2)
"""The entropy of an even choice between two classes, in nats."""


@dataclass
class Look:
    """How the overlay is shown: `threshold` in nats, `opacity` from 0 to 1."""

    shown: bool = True
    threshold: float = 0.1
    opacity: float = 0.5


def colour_logic(app: SlicerApp) -> vtkSlicerColorLogic:
    """The logic that makes colour bars, registered: without it none is made."""
    logic = vtkSlicerColorLogic()
    logic.SetMRMLApplicationLogic(app.app_logic)  # before the scene
    logic.SetMRMLScene(app.scene)
    app.app_logic.SetModuleLogic("Colors", logic)
    return logic


class Overlay:
    """The entropy map of one case as the foreground of the slice views."""

    def __init__(
        self, app: SlicerApp, entropy: NDArray[np.floating], grid: Grid, *, classes: int = 2
    ) -> None:
        self._app = app
        self.look = Look()
        self.highest = log(max(classes, 2))
        self.node: vtkMRMLScalarVolumeNode = add_volume(app.scene, entropy, grid, name="entropy")
        display = self.node.GetDisplayNode()
        display.SetAndObserveColorNodeID(COLOURS)
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(0.0, self.highest)
        display.AutoThresholdOff()
        display.ApplyThresholdOn()
        self._bar = self._colour_bar()

    def apply(self, look: Look) -> None:
        """Show the overlay as `look` says, in every slice view."""
        self.look = look
        self.node.GetDisplayNode().SetThreshold(max(look.threshold, 1e-6), self.highest)
        for view in self._app.view_manager.get_slice_views():
            view.set_foreground_volume_id(self.node.GetID() if look.shown else None)
            view.set_foreground_opacity(look.opacity if look.shown else 0.0)
        if self._bar is not None:
            self._bar.SetVisibility(look.shown)

    @property
    def has_colour_bar(self) -> bool:
        """Whether a colour bar is drawn beside the overlay."""
        return self._bar is not None and bool(self._bar.GetVisibility())

    def _colour_bar(self):  # type: ignore[no-untyped-def]
        bar = vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(self.node)
        if bar is None:
            return None
        bar.SetTitleText(TITLE)
        bar.SetLabelFormat("%.2f")
        bar.SetNumberOfLabels(4)
        bar.SetMaxNumberOfColors(64)
        bar.SetSize(0.10, 0.42)
        bar.SetPosition(0.98, 0.5)
        for text in (bar.GetTitleTextProperty(), bar.GetLabelTextProperty()):
            text.SetFontSize(11)
            text.SetColor(0.9, 0.9, 0.9)
            text.SetShadow(True)
        # In one view: four bars of the same scale hide anatomy and say nothing more.
        views = self._app.view_manager.get_slice_views()
        if views:
            bar.SetViewNodeIDs([views[0].get_view_node_id()])
        return bar


@dataclass(frozen=True, slots=True)
class Peak:
    """A place of high entropy: RAS in mm, and its entropy in nats."""

    position: tuple[float, float, float]
    entropy: float


class Peaks:
    """The most uncertain places of a case, highest first, and the one that is looked at."""

    def __init__(self, peaks: Iterable[Peak] = ()) -> None:
        self._peaks = sorted(peaks, key=lambda peak: -peak.entropy)
        self._at: int | None = None

    def __len__(self) -> int:
        return len(self._peaks)

    @property
    def number(self) -> int:
        """1 for the most uncertain place, 0 before the first jump."""
        return 0 if self._at is None else self._at + 1

    def most_uncertain(self) -> Peak | None:
        """The highest peak; None if there is none."""
        return self._go(0)

    def next(self) -> Peak | None:
        """The next lower peak; after the last comes the highest again."""
        return self._go(0 if self._at is None else self._at + 1)

    def previous(self) -> Peak | None:
        """The next higher peak; before the highest comes the last."""
        return self._go(-1 if self._at is None else self._at - 1)

    def _go(self, index: int) -> Peak | None:
        if not self._peaks:
            return None
        self._at = index % len(self._peaks)
        return self._peaks[self._at]
