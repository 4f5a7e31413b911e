"""Smooth deformation fields: random velocity, exponential, regional effect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fair_strategy.data.synthetic.template import bounding_box


@dataclass(frozen=True)
class Field:
    """A displacement (mm) on a lattice in RAS; zero beyond the lattice.

    Attributes:
        values: (3, I, J, K) float32, mm.
        origin_mm: (3,) RAS position of lattice point (0, 0, 0).
        spacing_mm: distance between lattice points, the same on every axis.
    """

    values: NDArray[np.float32]
    origin_mm: NDArray[np.float64]
    spacing_mm: float

    def at(self, points_mm: NDArray[np.float32]) -> NDArray[np.float32]:
        """Displacement at points (3, ...), linear between lattice points."""
        return sample_many(self.values, self.index(points_mm))

    def around(self, points_mm: NDArray[np.float32], *, margin_mm: float) -> Field:
        """The part of the lattice that holds points (3, ...) and a margin."""
        index = self.index(points_mm).reshape(3, -1)
        margin = margin_mm / self.spacing_mm
        low = np.maximum(np.floor(index.min(axis=1) - margin), 0).astype(int)
        high = np.ceil(index.max(axis=1) + margin).astype(int) + 1
        part = tuple(slice(a, max(b, a + 1)) for a, b in zip(low, high, strict=True))
        origin = self.origin_mm + low * self.spacing_mm
        return Field(self.values[(slice(None), *part)], origin, self.spacing_mm)

    def index(self, points_mm: NDArray[np.float32]) -> NDArray[np.float32]:
        """Lattice coordinates of points (3, ...)."""
        origin = self.origin_mm.astype(np.float32).reshape(3, *[1] * (points_mm.ndim - 1))
        return (points_mm - origin) / np.float32(self.spacing_mm)


def sample(array: NDArray[np.float32], index: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear interpolation of array at voxel coordinates (3, ...); 0 outside."""
    return ndimage.map_coordinates(array, index, order=1, mode="constant", output=np.float32)


def sample_many(values: NDArray[np.float32], index: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear interpolation of every component of values (C, I, J, K); 0 outside."""
    return np.stack([sample(component, index) for component in values])


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], *, width: float
) -> NDArray[np.float32]:
    """White noise smoothed by a Gaussian of `width` lattice steps, scaled to mean 0 and SD 1."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, width, mode="wrap")
    return (noise - noise.mean()) / noise.std()


def exponential(velocity: Field, *, steps: int = 5) -> Field:
    """Displacement of exp(velocity), by scaling and squaring.

    Args:
        velocity: stationary velocity, mm per unit time.
        steps: squarings; the first step moves by velocity / 2**steps.
    Returns:
        The displacement after unit time; minus the velocity gives its inverse.
    References:
        Arsigny et al. 2006, MICCAI; docs/method.md#synthetic-cohorts.
    """
    shape = velocity.values.shape[1:]
    grid = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32) for n in shape], indexing="ij"))
    step = velocity.values / np.float32(2**steps)
    for _ in range(steps):
        moved = grid + step / np.float32(velocity.spacing_mm)
        step = step + np.stack(
            [ndimage.map_coordinates(part, moved, order=1, mode="nearest") for part in step]
        )
    return Field(step, velocity.origin_mm, velocity.spacing_mm)


def outward_normal(
    mask: NDArray[np.bool_], *, origin_mm: NDArray[np.float64], envelope_mm: float
) -> Field:
    """Unit velocity along a structure's outward normal, fading away from its surface.

    v(x) = n(x) exp(-d(x)^2 / (2 envelope^2)), d the signed distance to the surface (positive
    outside), n its smoothed gradient, so v vanishes by itself on the structure's medial axis.

    Args:
        mask: (I, J, K), 1 mm voxels; kept by its bounding box and three envelopes around it.
        origin_mm: RAS position of voxel (0, 0, 0).
        envelope_mm: standard deviation of the envelope.
    """
    reach = int(np.ceil(3 * envelope_mm))
    box = [
        (max(part.start - reach, 0), min(part.stop + reach, n))
        for part, n in zip(bounding_box(mask), mask.shape, strict=True)
    ]
    inside = mask[tuple(slice(*part) for part in box)]
    distance = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
    # The surface lies half a voxel from the centres on its two sides.
    distance -= 0.5 * np.sign(distance)
    normal = np.stack(np.gradient(ndimage.gaussian_filter(distance, 1.0)))
    values = normal * np.exp(-(distance**2) / (2 * envelope_mm**2))
    start = np.array([part[0] for part in box]) + origin_mm
    return Field(values.astype(np.float32), start, 1.0)
