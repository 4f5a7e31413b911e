"""How a head is scanned: field of view, voxels, storage order, inhomogeneity, slices, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.typing import NDArray
from scipy import ndimage

from fair_strategy.data.synthetic.head_shapes import Triple
from fair_strategy.data.synthetic.intensity import IntensityParameters

Affine = NDArray[np.float64]
Shape = tuple[int, int, int]
Limits = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
ORIENTATIONS = ("RAS", "LAS", "PIR", "LPS")
# What the field of view leaves around the caudate's middle, whatever else it cuts.
KEPT_MM = (30.0, 40.0, 34.0)


@dataclass(frozen=True)
class ScanParameters:
    """Geometry of one scan.

    Attributes:
        spacing_mm: voxel edges along the scan's right, anterior and superior axis.
        orientation: storage order, such as "LAS".
        oblique_deg: turn of the scan's axes against the world's, about R, A and S.
        field_mm: ends of the field of view along the scan's axes from the template's origin in
            the head, in mm of the template.
        dark_neck: drop of the signal below the coil, 0 (none) to 1.
    """

    spacing_mm: Triple
    orientation: str
    oblique_deg: Triple
    field_mm: Limits
    dark_neck: float


def draw_scan(rng: np.random.Generator) -> ScanParameters:
    """Geometry of one scan, independent of the person."""

    def between(low: float, high: float) -> float:
        return round(float(rng.uniform(low, high)), 3)

    def rarely(share: float, cut: tuple[float, float], whole: tuple[float, float]) -> float:
        low, high = cut if rng.random() < share else whole
        return between(low, high)

    oblique = rng.random() < 0.35
    turn = tuple(between(-15, 15) if oblique else 0.0 for _ in range(3))
    return ScanParameters(
        spacing_mm=_draw_spacing(rng),
        orientation=str(rng.choice(ORIENTATIONS)),
        oblique_deg=(turn[0], turn[1], turn[2]),
        field_mm=(
            (rarely(0.2, (-84, -70), (-115, -96)), rarely(0.2, (70, 84), (96, 115))),
            (rarely(0.1, (-118, -95), (-145, -126)), rarely(0.25, (78, 108), (118, 135))),
            (rarely(0.25, (-85, -55), (-190, -85)), rarely(0.12, (45, 85), (102, 125))),
        ),
        dark_neck=between(0.0, 0.9),
    )


def _draw_spacing(rng: np.random.Generator) -> Triple:
    """Cubic voxels mostly, thick slices along one axis at times."""
    edge = round(float(rng.uniform(0.8, 1.25)), 2)
    spacing = [edge] * 3
    if rng.random() < 0.3:
        spacing[int(rng.choice(3, p=[0.25, 0.25, 0.5]))] = round(float(rng.uniform(1.5, 4.5)), 2)
    return spacing[0], spacing[1], spacing[2]


def rotation(degrees: Triple) -> NDArray[np.float64]:
    """(3, 3) rotation about R, then A, then S."""
    x, y, z = np.deg2rad(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def field_limits(
    scan: ScanParameters,
    *,
    middle_mm: NDArray[np.float64],
    caudate_mm: NDArray[np.float64],
    size: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest position of the field of view along the scan's axes.

    Args:
        scan: its field is about middle_mm.
        middle_mm: world position of the template's origin in the head.
        caudate_mm: world position of the caudate, which is never cut.
        size: of the head against the template.
    """
    turn = rotation(scan.oblique_deg)
    middle, caudate = turn.T @ middle_mm, turn.T @ caudate_mm
    ends = middle[:, None] + size * np.array(scan.field_mm)
    low = np.minimum(ends[:, 0], caudate - KEPT_MM)
    high = np.maximum(ends[:, 1], caudate + KEPT_MM)
    return low, high


def scan_grid(
    scan: ScanParameters,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> tuple[Shape, Affine]:
    """Grid that fills the field of view in the scan's spacing, axes right, anterior, superior."""
    spacing = np.array(scan.spacing_mm)
    shape = np.maximum(np.rint((high - low) / spacing), 1).astype(int)
    affine = np.eye(4)
    turn = rotation(scan.oblique_deg)
    affine[:3, :3] = turn * spacing
    affine[:3, 3] = turn @ ((low + high) / 2 - (shape - 1) / 2 * spacing)
    return (int(shape[0]), int(shape[1]), int(shape[2])), np.round(affine, 6)


def world_grid(
    low: NDArray[np.float64], high: NDArray[np.float64], *, voxel_mm: float
) -> tuple[Shape, Affine]:
    """Grid of cubic voxels along the world's axes, from low to high, with the same middle."""
    shape = np.maximum(np.rint((high - low) / voxel_mm), 1).astype(int)
    affine = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    affine[:3, 3] = np.round((low + high) / 2 - (shape - 1) / 2 * voxel_mm, 4)
    return (int(shape[0]), int(shape[1]), int(shape[2])), affine


def in_storage_order(array: NDArray, affine: Affine, orientation: str) -> tuple[NDArray, Affine]:
    """An array whose axes are nearest to RAS, in another storage order, with its affine."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(orientation))
    turned = np.ascontiguousarray(apply_orientation(array, turn))
    return turned, np.asarray(affine @ inv_ornt_aff(turn, array.shape))


def measured(
    signal: NDArray[np.float32],
    scanner: IntensityParameters,
    *,
    voxel_mm: NDArray[np.float64],
    slices_mm: Triple,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """What a scanner makes of a signal: blur, slices, Rician noise, whole numbers from 0.

    Args:
        signal: (I, J, K), white matter is 1.
        scanner: blur, noise and scale.
        voxel_mm: (3,) edges of the signal's voxels.
        slices_mm: edges of the voxels that are measured; where one is larger than the signal's,
            the signal is averaged over it and interpolated back.
        rng: draws the noise.
    """
    signal = ndimage.gaussian_filter(signal, scanner.blur_mm / voxel_mm)
    thick = [axis for axis in range(3) if slices_mm[axis] > 1.4 * voxel_mm[axis]]
    shape = signal.shape
    for axis in thick:
        signal = _to_slices(signal, axis, slices_mm[axis] / voxel_mm[axis])
    noise = rng.standard_normal((2, *signal.shape), dtype=np.float32)
    noise *= np.float32(scanner.noise_sd)
    signal = np.hypot(signal + noise[0], noise[1])
    for axis in thick:
        signal = _from_slices(signal, axis, slices_mm[axis] / voxel_mm[axis], shape[axis])
    return np.clip(np.rint(signal * scanner.white_level), 0, 32767).astype(np.float32)


def _to_slices(signal: NDArray[np.float32], axis: int, step: float) -> NDArray[np.float32]:
    """Means over slices that are `step` voxels thick."""
    profile = ndimage.gaussian_filter1d(signal, 0.35 * step, axis=axis)
    count = max(int(np.ceil(signal.shape[axis] / step)), 2)
    return _interpolate(profile, axis, np.arange(count) * step)


def _from_slices(
    slices: NDArray[np.float32], axis: int, step: float, count: int
) -> NDArray[np.float32]:
    return _interpolate(slices, axis, np.arange(count) / step)


def _interpolate(
    array: NDArray[np.float32], axis: int, at: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Linear interpolation along one axis; the ends go on."""
    last = array.shape[axis] - 1
    at = np.clip(at, 0, last)
    below = np.minimum(at.astype(int), max(last - 1, 0))
    shape = [1] * array.ndim
    shape[axis] = -1
    share = (at - below).astype(np.float32).reshape(shape)
    first = np.take(array, below, axis=axis)
    second = np.take(array, np.minimum(below + 1, last), axis=axis)
    mixed: NDArray[np.float32] = first + share * (second - first)
    return mixed
