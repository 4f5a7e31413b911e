"""Voxel grids in RAS world space and resampling between them.

Every grid is a shape and a 4x4 affine (voxel -> RAS mm). The networks see grids whose axes are
the world's own (right, anterior, superior), so orientation and obliqueness end here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from fair_strategy.data.grids import Shape, spacing_mm
from fair_strategy.learning.interpolation import Box, Outside, interpolate


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where voxels are: `shape` (I, J, K) and `affine`, 4x4, voxel -> RAS mm."""

    shape: Shape
    affine: NDArray[np.float64]

    @property
    def corners_mm(self) -> NDArray[np.float64]:
        """(8, 3): world positions of the eight outermost voxel centres."""
        ends = [(0, n - 1) for n in self.shape]
        return apply_affine(self.affine, np.array(list(product(*ends)), dtype=np.float64))


def apply_affine(affine: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (N, 3) moved by a 4x4 affine."""
    return points @ affine[:3, :3].T + affine[:3, 3]


def window_grid(centre_mm: NDArray[np.float64], shape: Sequence[int], spacing_mm: float) -> Grid:
    """Grid along the world's axes with its middle at `centre_mm`."""
    i, j, k = (int(n) for n in shape)
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = np.asarray(centre_mm) - spacing_mm * (np.array([i, j, k]) - 1) / 2
    return Grid((i, j, k), affine)


def covering_grid(
    low_mm: NDArray[np.float64],
    high_mm: NDArray[np.float64],
    spacing_mm: float,
    *,
    multiple: int = 1,
) -> Grid:
    """Smallest grid along the world's axes that covers a box.

    Args:
        low_mm, high_mm: (3,) opposite corners.
        spacing_mm: edge of a voxel.
        multiple: every side is rounded up to a multiple of this number of voxels.
    """
    voxels = np.ceil((high_mm - low_mm) / spacing_mm - 1e-6).astype(int) + 1
    voxels = -(-voxels // multiple) * multiple
    return window_grid((low_mm + high_mm) / 2, voxels.tolist(), spacing_mm)


def snapped(grid: Grid, affine: NDArray[np.float64]) -> Grid:
    """The grid shifted so that its first voxel falls on a voxel of another grid.

    Where both have the same spacing and directions, resampling between them then only copies.
    """
    origin = grid.affine[None, :3, 3]
    nearest = np.rint(apply_affine(np.linalg.inv(affine), origin))
    moved = grid.affine.copy()
    moved[:3, 3] = apply_affine(affine, nearest)[0]
    return Grid(grid.shape, moved)


def draw(
    array: NDArray[np.number],
    affine: NDArray[np.float64],
    target: Grid,
    *,
    outside: Outside = "zeros",
) -> torch.Tensor:
    """One image onto another grid: cut out, averaged where that grid is coarser, interpolated.

    Whole blocks of voxels are averaged first where the target's voxels are at least twice as
    large, so that nothing is skipped. Only the part of the image that the target covers is read,
    once, in the order in which it lies in memory.

    Args:
        array: (I, J, K), any strides and number type; not changed.
        affine: 4x4, its voxel -> RAS mm.
        target: the wanted grid.
        outside: what stands where the image ends: 0, or its outermost voxel drawn out.
    Returns:
        (1, *target.shape), float32.
    """
    factors = _block_factors(array.shape, affine, target)
    box = _box_of_blocks(array.shape, affine, target, factors)
    part = block_means(array[box], factors)
    blocks = np.diag([*np.array(factors, dtype=np.float64), 1.0])
    blocks[:3, 3] = (np.array(factors) - 1) / 2
    image = torch.from_numpy(part)[None]
    return resample(image, box_grid(box, affine).affine @ blocks, target, outside=outside)


def block_means(array: NDArray[np.number], factors: Sequence[int]) -> NDArray[np.float32]:
    """Means of blocks of voxels; the last block of an axis holds those that are left.

    Args:
        array: (I, J, K), any strides and number type; read once, in its order in memory.
        factors: edges of a block, in voxels.
    Returns:
        (ceil(I / factor), ...), a copy, its axes in the same order in memory.
    """
    order = sorted(range(3), key=lambda axis: -abs(array.strides[axis]))
    stored, (a, b, c) = array.transpose(order), (factors[axis] for axis in order)
    if a == b == c == 1:
        return array.astype(np.float32)
    sums = np.empty((-(-stored.shape[0] // a), -(-stored.shape[1] // b), stored.shape[2]), "f4")
    for slab, into in enumerate(sums):  # a slab of sums stays in the cache
        _sum_rows(stored[slab * a : (slab + 1) * a], b, into)
    means = _sum_every(sums, c)
    means *= np.float32(1 / (a * b * c))
    for axis, factor in enumerate((a, b, c)):
        left = stored.shape[axis] % factor
        if left:
            np.moveaxis(means, axis, 0)[-1] *= factor / left
    return means.transpose(np.argsort(order))


def _sum_rows(slab: NDArray[np.number], factor: int, into: NDArray[np.float32]) -> None:
    """(A, J, K) summed over A and over blocks of J."""
    whole = slab.shape[1] // factor
    blocks = slab[:, : whole * factor].reshape(len(slab), whole, factor, slab.shape[2])
    np.einsum("abrc->bc", blocks, out=into[:whole], dtype=np.float32, casting="unsafe")
    if whole < len(into):
        into[whole] = slab[:, whole * factor :].sum(axis=(0, 1), dtype=np.float32)


def _sum_every(rows: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Sums of `factor` neighbours along the last axis."""
    sums = rows[..., ::factor].copy()
    for offset in range(1, factor):
        more = rows[..., offset::factor]
        sums[..., : more.shape[2]] += more
    return sums


def _block_factors(shape: Sequence[int], affine: NDArray[np.float64], target: Grid) -> list[int]:
    wanted = min(spacing_mm(target.affine))
    factors = np.maximum(1, np.floor(wanted / np.array(spacing_mm(affine)) + 1e-3)).astype(int)
    return np.minimum(factors, shape).tolist()


def _box_of_blocks(
    shape: Sequence[int], affine: NDArray[np.float64], target: Grid, factors: Sequence[int]
) -> Box:
    """The voxels that interpolation at the target's positions asks for, in whole blocks."""
    i, j, k = shape
    box = box_around(target.corners_mm, (i, j, k), affine)
    cut = []
    for side, size, factor in zip(box, shape, factors, strict=True):
        low = max(0, side.start // factor - 1) * factor
        cut.append(slice(low, min(size, (-(-side.stop // factor) + 1) * factor)))
    return cut[0], cut[1], cut[2]


def resample(
    image: torch.Tensor,
    affine: NDArray[np.float64],
    target: Grid,
    *,
    pool: bool = False,
    outside: Outside = "zeros",
) -> torch.Tensor:
    """Trilinear resampling of channels onto another grid.

    Args:
        image: (C, I, J, K), floating point.
        affine: 4x4, its voxel -> RAS mm.
        target: the wanted grid.
        pool: each channel as `draw` does it.
        outside: what stands where the image ends: 0, or its outermost voxel drawn out.
    Returns:
        (C, *target.shape), the dtype and device of image.
    """
    if pool:
        channels = [draw(c.cpu().numpy(), affine, target, outside=outside) for c in image]
        return torch.cat(channels).to(image)
    matrix = np.linalg.inv(affine) @ target.affine
    return interpolate(image, matrix, target.shape, outside)


def box_around(points_mm: NDArray[np.float64], shape: Shape, affine: NDArray[np.float64]) -> Box:
    """Smallest box of a grid's voxels that holds the points, cut at the grid's edge.

    Never empty: a box outside the grid becomes the nearest layer of voxels.
    """
    voxels = apply_affine(np.linalg.inv(affine), points_mm)
    low = np.floor(voxels.min(axis=0) + 1e-6).astype(int)
    high = np.ceil(voxels.max(axis=0) - 1e-6).astype(int) + 1
    low = np.clip(low, 0, np.array(shape) - 1)
    high = np.maximum(np.clip(high, 0, shape), low + 1)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return i, j, k


def box_grid(box: Box, affine: NDArray[np.float64]) -> Grid:
    """The part of a grid inside a box, as a grid of its own."""
    moved = affine.copy()
    moved[:3, 3] = apply_affine(affine, np.array([[s.start for s in box]], dtype=np.float64))[0]
    i, j, k = (s.stop - s.start for s in box)
    return Grid((i, j, k), moved)
