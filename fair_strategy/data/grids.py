"""Voxel grids in space: checked affines, storage order to RAS and back, one grid onto another."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray

Affine = NDArray[np.float64]
Shape = tuple[int, int, int]

# NIfTI holds its transform twice, as a matrix and as a quaternion, both in float32. Where the two
# differ by rounding, ITK takes now the one, now the other, and corners move by up to 0.03 mm.
SAME_PLACE_MM = 0.05


class VolumeError(ValueError):
    """A volume cannot be used; the sentence names the file or the grid, and what is wrong."""


class NoRoom(VolumeError):
    """There may have been no memory for a volume: where others took it, it is worth another try."""


@dataclass(frozen=True, slots=True)
class Reorientation:
    """The way back from RAS to the storage order of a grid: axes permuted, then some flipped."""

    axes: Shape
    flipped: tuple[bool, bool, bool]

    def __call__(self, array: NDArray[Any]) -> NDArray[Any]:
        """`array` (3 axes in RAS order) in the grid's own order, C-contiguous, values untouched."""
        return _flip(array.transpose(self.axes), self.flipped)


def spacing_mm(affine: NDArray[np.floating]) -> tuple[float, float, float]:
    """Length of a voxel along each of its axes, in mm: the norms of the affine's columns."""
    x, y, z = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    return float(x), float(y), float(z)


def checked_affine(affine: NDArray[np.floating], *, name: str) -> Affine:
    """`affine` as (4, 4) float64, refused when it is no invertible voxel-to-mm transform.

    Args:
        affine: (4, 4), voxel indices to RAS mm.
        name: what the error names, such as a path.
    Raises:
        VolumeError: another shape, not finite, last row not (0, 0, 0, 1), or singular (the volume
            of a voxel is less than a thousandth of the product of its sides).
    """
    matrix = np.array(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or matrix[3].tolist() != [0, 0, 0, 1]:
        raise VolumeError(f"{name}: the affine must be 4 x 4 with last row 0 0 0 1, got {matrix}")
    sides = np.linalg.norm(matrix[:3, :3], axis=0)
    if not np.isfinite(matrix).all() or not sides.all():
        raise VolumeError(f"{name}: the affine is not usable (voxel sides {sides} mm)")
    if abs(np.linalg.det(matrix[:3, :3] / sides)) < 1e-3:
        raise VolumeError(f"{name}: the affine is singular: {matrix[:3, :3].tolist()}")
    return matrix


def check_extent(shape: Shape, affine: Affine, *, name: str) -> None:
    """Refuse a volume that fits no body: resampled it has no voxels, or fills the memory.

    Args:
        shape: (I, J, K).
        affine: (4, 4), voxel to RAS mm.
        name: what the error names, such as a path.
    Raises:
        VolumeError: an edge of a voxel under a micrometre, a box along right, anterior, superior
            of more than two cubic metres, or a corner more than a kilometre away.
    """
    ends = itertools.product(*((-0.5, n - 0.5) for n in shape))
    corners = np.array(list(ends)) @ affine[:3, :3].T + affine[:3, 3]
    box, edges = np.ptp(corners, axis=0), spacing_mm(affine)
    if min(edges) >= 1e-3 and box.prod() <= 2e9 and np.abs(corners).max() <= 1e6:
        return
    told = [" x ".join(f"{side:.3g}" for side in sides) for sides in (edges, box)]
    raise VolumeError(
        f"{name}: voxels of {told[0]} mm in a box of {told[1]} mm are no scan; repair the header"
    )


def to_ras(
    array: NDArray[Any], affine: NDArray[np.floating]
) -> tuple[NDArray[Any], Affine, Reorientation]:
    """The same volume with its voxel axes nearest to right, anterior, superior.

    Nothing is resampled: axes are permuted and flipped, so an oblique grid stays oblique.

    Args:
        array: (I, J, K).
        affine: (4, 4), voxel to RAS mm, of `array`.
    Returns:
        The array (C-contiguous), its affine, and the way back:
        `undo(array_ras)` is in the grid of the input.
    Raises:
        VolumeError: `array` has not three axes, or the affine is unusable.
    """
    if array.ndim != 3:
        raise VolumeError(f"a volume must have 3 axes, got shape {array.shape}")
    own = checked_affine(affine, name="volume")
    orientation = io_orientation(own)  # row: storage axis; columns: RAS axis, direction
    to_axis = [int(axis) for axis in orientation[:, 0]]
    x, y, z = (bool(direction < 0) for direction in orientation[:, 1])
    undo = Reorientation((to_axis[0], to_axis[1], to_axis[2]), (x, y, z))
    from_axis = np.argsort(to_axis)
    turned = _flip(array, undo.flipped).transpose(from_axis)
    steps = np.eye(4)
    for axis, flip in enumerate(undo.flipped):
        if flip:
            steps[axis, axis], steps[axis, 3] = -1.0, array.shape[axis] - 1.0
    order = [*from_axis, 3]
    return np.ascontiguousarray(turned), (own @ steps)[:, order], undo


def match_grid(
    mask: NDArray[Any],
    mask_affine: NDArray[np.floating],
    shape: tuple[int, ...],
    affine: NDArray[np.floating],
    *,
    tolerance_mm: float = SAME_PLACE_MM,
) -> NDArray[Any]:
    """`mask` on the grid (shape, affine), which must be its own but for the order of the axes.

    A mask that was drawn in a viewer comes back with axes flipped or permuted (NRRD, LPS); this
    undoes it, voxel by voxel, and refuses whatever would need resampling.

    Args:
        mask: (I, J, K) array on the grid `mask_affine`.
        mask_affine: (4, 4), voxel to RAS mm.
        shape: shape of the wanted grid.
        affine: (4, 4), voxel to RAS mm, of the wanted grid.
        tolerance_mm: how far corners of the two grids may lie apart.
    Raises:
        VolumeError: the grids differ; both shapes and spacings are in the sentence.
    """
    target = checked_affine(affine, name="image")
    source = checked_affine(mask_affine, name="mask")
    if mask.ndim == 3 and mask.shape == tuple(shape) and np.array_equal(source, target):
        return np.ascontiguousarray(mask)  # the usual case
    matrix = (np.linalg.inv(target) @ source)[:3, :3]
    axes = np.abs(matrix).argmax(axis=1)  # for each wanted axis the mask's axis
    if mask.ndim != 3 or sorted(axes) != [0, 1, 2]:
        raise _other_grid(mask.shape, source, shape, target, "the axes do not correspond")
    turned = mask.transpose(axes)
    if turned.shape != tuple(shape):
        raise _other_grid(mask.shape, source, shape, target, "the shapes differ")
    flipped = [bool(matrix[wanted, own] < 0) for wanted, own in enumerate(axes)]
    apart = _corner_distance_mm(source, target, shape, axes, flipped)
    if apart > tolerance_mm:
        reason = f"corners of the two lie up to {apart:.3g} mm apart"
        raise _other_grid(mask.shape, source, shape, target, reason)
    return _flip(turned, flipped)


def _flip(array: NDArray[Any], flipped: tuple[bool, ...] | list[bool]) -> NDArray[Any]:
    turned = np.flip(array, [axis for axis, flip in enumerate(flipped) if flip])
    return np.ascontiguousarray(turned)


def _corner_distance_mm(
    source: Affine, target: Affine, shape: tuple[int, ...], axes: NDArray[Any], flipped: list[bool]
) -> float:
    last = np.array(shape, dtype=np.float64) - 1
    corners = np.array(list(itertools.product((0, 1), repeat=3))) * last
    own = np.empty_like(corners)
    own[:, axes] = np.where(flipped, last - corners, corners)
    there = corners @ target[:3, :3].T + target[:3, 3]
    here = own @ source[:3, :3].T + source[:3, 3]
    return float(np.linalg.norm(there - here, axis=1).max())


def _other_grid(
    mask_shape: tuple[int, ...],
    source: Affine,
    shape: tuple[int, ...],
    target: Affine,
    reason: str,
) -> VolumeError:
    return VolumeError(
        f"the mask (shape {mask_shape}, spacing {_text(source)} mm) is not on the image's grid "
        f"(shape {tuple(shape)}, spacing {_text(target)} mm): {reason}; export it with the image "
        "as reference volume"
    )


def _text(affine: Affine) -> str:
    return " x ".join(f"{side:.4g}" for side in spacing_mm(affine))
