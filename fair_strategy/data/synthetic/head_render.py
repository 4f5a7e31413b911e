"""Signal and label of one synthetic head on any grid."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from fair_strategy.data.synthetic import head_scan
from fair_strategy.data.synthetic.fields import (
    Field,
    exponential,
    outward_normal,
    sample,
    smooth_noise,
)
from fair_strategy.data.synthetic.head_layers import Anatomy, draw_anatomy, paint_head
from fair_strategy.data.synthetic.head_parameters import HeadParameters
from fair_strategy.data.synthetic.head_scan import Affine, Shape
from fair_strategy.data.synthetic.head_template import BrainMaps, brain_maps, hull_distance
from fair_strategy.data.synthetic.head_tissues import brain_signal
from fair_strategy.data.synthetic.subject import ENVELOPE_MM
from fair_strategy.data.synthetic.template import load_template

_WARP, _SHADING = 14, 15
LATTICE_MM = 6.0
LATTICE_LOW_MM, LATTICE_HIGH_MM = (-120.0, -156.0, -234.0), (120.0, 144.0, 126.0)
FINE_MM, BROAD_MM = 12.0, 38.0
SHADING_LATTICE_MM = 16.0
COARSE_FROM_MM = 1.8
CHUNK = 1 << 16


class Renderer:
    """One person in one scan, ready to be rendered on any grid."""

    def __init__(self, parameters: HeadParameters) -> None:
        self.parameters = parameters
        person = parameters.person
        scale = person.size * np.array(parameters.stretch)
        self.pose = head_scan.rotation(person.rotation_deg) * scale
        self.shift = np.array(person.shift_mm)
        self.caudate_mm = self.pose @ load_template().centre_mm + self.shift
        self.field_mm = head_scan.field_limits(
            parameters.scan, middle_mm=self.shift, caudate_mm=self.caudate_mm, size=person.size
        )

    def render_slices(self, shape: Shape, affine: Affine) -> tuple[NDArray, NDArray]:
        """Signal and label; voxels that are thick along an axis are means over it."""
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        parts = np.maximum(np.rint(spacing / 1.4), 1).astype(int)
        step = np.eye(4)
        step[:3, :3] = np.diag(1 / parts)
        step[:3, 3] = (1 / parts - 1) / 2
        fine = np.array(shape) * parts
        signal, label = self.render((int(fine[0]), int(fine[1]), int(fine[2])), affine @ step)
        split = [n for pair in zip(shape, parts, strict=True) for n in pair]
        mean = signal.reshape(split).mean(axis=(1, 3, 5))
        share = label.reshape(split).mean(axis=(1, 3, 5), dtype=np.float32)
        return mean, (share > 0.5).astype(np.uint8)

    def render(self, shape: Shape, affine: Affine) -> tuple[NDArray, NDArray]:
        """Signal (float32, white matter about 1) and label (uint8) of any grid."""
        signal = np.empty(shape, np.float32)
        label = np.empty(shape, np.uint8)
        spacing = float(np.cbrt(abs(np.linalg.det(affine[:3, :3]))))
        painter = _Painter(self, spacing)
        slabs = max(1, CHUNK // (shape[1] * shape[2]))
        for start in range(0, shape[0], slabs):
            stop = min(start + slabs, shape[0])
            world = _positions((start, stop), shape, affine)
            there = signal[start:stop].shape
            part, mask = painter.paint(world)
            signal[start:stop], label[start:stop] = part.reshape(there), mask.reshape(there)
        return signal, label

    def in_field(self, shape: Shape, affine: Affine) -> NDArray[np.bool_]:
        """Which voxels of a grid the scan's field of view holds."""
        low, high = self.field_mm
        matrix = head_scan.rotation(self.parameters.scan.oblique_deg).T @ affine[:3, :3]
        start = head_scan.rotation(self.parameters.scan.oblique_deg).T @ affine[:3, 3]
        i, j, k = (np.arange(n, dtype=np.float32) for n in shape)
        seen = np.ones(shape, bool)
        for axis in range(3):
            a, b, c = matrix[axis].astype(np.float32)
            at = (a * i)[:, None, None] + (b * j)[:, None] + c * k + np.float32(start[axis])
            seen &= (at >= low[axis]) & (at <= high[axis])
        return seen


class _Painter:
    """Signal and label at positions in the world, for voxels of one size."""

    def __init__(self, maker: Renderer, voxel_mm: float) -> None:
        parameters = maker.parameters
        person = parameters.person
        self.parameters = parameters
        self.inverse = np.linalg.inv(maker.pose).astype(np.float32)
        self.shift = maker.shift.astype(np.float32)[:, None]
        self.edge_mm = max(voxel_mm, 0.9)
        self.maps = brain_maps(coarse=voxel_mm >= COARSE_FROM_MM)
        self.brain = _smoothed_brain(self.maps, parameters, voxel_mm)
        self.warp = _warp(parameters)
        self.effect = _effect(person.effect_mm)
        self.shading = _shading(parameters)
        self.anatomy: Anatomy = draw_anatomy(person.seed, person.index)

    def paint(self, world: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
        """Signal and label at positions (3, N)."""
        points = self.inverse @ (world - self.shift)
        points += self.warp.at(points)
        _move_near(self.effect, points)
        maps = self.maps
        index = (points - maps.origin_mm.astype(np.float32)[:, None]) / np.float32(maps.spacing_mm)
        brain = sample(maps.brain, index)
        signal = brain * sample(self.brain, index)
        if self.parameters.skull:
            outside = np.flatnonzero(brain < 0.998)
            around = self._around(points[:, outside])
            signal[outside] += (1 - brain[outside]) * around
        signal *= np.exp(
            np.float32(self.parameters.person.intensity.shading_sd) * self._gain(world)
        )
        neck = np.clip((-60 - points[2]) / 120, 0, 1) * np.float32(self.parameters.scan.dark_neck)
        return signal * (1 - neck), _label(points)

    def _around(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        if points.shape[1] == 0:
            return np.empty(0, np.float32)
        field = hull_distance()
        hull = _nearest(field, points)
        return paint_head(points, hull, self.anatomy, self.parameters.tissues, edge_mm=self.edge_mm)

    def _gain(self, world: NDArray[np.float32]) -> NDArray[np.float32]:
        return _nearest(self.shading, world)


def _label(points: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The left caudate at points (3, N) of the template's space."""
    template = load_template()
    label = np.zeros(points.shape[1], np.uint8)
    reach = np.array([20.0, 40.0, 30.0])[:, None]
    near = np.flatnonzero((np.abs(points - template.centre_mm[:, None]) < reach).all(axis=0))
    if near.size:
        index = points[:, near] - template.origin_mm.astype(np.float32)[:, None]
        label[near] = sample(template.caudate, index) > 0.5
    return label


def _move_near(field: Field, points: NDArray[np.float32]) -> None:
    """Add a field to the points in its lattice; elsewhere it is zero."""
    high = field.origin_mm + field.spacing_mm * (np.array(field.values.shape[1:]) - 1)
    near = np.ones(points.shape[1], bool)
    for axis in range(3):
        near &= (points[axis] > field.origin_mm[axis]) & (points[axis] < high[axis])
    chosen = np.flatnonzero(near)
    if chosen.size:
        points[:, chosen] += field.at(points[:, chosen])


def _nearest(field: Field, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """A field's first component; beyond the lattice its rim goes on."""
    last = np.array(field.values.shape[1:], np.float32)[:, None] - 1
    return sample(field.values[0], np.clip(field.index(points), 0, last))


def _positions(slab: tuple[int, int], shape: Shape, affine: Affine) -> NDArray[np.float32]:
    """World positions (3, N) of the voxels of a slab along the first axis."""
    axes = (np.arange(*slab), np.arange(shape[1]), np.arange(shape[2]))
    i, j, k = (axis.astype(np.float64) for axis in axes)
    world = np.empty((3, len(i), len(j), len(k)), np.float32)
    for row in range(3):
        a, b, c, d = affine[row]
        world[row] = (a * i)[:, None, None] + (b * j)[:, None] + (c * k + d)
    return world.reshape(3, -1)


def _smoothed_brain(
    maps: BrainMaps, parameters: HeadParameters, voxel_mm: float
) -> NDArray[np.float32]:
    """The brain's brightness; averaged over a voxel where that is larger than the maps'."""
    signal = brain_signal(maps, parameters.tissues, gamma=parameters.person.intensity.gamma)
    excess = (voxel_mm**2 - maps.spacing_mm**2) / 8
    if excess <= 0.5:
        return signal
    smoothed: NDArray[np.float32] = gaussian_filter(signal, np.sqrt(excess) / maps.spacing_mm)
    return smoothed


def _warp(parameters: HeadParameters) -> Field:
    """Displacement from the posed head to the template: the person's shape."""
    person = parameters.person
    return _drawn_warp(person.seed, person.index, person.deformation_sd_mm, parameters.broad_sd_mm)


@lru_cache(maxsize=2)
def _drawn_warp(seed: int, index: int, fine_sd_mm: float, broad_sd_mm: float) -> Field:
    rng = np.random.default_rng([seed, index, _WARP])
    low, high = np.array(LATTICE_LOW_MM), np.array(LATTICE_HIGH_MM)
    i, j, k = (int(n) for n in np.rint((high - low) / LATTICE_MM) + 1)
    velocity = np.stack(
        [
            np.float32(fine_sd_mm) * smooth_noise(rng, (i, j, k), width=FINE_MM / LATTICE_MM)
            + np.float32(broad_sd_mm) * smooth_noise(rng, (i, j, k), width=BROAD_MM / LATTICE_MM)
            for _ in range(3)
        ]
    )
    return exponential(Field(-velocity, low, LATTICE_MM), steps=4)


@lru_cache(maxsize=2)
def _effect(effect_mm: float) -> Field:
    """Displacement of the regional effect on the left caudate."""
    normal = _caudate_normal()
    velocity = -np.float32(effect_mm) * normal.values
    return exponential(Field(velocity, normal.origin_mm, normal.spacing_mm), steps=4)


@lru_cache(maxsize=1)
def _caudate_normal() -> Field:
    """The brain generator's field at every second point: smooth enough, an eighth of the work."""
    template = load_template()
    mask = template.caudate > 0.5
    full = outward_normal(mask, origin_mm=template.origin_mm, envelope_mm=ENVELOPE_MM)
    return Field(np.ascontiguousarray(full.values[:, ::2, ::2, ::2]), full.origin_mm, 2.0)


def _shading(parameters: HeadParameters) -> Field:
    """Smooth inhomogeneity of SD about 1 over the space around the scanner's centre."""
    person = parameters.person
    rng = np.random.default_rng([person.seed, person.index, _SHADING])
    values = smooth_noise(rng, (26, 26, 30), width=50.0 / SHADING_LATTICE_MM)
    origin = np.array([-200.0, -200.0, -280.0])
    return Field(values[None], origin, SHADING_LATTICE_MM)
