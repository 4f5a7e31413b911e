"""The entropy of the model's prediction over the scan: thresholded, in nats."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray
from slicer import vtkMRMLScalarVolumeNode
from trame_slicer.core import SlicerApp

from fair_strategy.viewer.volumes import Grid, add_volume

COLOURS = "vtkMRMLPETProceduralColorNodePET-Heat"
HIGHEST = log(2)
"""The entropy of an even choice between two classes, in nats."""
_ROUNDED_UP = 1.01
"""Maps are kept in float16, in which ln 2 is a little more: the upper threshold leaves room."""


@dataclass(frozen=True, slots=True)
class Look:
    """How the overlay is shown: `threshold` in nats, `opacity` from 0 to 1."""

    shown: bool = True
    threshold: float = 0.1
    opacity: float = 0.5


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

    def apply(self, look: Look) -> None:
        """Show the overlay as `look` says, in every slice view."""
        self.look = look
        lowest = max(look.threshold, 1e-6)
        self.node.GetDisplayNode().SetThreshold(lowest, _ROUNDED_UP * self.highest)
        for view in self._app.view_manager.get_slice_views():
            view.set_foreground_volume_id(self.node.GetID() if look.shown else None)
            view.set_foreground_opacity(look.opacity if look.shown else 0.0)

    def colours(self, steps: int = 12) -> list[tuple[int, int, int]]:
        """The colours of the bar beside the overlay, from 0 to the highest entropy (0 to 255)."""
        table = self.node.GetDisplayNode().GetColorNode().GetLookupTable()
        last = table.GetNumberOfTableValues() - 1
        shown = [table.GetTableValue(round(last * n / (steps - 1))) for n in range(steps)]
        return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b, _ in shown]


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

    def restart(self) -> None:
        """As before the first jump."""
        self._at = None

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
