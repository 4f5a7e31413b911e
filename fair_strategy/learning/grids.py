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


def resample(
    image: torch.Tensor,
    affine: NDArray[np.float64],
    target: Grid,
    *,
    pool: bool = False,
    outside: Literal["zeros", "border"] = "zeros",
) -> torch.Tensor:
    """Trilinear resampling of channels onto another grid.

    Args:
        image: (C, I, J, K), floating point.
        affine: 4x4, its voxel -> RAS mm.
        target: the wanted grid.
        pool: average whole blocks of voxels first where the target's voxels are at least twice
            as large, so that nothing is skipped.
        outside: what stands where the image ends: 0, or its outermost voxel drawn out.
    Returns:
        (C, *target.shape), the dtype and device of image.
    """
    if pool:
        image, affine = _pool(image, affine, target)
    matrix = np.linalg.inv(affine) @ target.affine
    sampling = _sampling_grid(matrix, target.shape, tuple(image.shape[1:]), image)
    return functional.grid_sample(
        image[None], sampling[None], padding_mode=outside, align_corners=True
    )[0]


def _pool(
    image: torch.Tensor, affine: NDArray[np.float64], target: Grid
) -> tuple[torch.Tensor, NDArray[np.float64]]:
    wanted = min(spacing_mm(target.affine))
    factors = np.maximum(1, np.floor(wanted / np.array(spacing_mm(affine)) + 1e-3)).astype(int)
    factors = np.minimum(factors, image.shape[1:])
    if (factors == 1).all():
        return image, affine
    # ceil_mode keeps the far rim; it averages over the voxels that exist
    pooled = functional.avg_pool3d(
        image[None], factors.tolist(), ceil_mode=True, count_include_pad=False
    )[0]
    to_fine = np.diag([*factors.astype(np.float64), 1.0])
    to_fine[:3, 3] = (factors - 1) / 2
    return pooled, affine @ to_fine


def _sampling_grid(
    matrix: NDArray[np.float64], shape: Shape, source: tuple[int, ...], like: torch.Tensor
) -> torch.Tensor:
    """grid_sample's (I, J, K, 3) positions in [-1, 1], last array axis first."""
    axes = [torch.arange(n, dtype=like.dtype, device=like.device) for n in shape]
    i, j, k = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
    positions = []
    for axis in (2, 1, 0):
        a, b, c, d = (float(v) for v in matrix[axis])
        voxels = a * i + b * j + c * k + d
        positions.append(voxels * (2.0 / max(source[axis] - 1, 1)) - 1.0)
    return torch.stack(positions, dim=-1)


def box_around(
    points_mm: NDArray[np.float64], shape: Shape, affine: NDArray[np.float64]
) -> tuple[slice, slice, slice]:
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


def box_grid(box: tuple[slice, slice, slice], affine: NDArray[np.float64]) -> Grid:
    """The part of a grid inside a box, as a grid of its own."""
    moved = affine.copy()
    moved[:3, 3] = apply_affine(affine, np.array([[s.start for s in box]], dtype=np.float64))[0]
    i, j, k = (s.stop - s.start for s in box)
    return Grid((i, j, k), moved)
