"""Signed distances of simple bodies, from which face and neck are put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]
Triple = tuple[float, float, float]
Corner = Triple | NDArray[np.float64]
FAR_MM = 60.0
_REACH_MM = 20.0


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid; `tilt_deg` turns it about the left-right axis (positive: front end up)."""

    centre_mm: Triple
    radii_mm: Triple
    tilt_deg: float = 0.0

    def distance(self, points: Points) -> Points:
        """Signed distance (mm, negative inside), exact to first order at the surface.

        Args:
            points: (3, N) RAS mm.
        """
        x, y, z = (p - np.float32(c) for p, c in zip(points, self.centre_mm, strict=True))
        if self.tilt_deg:
            c, s = (np.float32(f(np.deg2rad(self.tilt_deg))) for f in (np.cos, np.sin))
            y, z = c * y + s * z, c * z - s * y
        a, b, c = (np.float32(1 / radius) for radius in self.radii_mm)
        x, y, z = x * a, y * b, z * c
        level = np.sqrt(x * x + y * y + z * z)
        x, y, z = x * a, y * b, z * c
        slope = np.sqrt(x * x + y * y + z * z)
        distance: Points = level * (level - 1) / np.maximum(slope, np.float32(1e-6))
        return distance

    def moved(self, offset_mm: NDArray[np.float64], scale: float) -> Ellipsoid:
        """The same body elsewhere and larger."""
        x, y, z = (float(v) for v in np.add(self.centre_mm, offset_mm))
        a, b, c = (float(v) for v in np.multiply(self.radii_mm, scale))
        return replace(self, centre_mm=(x, y, z), radii_mm=(a, b, c))

    def mirrored(self) -> Ellipsoid:
        """The same body on the other side."""
        return replace(self, centre_mm=_mirror(self.centre_mm))

    def box(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest corner that certainly hold it."""
        centre = np.array(self.centre_mm)
        reach = max(self.radii_mm) if self.tilt_deg else np.array(self.radii_mm)
        return centre - reach, centre + reach


@dataclass(frozen=True)
class Rod:
    """A rod with round ends whose radius goes from one to the other.

    `flat` shrinks (below 1) its radius along R, A, S.
    """

    start_mm: Triple
    end_mm: Triple
    radius_mm: float
    end_radius_mm: float
    flat: Triple = (1.0, 1.0, 1.0)

    def distance(self, points: Points) -> Points:
        """Signed distance (mm, negative inside), an approximation where the rod is conical.

        Args:
            points: (3, N) RAS mm.
        """
        start, flat = np.array(self.start_mm), np.array(self.flat)
        axis = (np.array(self.end_mm) - start) / flat
        a, b, c = (axis / (axis @ axis)).astype(np.float32)
        x, y, z = (
            (p - np.float32(o)) / np.float32(f) for p, o, f in zip(points, start, flat, strict=True)
        )
        along = np.clip(a * x + b * y + c * z, 0, 1)
        x -= along * np.float32(axis[0])
        y -= along * np.float32(axis[1])
        z -= along * np.float32(axis[2])
        away = np.sqrt(x * x + y * y + z * z) - np.float32(self.radius_mm)
        away -= along * np.float32(self.end_radius_mm - self.radius_mm)
        distance: Points = away * np.float32(min(1.0, *self.flat))
        return distance

    def moved(self, offset_mm: NDArray[np.float64], scale: float) -> Rod:
        """The same rod elsewhere and thicker."""
        a, b, c = (float(v) for v in np.add(self.start_mm, offset_mm))
        x, y, z = (float(v) for v in np.add(self.end_mm, offset_mm))
        return replace(
            self,
            start_mm=(a, b, c),
            end_mm=(x, y, z),
            radius_mm=self.radius_mm * scale,
            end_radius_mm=self.end_radius_mm * scale,
        )

    def mirrored(self) -> Rod:
        """The same rod on the other side."""
        return replace(self, start_mm=_mirror(self.start_mm), end_mm=_mirror(self.end_mm))

    def box(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest corner that certainly hold it."""
        ends = np.array([self.start_mm, self.end_mm])
        reach = max(self.radius_mm, self.end_radius_mm) * np.maximum(self.flat, 1)
        return ends.min(axis=0) - reach, ends.max(axis=0) + reach


Body = Ellipsoid | Rod


def box_of(bodies: Sequence[Body]) -> tuple[Triple, Triple]:
    """Lowest and highest corner of a box that holds the bodies."""
    boxes = [body.box() for body in bodies]
    a, b, c = (float(v) for v in np.min([low for low, _ in boxes], axis=0))
    x, y, z = (float(v) for v in np.max([high for _, high in boxes], axis=0))
    return (a, b, c), (x, y, z)


def points_near(points: Points, low: Corner, high: Corner, *, margin_mm: float) -> NDArray[np.intp]:
    """Numbers of the points (3, N) that lie in a box or within a margin of it."""
    chosen = np.arange(points.shape[1])
    for axis in range(3):
        along = points[axis, chosen]
        inside = (along > low[axis] - margin_mm) & (along < high[axis] + margin_mm)
        chosen = chosen[inside]
        if not chosen.size:
            break
    return chosen


def union_distance(bodies: Sequence[Body], points: Points, *, blend_mm: float = 0.0) -> Points:
    """Signed distance to the union of bodies; FAR_MM where all are further than 20 mm.

    Args:
        bodies: at least one.
        points: (3, N) RAS mm.
        blend_mm: width over which two surfaces melt into each other, at most 20.
    """
    total = np.full(points.shape[1], FAR_MM, np.float32)
    for body in bodies:
        low, high = body.box()
        near = points_near(points, low, high, margin_mm=_REACH_MM)
        if near.size == total.size:
            total = smooth_minimum(total, body.distance(points), blend_mm)
        elif near.size:
            total[near] = smooth_minimum(total[near], body.distance(points[:, near]), blend_mm)
    return total


def smooth_minimum(a: Points, b: Points, blend_mm: float) -> Points:
    """Minimum of two signed distances, rounded off where they differ by less than blend_mm."""
    if blend_mm == 0:
        return np.minimum(a, b)
    near = np.maximum(np.float32(blend_mm) - np.abs(a - b), 0)
    return np.minimum(a, b) - near * near / np.float32(4 * blend_mm)


def occupancy(distance: Points, *, edge_mm: float) -> Points:
    """Share of a voxel that lies inside, from the signed distance of its centre: 0 to 1."""
    return np.clip(np.float32(0.5) - distance / np.float32(edge_mm), 0, 1)


def _mirror(position: Triple) -> Triple:
    return -position[0], position[1], position[2]
