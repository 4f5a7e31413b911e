"""Trilinear interpolation: a few layers' sums along straight axes, look-ups along turned ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fair_strategy.data.grids import Shape

Box = tuple[slice, slice, slice]
Outside = Literal["zeros", "border"]

_PADDING: dict[Outside, str] = {"zeros": "constant", "border": "replicate"}
_SLAB_VOXELS = 100_000
_WHOLE_IN_FLOAT32 = 2**24
_SAME_VOXEL = 1e-4  # a position so near to a voxel is that voxel
_ASTRAY_VOXELS = 1e-3  # an axis that leaves another by less, over the whole grid, runs along it


def interpolate(
    image: torch.Tensor, matrix: NDArray[np.float64], shape: Shape, outside: Outside
) -> torch.Tensor:
    """The image at the voxels of another grid.

    Args:
        image: (C, I, J, K), floating point.
        matrix: 4x4, from voxels of the other grid to voxels of the image.
        shape: of the other grid.
        outside: what stands where the image ends: 0, or its outermost voxel drawn out.
    Returns:
        (C, *shape), contiguous, the dtype and device of image.
    """
    axes = _aligned_axes(matrix, shape)
    if axes is None:
        return _resample_turned(image, matrix, shape, outside)
    drawn = image.permute(0, *(1 + axis for axis in axes))
    backward = [n for n, axis in enumerate(axes, start=1) if matrix[axis, n - 1] < 0]
    drawn = drawn.flip(backward) if backward else drawn  # all at once: each flip is a copy
    for n, (axis, count) in enumerate(zip(axes, shape, strict=True), start=1):
        step, start = matrix[axis, n - 1], matrix[axis, 3]
        if n in backward:
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
    # one more behind: a position in the last layer has a next one too
    padded = functional.pad(image[None], [1, 2] * 3, mode=_PADDING[outside])[0]
    drawn = image.new_zeros((len(image), *shape))
    thick = max(1, _SLAB_VOXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], thick):
        part = (slice(start, min(start + thick, shape[0])), slice(0, shape[1]), slice(0, shape[2]))
        if outside == "zeros":
            part = _reaching(part, matrix, tuple(image.shape[1:]))
        cells = [_cells(matrix[axis], part, padded, axis) for axis in range(3)]
        for channel, into in zip(padded, drawn, strict=True):
            into[part] = _trilinear(channel, cells)
    return drawn


def _reaching(part: Box, matrix: NDArray[np.float64], source: tuple[int, ...]) -> Box:
    """A slab of positions without the columns and rows that lie beyond the source all along."""
    slab, columns, rows = part
    j = np.arange(columns.stop)
    low, high = np.zeros(len(j)), np.full(len(j), rows.stop - 1.0)
    for (a, b, c, d), size in zip(matrix[:3], source, strict=True):
        ends = (a * slab.start, a * (slab.stop - 1))
        # a position reaches the source if it is between -1 and size
        least, most = -1 - d - b * j - max(ends), size - d - b * j - min(ends)
        if c == 0:
            high = np.where((least < 0) & (most > 0), high, -1.0)
        else:
            low = np.maximum(low, np.minimum(least / c, most / c))
            high = np.minimum(high, np.maximum(least / c, most / c))
    used = np.flatnonzero(np.ceil(low) <= np.floor(high))
    if not len(used):
        return slab, slice(0, 0), slice(0, 0)
    k = slice(int(np.ceil(low[used].min())), int(np.floor(high[used].max())) + 1)
    return slab, slice(int(used[0]), int(used[-1]) + 1), k


def _cells(
    row: NDArray[np.float64], part: Box, padded: torch.Tensor, axis: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Along one axis of a padded image: the voxel below each position, and the way to the next."""
    i, j, k = (
        torch.arange(side.start, side.stop, dtype=padded.dtype, device=padded.device)
        for side in part
    )
    a, b, c, d = (float(v) for v in row)
    plane = (a * i)[:, None] + (b * j + (d + 1.0))
    positions = (plane[:, :, None] + c * k).clamp_(0, padded.shape[1 + axis] - 2)
    low = positions.floor()
    return low, positions.sub_(low)


def _trilinear(
    padded: torch.Tensor, cells: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> torch.Tensor:
    """Eight look-ups in a row of voxels: torch's grid_sample takes four times as long on a CPU."""
    (x, share_x), (y, share_y), (z, share_z) = cells
    _, j, k = padded.shape
    exact = x.dtype if padded.numel() < _WHOLE_IN_FLOAT32 else torch.float64
    first = x.to(exact).mul(j).add_(y).mul_(k).add_(z)
    index = first.to(torch.int64).reshape(-1)
    row = padded.reshape(-1)

    def corner(step: int) -> torch.Tensor:
        return row[step:].index_select(0, index).view(x.shape)

    def edge(step: int) -> torch.Tensor:
        return corner(step).lerp_(corner(step + 1), share_z)

    near = edge(0).lerp_(edge(k), share_y)
    far = edge(j * k).lerp_(edge(j * k + k), share_y)
    return near.lerp_(far, share_x)
