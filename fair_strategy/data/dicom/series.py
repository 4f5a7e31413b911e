"""A series of slices as one volume, in its own grid and in the units of its rescale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fair_strategy.data.dicom.geometry import series_grid
from fair_strategy.data.grids import Affine, VolumeError


@dataclass(frozen=True, eq=False)
class SeriesVolume:
    """`array` (I, J, K) as columns, rows, slices; `affine` (4, 4) from voxel to RAS mm."""

    array: NDArray[Any]
    affine: Affine


def series_volume(slices: Sequence[Dataset]) -> SeriesVolume:
    """The volume of a classic series: nothing is resampled, no voxel's value is rounded.

    Values are RescaleSlope x stored + RescaleIntercept of their own slice, in float32; whole
    numbers stay as they are stored where no slice rescales.

    Raises:
        VolumeError: as `series_grid`; colour or inverted images; voxels that cannot be decoded.
    """
    grid = series_grid(slices)
    rescales = [_rescale(ds) for ds in grid.slices]
    plain = all(rescale == (1.0, 0.0) for rescale in rescales)
    planes = []
    for ds, (slope, intercept) in zip(grid.slices, rescales, strict=True):
        stored = _stored(ds)
        planes.append(stored if plain else (stored * slope + intercept).astype(np.float32))
    return SeriesVolume(np.stack(planes, axis=-1), grid.affine)


def _rescale(ds: Dataset) -> tuple[float, float]:
    slope, intercept = ds.get("RescaleSlope"), ds.get("RescaleIntercept")
    found = (
        1.0 if slope in (None, "") else float(slope),
        0.0 if intercept in (None, "") else float(intercept),
    )
    if not np.isfinite(found).all() or found[0] == 0:
        raise VolumeError(
            f"RescaleSlope {found[0]}, RescaleIntercept {found[1]}: no usable rescale"
        )
    return found


def _stored(ds: Dataset) -> NDArray[Any]:
    """Stored values of one slice, (columns, rows)."""
    if ds.get("SamplesPerPixel", 1) != 1 or ds.get("PhotometricInterpretation") != "MONOCHROME2":
        raise VolumeError(
            f"its slices are {ds.get('PhotometricInterpretation', 'of no stated kind')}; "
            "MONOCHROME2 is read"
        )
    try:
        plane: NDArray[Any] = ds.pixel_array
    except (AttributeError, KeyError, NotImplementedError, RuntimeError, ValueError) as error:
        syntax = getattr(getattr(ds, "file_meta", None), "TransferSyntaxUID", None)
        raise VolumeError(
            f"the voxels of a slice cannot be decoded (transfer syntax "
            f"{getattr(syntax, 'name', 'unknown')}); let the PACS send uncompressed slices"
        ) from error
    if plane.shape != (ds.Rows, ds.Columns):
        raise VolumeError(f"a slice holds {plane.shape} voxels, its header says otherwise")
    return plane.T
