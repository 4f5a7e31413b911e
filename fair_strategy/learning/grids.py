"""Voxel grids in RAS world space and resampling between them.

Every grid is a shape and a 4x4 affine (voxel -> RAS mm). The networks see grids whose axes are
the world's own (right, anterior, superior), so orientation and obliqueness end here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fair_strategy.data.grids import Shape, spacing_mm

Box = tuple[slice, slice, slice]
Outside = Literal["zeros", "border"]

_PADDING: dict[Outside, str] = {"zeros": "constant", "border": "replicate"}
_SLAB_VOXELS = 50_000
_WHOLE_IN_FLOAT32 = 2**24
_SAME_VOXEL = 1e-4  # a position so near to a voxel is that voxel
_ASTRAY_VOXELS = 1e-3  # an axis that leaves another by less, over the whole grid, runs along it


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
    device: str | torch.device = "cpu",
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
        device: where the result goes.
    Returns:
        (1, *target.shape), float32.
    """
    factors = _block_factors(array.shape, affine, target)
    box = _box_of_blocks(array.shape, affine, target, factors)
    part = block_means(array[box], factors)
    blocks = np.diag([*np.array(factors, dtype=np.float64), 1.0])
    blocks[:3, 3] = (np.array(factors) - 1) / 2
    image = torch.from_numpy(part)[None].to(device)
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
    axes = _aligned_axes(matrix, target.shape)
    if axes is None:
        return _resample_turned(image, matrix, target.shape, outside)
    drawn = image.permute(0, *(1 + axis for axis in axes))
    for n, (axis, count) in enumerate(zip(axes, target.shape, strict=True), start=1):
        step, start = matrix[axis, n - 1], matrix[axis, 3]
        if step < 0:
            drawn = drawn.flip(n)
            step, start = -step, image.shape[1 + axis] - 1 - start
        drawn = _resample_axis(drawn, n, _rounded(start + step * np.arange(count)), outside)
    return drawn.contiguous()


def _aligned_axes(matrix: NDArray[np.float64], shape: Shape) -> list[int] | None:
    """For each of the target's axes the source's one along it; None if there is a turn."""
    linear = np.abs(matrix[:3, :3])
    axes = linear.argmax(axis=0)
    astray = linear.copy()
    astray[axes, range(3)] = 0.0
    if len(set(axes)) < 3 or (astray @ np.array(shape)).max() > _ASTRAY_VOXELS:
        return None
    return [int(axis) for axis in axes]


def _rounded(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions in voxels; those next to a voxel are that voxel."""
    nearest = np.rint(positions)
    return np.where(np.abs(positions - nearest) < _SAME_VOXEL, nearest, positions)


def _resample_axis(
    image: torch.Tensor, axis: int, positions: NDArray[np.float64], outside: Outside
) -> torch.Tensor:
    """Linear interpolation along one axis, at rising positions in voxels."""
    size, first = image.shape[axis], int(positions[0])
    start, stop = max(first, 0), min(first + len(positions), size)
    if start < stop and (positions == np.arange(first, first + len(positions))).all():
        rims = [0, 0] * (image.ndim - 1 - axis)
        rims += [start - first, first + len(positions) - stop]
        return _padded(image.narrow(axis, start, stop - start), rims, outside)
    if outside == "border":
        positions = positions.clip(0, size - 1)
    low = np.floor(positions)
    share = positions - low
    image = image.contiguous()
    return _layers(image, axis, low, 1.0 - share) + _layers(image, axis, low + 1.0, share)


def _padded(image: torch.Tensor, rims: list[int], outside: Outside) -> torch.Tensor:
    if not any(rims):
        return image
    rims += [0] * (6 - len(rims))
    return functional.pad(image[None], rims, mode=_PADDING[outside])[0]


def _layers(
    image: torch.Tensor, axis: int, voxels: NDArray[np.float64], weights: NDArray[np.float64]
) -> torch.Tensor:
    """Layers of an image, each times its weight; 0 beyond the image."""
    size = image.shape[axis]
    weights = np.where((voxels >= 0) & (voxels < size), weights, 0.0)
    index = torch.from_numpy(voxels.clip(0, size - 1).astype(np.int64)).to(image.device)
    shape = [-1 if n == axis else 1 for n in range(image.ndim)]
    return image.index_select(axis, index) * torch.from_numpy(weights).to(image).view(shape)


def _resample_turned(
    image: torch.Tensor, matrix: NDArray[np.float64], shape: Shape, outside: Outside
) -> torch.Tensor:
    """Trilinear interpolation at any positions, a slab of them at a time (the cache holds it)."""
    padded = functional.pad(image[None], [1] * 6, mode=_PADDING[outside])[0]
    drawn = image.new_empty((len(image), *shape))
    thick = max(1, _SLAB_VOXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], thick):
        stop = min(start + thick, shape[0])
        cells = [_cells(matrix[n], (start, stop), shape, padded, n) for n in range(3)]
        for channel, into in zip(padded, drawn[:, start:stop], strict=True):
            into.copy_(_trilinear(channel, cells))
    return drawn


def _cells(
    row: NDArray[np.float64], slab: tuple[int, int], shape: Shape, padded: torch.Tensor, axis: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Along one axis of a padded image: the voxel below each position, and the way to the next."""
    ends = (slab, (0, shape[1]), (0, shape[2]))
    i, j, k = (
        torch.arange(low, high, dtype=padded.dtype, device=padded.device) for low, high in ends
    )
    a, b, c, d = (float(v) for v in row)
    plane = (a * i)[:, None] + (b * j + (d + 1.0))
    size = padded.shape[1 + axis]
    positions = (plane[:, :, None] + c * k).clamp_(0, size - 1)
    low = positions.floor().clamp_(max=size - 2)
    return low, positions.sub_(low)


def _trilinear(
    padded: torch.Tensor, cells: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> torch.Tensor:
    """Eight look-ups in a row of voxels: torch's grid_sample takes four times as long on a CPU."""
    (x, share_x), (y, share_y), (z, share_z) = cells
    _, j, k = padded.shape
    exact = x.dtype if padded.numel() < _WHOLE_IN_FLOAT32 else torch.float64
    first = x.to(exact).mul(j).add_(y).mul_(k).add_(z).to(torch.int64).reshape(-1)
    row = padded.reshape(-1)

    def corner(step: int) -> torch.Tensor:
        return row[step:].index_select(0, first).view(x.shape)

    def edge(step: int) -> torch.Tensor:
        return torch.lerp(corner(step), corner(step + 1), share_z)

    near = torch.lerp(edge(0), edge(k), share_y)
    far = torch.lerp(edge(j * k), edge(j * k + k), share_y)
    return torch.lerp(near, far, share_x)


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
