"""One synthetic head: image and mask, as stored by a scanner or on a grid of choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fair_strategy.data.synthetic import head_scan
from fair_strategy.data.synthetic.head_parameters import HeadParameters, draw_head
from fair_strategy.data.synthetic.head_render import Renderer
from fair_strategy.data.synthetic.head_scan import Affine, ScanParameters

__all__ = ["Head", "HeadParameters", "draw_head", "generate_head", "render_head"]

_NOISE = 16


class Head(NamedTuple):
    """Image (float32, whole numbers from 0), left-caudate mask (uint8), affine, parameters."""

    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    affine: Affine
    parameters: HeadParameters


def generate_head(
    seed: int,
    index: int,
    *,
    contrast: str = "t1",
    voxel_mm: float | None = None,
    box_mm: Sequence[float] | None = None,
) -> Head:
    """Head `index` of the seed: draw_head, then render_head."""
    parameters = draw_head(seed, index, contrast=contrast)
    return render_head(parameters, voxel_mm=voxel_mm, box_mm=box_mm)


def render_head(
    parameters: HeadParameters,
    *,
    voxel_mm: float | None = None,
    box_mm: Sequence[float] | None = None,
    centre_mm: Sequence[float] | None = None,
) -> Head:
    """Image and left-caudate mask of a head.

    Without voxel_mm the scan as it would be stored: own spacing, own order, oblique or not. With
    it, cubic voxels along the world's axes, as if the scan had been resampled: the whole field of
    view, or a box of it (0 beyond the field of view). The anatomy is the same in all of them;
    noise is not.

    Args:
        parameters: see draw_head.
        voxel_mm: edge of cubic voxels; None for the scan's own.
        box_mm: edges (R, A, S) of a box; needs voxel_mm.
        centre_mm: middle of the box (RAS); by default the left caudate's.
    Raises:
        ValueError: bad voxel_mm or box_mm.
    """
    _check(voxel_mm, box_mm)
    maker = Renderer(parameters)
    low, high = maker.field_mm
    scanner, scan = parameters.person.intensity, parameters.scan
    rng = np.random.default_rng([parameters.person.seed, parameters.person.index, _NOISE])
    if voxel_mm is None:
        shape, affine = head_scan.scan_grid(scan, low, high)
        signal, label = maker.render_slices(shape, affine)
        spacing = np.array(scan.spacing_mm)
        image = head_scan.measured(
            signal, scanner, voxel_mm=spacing, slices_mm=scan.spacing_mm, rng=rng
        )
        stored, stored_affine = head_scan.in_storage_order(image, affine, scan.orientation)
        stored_label, _ = head_scan.in_storage_order(label, affine, scan.orientation)
        return Head(stored, stored_label, stored_affine, parameters)
    if box_mm is None:
        low, high = _world_extent(scan, low, high)
    else:
        middle = maker.caudate_mm if centre_mm is None else np.asarray(centre_mm, float)
        low, high = middle - np.asarray(box_mm) / 2, middle + np.asarray(box_mm) / 2
    shape, affine = head_scan.world_grid(low, high, voxel_mm=voxel_mm)
    signal, label = maker.render(shape, affine)
    image = head_scan.measured(
        signal, scanner, voxel_mm=np.full(3, voxel_mm), slices_mm=scan.spacing_mm, rng=rng
    )
    seen = maker.in_field(shape, affine)
    return Head(image * seen, np.where(seen, label, 0).astype(np.uint8), affine, parameters)


def _world_extent(
    scan: ScanParameters, low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Box along the world's axes that holds the field of view."""
    turn = head_scan.rotation(scan.oblique_deg)
    half = np.abs(turn) @ ((high - low) / 2)
    middle = turn @ ((low + high) / 2)
    return middle - half, middle + half


def _check(voxel_mm: float | None, box_mm: Sequence[float] | None) -> None:
    if voxel_mm is not None and not 0.25 <= voxel_mm <= 8:
        raise ValueError(f"voxel_mm: expected 0.25 to 8 mm, got {voxel_mm}")
    if box_mm is None:
        return
    if voxel_mm is None:
        raise ValueError("box_mm: expected together with voxel_mm, got it alone")
    if len(box_mm) != 3 or min(box_mm) < voxel_mm:
        raise ValueError(f"box_mm: expected three edges of at least a voxel, got {box_mm}")
