"""The left caudate in a DICOM SEG object, on the grid of the series that it was drawn on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fair_strategy.data.dicom.geometry import LPS_TO_RAS, orientation
from fair_strategy.data.dicom.segmentation import CAUDATE, LEFT, SEGMENT_LABEL
from fair_strategy.data.grids import SAME_PLACE_MM, Affine, Shape, VolumeError
from fair_strategy.data.volumes import Mask

_NAMES = frozenset({SEGMENT_LABEL, "caudate_left", "left_caudate_nucleus", "caudate_l"})


def source_series(ds: Dataset) -> set[str]:
    """SeriesInstanceUIDs that a segmentation says it was drawn on."""
    return {str(item.SeriesInstanceUID) for item in ds.get("ReferencedSeriesSequence") or ()}


def left_caudate_segment(ds: Dataset) -> int | None:
    """Number of the segment that is a left caudate by its code or by its name; None without one."""
    for segment in ds.get("SegmentSequence") or ():
        kind = (segment.get("SegmentedPropertyTypeCodeSequence") or [Dataset()])[0]
        sides = kind.get("SegmentedPropertyTypeModifierCodeSequence") or ()
        coded = kind.get("CodeValue") == CAUDATE.value and any(
            side.get("CodeValue") == LEFT.value for side in sides
        )
        name = "_".join(str(segment.get("SegmentLabel", "")).lower().split())
        if coded or name in _NAMES:
            return int(segment.SegmentNumber)
    return None


def segment_mask(ds: Dataset, segment: int, *, shape: Shape, affine: Affine) -> Mask:
    """One segment as a mask on the grid (shape, affine) of its source series.

    Args:
        ds: a binary segmentation; each frame says by its position where it lies.
        segment: number of the segment.
        shape: columns, rows, slices of the grid.
        affine: (4, 4), voxel to RAS mm, of the grid.
    Raises:
        VolumeError: not binary, or a frame whose size, orientation or place is not a slice's.
    """
    if ds.get("SegmentationType") != "BINARY":
        raise VolumeError(f"a segmentation of type {ds.get('SegmentationType')}; BINARY is read")
    if (ds.Columns, ds.Rows) != shape[:2]:
        raise VolumeError(
            f"frames of {ds.Columns} x {ds.Rows}, slices of {shape[0]} x {shape[1]}: the "
            "segmentation is not on its source's grid"
        )
    array = np.zeros(shape, dtype=np.uint8)
    for plane, groups in _frames(ds, segment):
        array[:, :, _slice_of(ds, groups, shape, affine)] |= (plane.T != 0).astype(np.uint8)
    return Mask(array, affine)


def _frames(ds: Dataset, segment: int) -> Iterator[tuple[NDArray[np.uint8], Dataset]]:
    planes = np.asarray(ds.pixel_array)
    planes = planes[np.newaxis] if planes.ndim == 2 else planes
    for plane, groups in zip(planes, ds.PerFrameFunctionalGroupsSequence, strict=True):
        if int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber) == segment:
            yield plane, groups


def _slice_of(ds: Dataset, groups: Dataset, shape: Shape, affine: Affine) -> int:
    """Index of the slice that a frame lies on."""
    shared = (ds.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    planes = groups.get("PlaneOrientationSequence") or shared.get("PlaneOrientationSequence")
    places = groups.get("PlanePositionSequence")
    if not planes or not places:
        raise VolumeError("a frame without orientation or position: it cannot be put in space")
    along, down = orientation(planes[0])
    wanted = (LPS_TO_RAS @ affine)[:3, :2]
    wanted /= np.linalg.norm(wanted, axis=0)
    place = LPS_TO_RAS[:3, :3] @ [float(part) for part in places[0].ImagePositionPatient]
    voxel = np.linalg.solve(affine, [*place, 1.0])[:3]
    nearest = np.rint(voxel)
    apart = float(np.linalg.norm(affine[:3, :3] @ (voxel - nearest)))
    turned = max(np.abs(wanted[:, 0] - along).max(), np.abs(wanted[:, 1] - down).max())
    inside = nearest[0] == nearest[1] == 0 and 0 <= nearest[2] < shape[2]
    if not inside or apart > SAME_PLACE_MM or turned > 1e-3:
        raise VolumeError("a frame that is no slice of its source: it would need resampling")
    return int(nearest[2])
