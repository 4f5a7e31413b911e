"""One reader's scene: a scan, the mask that is edited, the overlay; no page, no network."""

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from slicer import (
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkSegmentation,
    vtkSlicerSegmentationsModuleLogic,
)
from trame_slicer.core import SlicerApp
from undo_stack import UndoStack

from fair_strategy.viewer import leftovers
from fair_strategy.viewer.overlay import Look, Overlay
from fair_strategy.viewer.slices import Slices
from fair_strategy.viewer.volumes import (
    Grid,
    add_volume,
    oriented,
    read_labels_on,
    read_on,
    read_scan,
    voxels,
    write_labels,
)

COLOURS = (
    (0.20, 0.85, 0.95), (1.00, 0.75, 0.20), (0.55, 0.90, 0.40), (0.95, 0.50, 0.80),
)  # fmt: skip
"""Of the segments, in turn: none of them occurs in the overlay's dark red to yellow."""
BESIDE = (1.0, 1.0, 1.0)
"""Colour of an outline that lies beside what is edited."""

UNDO_STEPS = 20
_PERCENTILES = (1.0, 99.7)


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """The files of a case: its scan and, where there are such, a mask and an entropy map."""

    scan: Path
    labels: Path | None = None
    entropy: Path | None = None


class ReviewScene:
    """Slicer's scene with at most one case in it.

    Args:
        app: Slicer's core; made here where none is given.
    """

    def __init__(self, app: SlicerApp | None = None) -> None:
        self.app = app or SlicerApp()
        self.slices = Slices(self.app)
        self.undo = UndoStack(undo_limit=UNDO_STEPS)
        self.undo.index_changed.connect(self._count_edit)  # undo tells the segmentation nothing
        self.app.segmentation_editor.set_undo_stack(self.undo)
        self.look = Look()
        self._forget()

    def _forget(self) -> None:
        self.grid: Grid | None = None
        self.volume: vtkMRMLScalarVolumeNode | None = None
        self.segmentation: vtkMRMLSegmentationNode | None = None
        self.beside: vtkMRMLSegmentationNode | None = None
        self.overlay: Overlay | None = None
        self.values: dict[str, int] = {}
        self.edits = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a case."""
        return self.grid is not None

    def clear(self) -> None:
        """Leave the case: everything of it goes, at once.

        Removing node by node keeps tens of megabytes a case; removing display nodes crashes.
        """
        editor = self.app.segmentation_editor
        left = leftovers.pipelines(editor)
        self.undo.clear()
        editor.clear()
        self.app.scene.Clear()
        leftovers.empty(left)
        was_open = self.is_open
        self._forget()
        if was_open:
            # Python would wait for many small objects; these cycles hold a scan and a mask each.
            gc.collect()

    def open(self, files: CaseFiles, labels: Mapping[str, int]) -> None:
        """Show a case; the one before is left.

        Args:
            files: the scan and what belongs to it.
            labels: the model's label names and their values.
        Raises:
            VolumeError: a file is unreadable or not on the scan's grid.
        """
        scan, grid = read_scan(files.scan)
        masks = read_labels_on(files.labels, grid) if files.labels else None
        entropy = read_on(files.entropy, grid) if files.entropy else None
        self.clear()
        self.grid = grid
        self.volume = add_volume(self.app.scene, scan, grid, name="scan")
        low, high = np.percentile(scan[::2, ::2, ::2], _PERCENTILES)
        self.set_window(float(low), float(high) if high > low else float(low) + 1.0)
        self.app.display_manager.show_volume_in_slice_background(self.volume)
        self._start_editing(masks, labels)
        self._overlay(entropy)
        self.slices.fit()
        self.slices.crosshair().SetCrosshairRAS(*_place(grid, (np.array(grid.scene_shape) - 1) / 2))

    def show_entropy(self, path: Path | None) -> None:
        """Lay an entropy map over the case that is open, where there was none.

        Raises:
            VolumeError: unreadable, or not on the scan's grid.
        """
        grid, _ = self._case()
        if path is not None and self.overlay is None:
            self._overlay(read_on(path, grid))

    def _overlay(self, entropy: NDArray[np.float32] | None) -> None:
        if entropy is None or self.grid is None:
            return
        self.overlay = Overlay(self.app, entropy, self.grid, classes=len(self.values) + 1)
        self.overlay.apply(self.look)

    def _start_editing(self, masks: NDArray[np.int16] | None, labels: Mapping[str, int]) -> None:
        editor = self.app.segmentation_editor
        node = self.segmentation = editor.create_empty_segmentation_node()
        node.SetReferenceImageGeometryParameterFromVolumeNode(self.volume)
        for name, value in self._all_labels(masks, labels).items():
            self.values[self._add_segment(name, value)] = value
        if masks is not None:
            self._fill(masks)
        editor.set_active_segmentation(node, self.volume)
        editor.show_3d(True)
        self.style()
        node.GetSegmentation().AddObserver(
            vtkSegmentation.SourceRepresentationModified, self._count_edit
        )
        self.undo.clear()
        self.edits = 0

    def _all_labels(
        self, masks: NDArray[np.int16] | None, labels: Mapping[str, int]
    ) -> dict[str, int]:
        found = set() if masks is None else {int(v) for v in np.unique(masks) if v}
        unnamed = sorted(found - set(labels.values()))
        return {**labels, **{f"label {value}": value for value in unnamed}}

    def _add_segment(self, name: str, value: int) -> str:
        assert self.segmentation is not None
        colour = COLOURS[len(self.values) % len(COLOURS)]
        segmentation = self.segmentation.GetSegmentation()
        segment_id: str = segmentation.AddEmptySegment("", name, list(colour))
        segmentation.GetSegment(segment_id).SetLabelValue(value)
        return segment_id

    def _fill(self, masks: NDArray[np.int16]) -> None:
        assert self.grid is not None
        for segment_id, value in self.values.items():
            mask = masks == value
            if mask.any():
                _put(mask, self.grid, self.segmentation, segment_id)

    def style(self) -> None:
        """Colours and opacities of the mask; undo resets some of them."""
        assert self.segmentation is not None
        display = self.segmentation.GetDisplayNode()
        display.SetOpacity2DFill(0.18)
        display.SetOpacity2DOutline(1.0)
        display.SetSliceIntersectionThickness(2)
        display.SetOpacity3D(1.0)

    def _count_edit(self, *_: object) -> None:
        self.edits += 1

    # ------------------------------------------------------------ what is in it

    def labels(self) -> NDArray[np.uint8]:
        """The edited mask with the labels' own values, (I, J, K) in the order of the scene."""
        grid, _ = self._case()
        merged = np.zeros(grid.scene_shape, dtype=np.uint8)
        for segment_id, value in self.values.items():
            merged[self._mask(segment_id)] = value
        return merged

    def _mask(self, segment_id: str) -> NDArray[np.bool_]:
        _, editor = self._case()
        return voxels(editor.get_segment_labelmap(segment_id)) != 0

    def export(self, path: Path) -> Path:
        """Write the edited mask on the scan's own grid, voxel by voxel, with the labels' values."""
        grid, _ = self._case()
        return write_labels(path, self.labels(), grid)

    def take(self, path: Path) -> None:
        """Put the labels of a file in the place of what is edited; undo forgets what was before.

        Raises:
            VolumeError: unreadable, or not on the scan's grid.
        """
        grid, editor = self._case()
        masks = read_labels_on(path, grid)
        for segment_id, value in self.values.items():
            _put(masks == value, grid, self.segmentation, segment_id)
        editor.active_segmentation.trigger_modified()
        self.undo.clear()

    def lay_beside(self, path: Path) -> None:
        """Show the labels of a file as a thin line in the slices, to look at only.

        Raises:
            VolumeError: unreadable, or not on the scan's grid.
        """
        grid, editor = self._case()
        mask = read_labels_on(path, grid) != 0
        node = self.beside = editor.create_empty_segmentation_node()
        node.SetReferenceImageGeometryParameterFromVolumeNode(self.volume)
        segment_id = node.GetSegmentation().AddEmptySegment("", "beside", list(BESIDE))
        _put(mask, grid, node, segment_id)
        display = node.GetDisplayNode()
        assert self.segmentation is not None
        display.SetVisibility(self.segmentation.GetDisplayNode().GetVisibility())
        display.SetVisibility2DFill(False)
        display.SetVisibility3D(False)
        display.SetSliceIntersectionThickness(1)

    def middle_of_mask(self) -> tuple[float, float, float] | None:
        """The centre of what is labelled (RAS, mm); None where nothing is."""
        grid, _ = self._case()
        there = np.argwhere(self.labels())
        return _place(grid, there.mean(axis=0)) if len(there) else None

    def volume_mm3(self) -> float:
        """Volume of everything that is labelled, in mm3."""
        grid, _ = self._case()
        voxel = abs(float(np.linalg.det(grid.affine[:3, :3])))
        return voxel * int(np.count_nonzero(self.labels()))

    # ------------------------------------------------------------ how it is looked at

    def show_overlay(self, look: Look) -> None:
        """Show the entropy as `look` says, in this case and the next."""
        self.look = look
        if self.overlay is not None:
            self.overlay.apply(look)

    def show_mask(self, shown: bool) -> None:
        """Show or hide the mask, and what lies beside it; it is edited all the same."""
        for node in (self.segmentation, self.beside):
            if node is not None:
                node.GetDisplayNode().SetVisibility(shown)

    def window(self) -> tuple[float, float]:
        """The intensities shown as black and as white."""
        display = self._scan().GetDisplayNode()
        return display.GetWindowLevelMin(), display.GetWindowLevelMax()

    def set_window(self, low: float, high: float) -> None:
        """Show `low` as black and `high` as white."""
        display = self._scan().GetDisplayNode()
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(low, high)
        for view in self.app.view_manager.get_slice_views():
            view.schedule_render()  # nothing that a slice view watches tells it

    def intensities(self) -> NDArray[np.float32]:
        """The scan's voxels, (I, J, K) in the order of the scene, as a view."""
        return voxels(self._scan().GetImageData())

    def intensity_range(self) -> tuple[float, float]:
        """Lowest and highest intensity of the scan."""
        low, high = self._scan().GetImageData().GetScalarRange()
        return float(low), float(high)

    def _scan(self) -> vtkMRMLScalarVolumeNode:
        if self.volume is None:
            raise RuntimeError("no case is open")
        return self.volume

    def _case(self):  # type: ignore[no-untyped-def]
        if self.grid is None:
            raise RuntimeError("no case is open")
        return self.grid, self.app.segmentation_editor


def _place(grid: Grid, voxel: NDArray[np.floating]) -> tuple[float, float, float]:
    x, y, z, _ = grid.scene_affine @ [*voxel, 1.0]
    return float(x), float(y), float(z)


def _put(
    mask: NDArray[np.bool_], grid: Grid, node: vtkMRMLSegmentationNode | None, segment_id: str
) -> None:
    vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(
        oriented(mask.astype(np.uint8), grid), node, segment_id
    )
