"""One synthetic head: a person and a scan drawn from (seed, index), then image and mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from fair_strategy.data.synthetic import head_scan, intensity
from fair_strategy.data.synthetic.fields import (
    Field,
    exponential,
    outward_normal,
    sample,
    smooth_noise,
)
from fair_strategy.data.synthetic.head_layers import Anatomy, draw_anatomy, paint_head
from fair_strategy.data.synthetic.head_scan import Affine, ScanParameters, Shape
from fair_strategy.data.synthetic.head_shapes import Triple
from fair_strategy.data.synthetic.head_template import BrainMaps, brain_maps, hull_distance
from fair_strategy.data.synthetic.head_tissues import Tissues, brain_signal, draw_tissues
from fair_strategy.data.synthetic.subject import (
    ENVELOPE_MM,
    MAJORITY,
    SubjectParameters,
    draw_parameters,
)
from fair_strategy.data.synthetic.template import load_template

# Streams of one subject; the generator of brains has 0 to 3, the anatomy 11.
_HEAD, _TISSUES, _SCAN, _WARP, _SHADING, _NOISE = 10, 12, 13, 14, 15, 16
LATTICE_MM = 6.0
LATTICE_LOW_MM, LATTICE_HIGH_MM = (-120.0, -156.0, -234.0), (120.0, 144.0, 126.0)
FINE_MM, BROAD_MM = 12.0, 38.0
SHADING_LATTICE_MM = 16.0
COARSE_FROM_MM = 1.8
CHUNK = 1 << 16


@dataclass(frozen=True)
class HeadParameters:
    """Everything that makes a head; the same parameters give the same voxels.

    Attributes:
        person: group, effect on the caudate, size, pose, scanner; see SubjectParameters.
        stretch: factors along R, A, S on top of the person's size.
        broad_sd_mm: SD of each component of the smooth velocity over 38 mm.
        tissues: brightness of each tissue.
        scan: geometry of the scan.
        skull: False leaves the brain alone on a black ground.
    """

    person: SubjectParameters
    stretch: Triple
    broad_sd_mm: float
    tissues: Tissues
    scan: ScanParameters
    skull: bool = True


class Head(NamedTuple):
    """Image (float32, whole numbers from 0), left-caudate mask (uint8), affine, parameters."""

    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    affine: Affine
    parameters: HeadParameters


def draw_head(
    seed: int, index: int, *, contrast: str = "t1", group: str = MAJORITY, bias: str = "none"
) -> HeadParameters:
    """Parameters of head `index` of the seed.

    Only the tissues depend on contrast, only the effect on the caudate on group and bias.

    Raises:
        ValueError: unknown contrast, group or bias.
    """
    rng = np.random.default_rng([seed, index, _HEAD])
    person = draw_parameters(seed, index, group=group, bias=bias)
    tissues = draw_tissues(np.random.default_rng([seed, index, _TISSUES]), contrast)

    def triple(values: NDArray[np.float64]) -> Triple:
        x, y, z = (round(float(value), 4) for value in values)
        return x, y, z

    normal = np.clip(rng.standard_normal((3, 3)), -2.5, 2.5)
    scanner = intensity.IntensityParameters(
        csf=tissues.level["csf"],
        grey=tissues.level["grey"],
        gamma=round(float(rng.uniform(0.88, 1.14)), 4),
        white_level=round(float(np.exp(rng.uniform(np.log(80), np.log(1200)))), 2),
        shading_sd=round(float(rng.uniform(0.03, 0.22)), 4),
        blur_mm=round(float(rng.uniform(0.2, 0.8)), 4),
        noise_sd=round(float(rng.uniform(0.01, 0.06)), 4),
    )
    person = replace(
        person,
        size=round(person.size * float(rng.uniform(0.93, 1.07)), 4),
        rotation_deg=triple(normal[0] * (8.0, 5.0, 6.0)),
        shift_mm=triple(normal[1] * (8.0, 10.0, 12.0)),
        intensity=scanner,
    )
    return HeadParameters(
        person=person,
        stretch=triple(1 + 0.025 * normal[2]),
        broad_sd_mm=round(float(rng.uniform(2.0, 5.0)), 4),
        tissues=tissues,
        scan=head_scan.draw_scan(np.random.default_rng([seed, index, _SCAN])),
    )


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
    maker = _Maker(parameters)
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
    return Head(image * seen, label * seen, affine, parameters)


class _Maker:
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

    def __init__(self, maker: _Maker, voxel_mm: float) -> None:
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
