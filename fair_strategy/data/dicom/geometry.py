"""The voxel grid of a series from the headers of its slices: by position, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fair_strategy.data.grids import SAME_PLACE_MM, Affine, Shape, VolumeError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAME_DIRECTION = 1e-4  # of a direction cosine
_NEEDED = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")


@dataclass(frozen=True)
class SeriesGrid:
    """Where the voxels of a series lie.

    Attributes:
        shape: columns, rows, slices.
        affine: (4, 4), voxel to RAS mm.
        slices: headers in the order of the third axis.
    """

    shape: Shape
    affine: Affine
    slices: tuple[Dataset, ...]


def series_grid(headers: Sequence[Dataset]) -> SeriesGrid:
    """The grid of a series of single-frame slices, ordered along their normal.

    The spacing of slices is that of their positions; SliceThickness, SpacingBetweenSlices and
    InstanceNumber, which scanners fill in many ways, are not looked at.

    Raises:
        VolumeError: several frames in one object, a tag that is missing, fewer than two slices,
            several sizes, spacings or orientations, two slices in one place, a slice that is
            missing, or slices that are shifted sideways (gantry tilt).
    """
    _refuse_unusable(headers)
    rows, columns = _same(headers, "Rows"), _same(headers, "Columns")
    between_rows, between_columns = _same_vector(headers, "PixelSpacing", "pixel spacings")
    along, down = _directions(headers)
    positions = np.array([_numbers(ds, "ImagePositionPatient") for ds in headers])
    order, step = _stack(positions, np.cross(along, down))
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = along * between_columns, down * between_rows, step
    lps[:3, 3] = positions[order[0]]
    return SeriesGrid(
        shape=(int(columns), int(rows), len(headers)),
        affine=LPS_TO_RAS @ lps,
        slices=tuple(headers[i] for i in order),
    )


def orientation(ds: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors along a row and down a column, in LPS.

    Raises:
        VolumeError: if the two are no directions at right angles.
    """
    cosines = _numbers(ds, "ImageOrientationPatient")
    lengths = [float(np.linalg.norm(half)) for half in (cosines[:3], cosines[3:])]
    if len(cosines) != 6 or not np.allclose(lengths, 1, atol=1e-2):
        raise VolumeError(f"ImageOrientationPatient {cosines.tolist()}: expected two unit vectors")
    along, down = cosines[:3] / lengths[0], cosines[3:] / lengths[1]
    if abs(along @ down) > 1e-3:
        raise VolumeError(
            f"ImageOrientationPatient {cosines.tolist()}: rows and columns are not at right angles"
        )
    return along, down


def _refuse_unusable(headers: Sequence[Dataset]) -> None:
    for ds in headers:
        if int(ds.get("NumberOfFrames") or 1) > 1:
            raise VolumeError(
                "one object holds several frames (enhanced MR); only classic series of single "
                "slices are read: let the PACS or the scanner export one"
            )
        absent = [keyword for keyword in _NEEDED if ds.get(keyword) in (None, "")]
        if absent:
            raise VolumeError(f"a slice has no {', '.join(absent)}: it cannot be put in space")
    if len(headers) < 2:
        raise VolumeError(f"{len(headers)} slice: a volume needs at least two")


def _directions(headers: Sequence[Dataset]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    along, down = orientation(headers[0])
    for ds in headers[1:]:
        other = orientation(ds)
        apart = max(np.abs(along - other[0]).max(), np.abs(down - other[1]).max())
        if apart > _SAME_DIRECTION:
            raise VolumeError(
                "its slices have several orientations (a localiser?); a volume has one"
            )
    return along, down


def _stack(
    positions: NDArray[np.float64], normal: NDArray[np.float64]
) -> tuple[list[int], NDArray[np.float64]]:
    """Order of the slices along the normal, and the vector from one to the next."""
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    gaps = np.diff(heights[order])
    twice = int((gaps < 1e-3).sum())
    if twice:
        raise VolumeError(
            f"{twice} of {len(order)} slices lie where another one lies (several echoes, time "
            "points or copies in one series); a volume has one slice a place"
        )
    usual = float(np.median(gaps))
    uneven = np.flatnonzero(np.abs(gaps - usual) > max(SAME_PLACE_MM, 0.01 * usual))
    if uneven.size:
        at = int(uneven[0])
        raise VolumeError(
            f"slices {at + 1} and {at + 2} of {len(order)} lie {gaps[at]:.4g} mm apart, the others "
            f"{usual:.4g} mm: a slice is missing, or the spacing changes"
        )
    step = (positions[order[-1]] - positions[order[0]]) / (len(order) - 1)
    _refuse_tilt(positions[order], step, normal)
    return [int(i) for i in order], step


def _refuse_tilt(
    positions: NDArray[np.float64], step: NDArray[np.float64], normal: NDArray[np.float64]
) -> None:
    from_first = positions - positions[0]
    sideways = from_first - np.outer(from_first @ normal, normal)
    shift = float(np.linalg.norm(sideways, axis=1).max())
    if shift > SAME_PLACE_MM:
        raise VolumeError(
            f"its slices are shifted sideways by up to {shift:.3g} mm (gantry tilt, or slices that "
            "are not one stack); resample it, or reconstruct it without tilt"
        )
    evenly = np.outer(np.arange(len(positions)), step)
    off = float(np.linalg.norm(from_first - evenly, axis=1).max())
    if off > 2 * SAME_PLACE_MM:
        raise VolumeError(f"its slices lie up to {off:.3g} mm beside an even stack")


def _same(headers: Sequence[Dataset], keyword: str) -> int:
    values = {int(ds.get(keyword)) for ds in headers}
    if len(values) > 1:
        raise VolumeError(f"its slices have several {keyword} ({sorted(values)}); a volume has one")
    return values.pop()


def _same_vector(headers: Sequence[Dataset], keyword: str, what: str) -> NDArray[np.float64]:
    first = _numbers(headers[0], keyword)
    if len(first) != 2 or not (first > 0).all():
        raise VolumeError(f"{keyword} {first.tolist()}: expected two positive numbers, mm")
    for ds in headers[1:]:
        if not np.allclose(_numbers(ds, keyword), first, rtol=1e-5):
            raise VolumeError(f"its slices have several {what}; a volume has one")
    return first


def _numbers(ds: Dataset, keyword: str) -> NDArray[np.float64]:
    value: Any = ds.get(keyword)
    try:
        numbers = np.array([float(part) for part in value])
    except (TypeError, ValueError) as error:
        raise VolumeError(f"{keyword}: expected numbers") from error
    if not np.isfinite(numbers).all():
        raise VolumeError(f"{keyword}: expected finite numbers")
    return numbers
