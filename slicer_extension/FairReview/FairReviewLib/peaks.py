"""The places where the model is least certain: a list, points in the scene, and jumps to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from FairReviewLib.current import mark_own, own_nodes, remove_own

PEAKS = "peaks"


@dataclass(frozen=True)
class Peak:
    """A place of high entropy: `position` R, A, S in mm, `entropy` in nats."""

    position: tuple[float, float, float]
    entropy: float

    def __str__(self) -> str:
        r, a, s = self.position
        return f"{self.entropy:.2f} nats at R {r:.0f}, A {a:.0f}, S {s:.0f} mm"


def read_peaks(answer: Iterable[Mapping[str, Any]]) -> list[Peak]:
    """Peaks from the server's answer, highest first."""
    found = []
    for peak in answer:
        r, a, s = (float(value) for value in peak["position"])
        found.append(Peak((r, a, s), float(peak["entropy"])))
    return sorted(found, key=lambda peak: -peak.entropy)


class Peaks:
    """The peaks of one scan, and the one that is looked at.

    Attributes:
        at: index into `places` of the one looked at; -1 before the first jump.
    """

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self.places: list[Peak] = []
        self.at = -1

    def load(self, places: list[Peak]) -> None:
        """Put the peaks into the scene as locked points, in place of earlier ones."""
        self.remove()
        self.places = list(places)
        if not places:
            return
        node = self._scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "most uncertain places")
        node.CreateDefaultDisplayNodes()
        mark_own(node, PEAKS)
        for number, peak in enumerate(places, start=1):
            node.AddControlPoint(list(peak.position), f"{number}: {peak.entropy:.2f}")
        node.SetLocked(True)

    def remove(self) -> None:
        """Take the points out of the scene."""
        self.places, self.at = [], -1
        remove_own(self._scene, PEAKS)

    def show(self, shown: bool) -> None:
        """Show or hide the points."""
        for node in own_nodes(self._scene, PEAKS):
            node.SetDisplayVisibility(shown)

    def go_to(self, index: int) -> Peak | None:
        """Centre every slice view on a peak; indices run around. None without peaks."""
        if not self.places:
            return None
        self.at = index % len(self.places)
        peak = self.places[self.at]
        for number in range(self._scene.GetNumberOfNodesByClass("vtkMRMLSliceNode")):
            view = self._scene.GetNthNodeByClass(number, "vtkMRMLSliceNode")
            view.JumpSliceByCentering(*peak.position)
        return peak

    def next(self) -> Peak | None:
        """The next lower peak; after the last comes the highest."""
        return self.go_to(self.at + 1)

    def previous(self) -> Peak | None:
        """The next higher peak; before the highest comes the last."""
        return self.go_to(self.at - 1 if self.at >= 0 else -1)
