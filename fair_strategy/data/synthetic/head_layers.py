"""Everything in a head but the brain, painted at any points of the template's space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fair_strategy.data.synthetic import head_anatomy
from fair_strategy.data.synthetic.head_anatomy import Structure
from fair_strategy.data.synthetic.head_shapes import (
    Body,
    Points,
    occupancy,
    points_near,
    smooth_minimum,
    union_distance,
)
from fair_strategy.data.synthetic.head_template import TEXTURE_EDGE, texture
from fair_strategy.data.synthetic.head_tissues import Tissues

_ANATOMY = 11
# Tissues that may reach into the hull of the brain: skull base, brainstem's way out.
_INSIDE_HULL = ("bone", "csf", "cord")


@dataclass(frozen=True)
class Anatomy:
    """One person's head around the brain; lengths in mm of the template.

    Attributes:
        gap_mm: fluid between brain and skull.
        inner_mm, diploe_mm, outer_mm: layers of the skull.
        scalp_mm: scalp with skin; skin_mm: skin; fat_mm: fat below the skin of face and neck.
        outline, appendages: bodies of the surface.
        under, over: structures painted before and after the skull.
        artefact_mm: radius of the void around a metal filling; 0 for none.
        offset: where in the periodic texture this person lies.
    """

    gap_mm: float
    inner_mm: float
    diploe_mm: float
    outer_mm: float
    scalp_mm: float
    skin_mm: float
    fat_mm: float
    outline: tuple[Body, ...]
    appendages: tuple[Body, ...]
    under: tuple[Structure, ...]
    over: tuple[Structure, ...]
    artefact_mm: float
    artefact_at_mm: tuple[float, float, float]
    offset: tuple[float, float, float]


@lru_cache(maxsize=4)
def draw_anatomy(seed: int, index: int) -> Anatomy:
    """The head of subject `index` of the seed."""
    rng = np.random.default_rng([seed, index, _ANATOMY])
    x, y, z = (float(v) for v in rng.uniform(0, TEXTURE_EDGE, 3))
    side = float(rng.choice([-1, 1]))
    return Anatomy(
        gap_mm=rng.uniform(0.8, 3.5),
        inner_mm=rng.uniform(1.2, 2.2),
        diploe_mm=rng.uniform(1.5, 4.0),
        outer_mm=rng.uniform(1.2, 2.4),
        scalp_mm=rng.uniform(3.5, 8.0),
        skin_mm=rng.uniform(1.2, 2.0),
        fat_mm=rng.uniform(2.0, 7.0),
        outline=head_anatomy.draw_bodies(rng, head_anatomy.OUTLINE),
        appendages=head_anatomy.draw_bodies(rng, head_anatomy.APPENDAGES),
        under=head_anatomy.draw_structures(rng, head_anatomy.UNDER_SKULL),
        over=head_anatomy.draw_structures(rng, head_anatomy.OVER_SKULL + head_anatomy.SPINE),
        artefact_mm=rng.uniform(8, 20) if rng.random() < 0.2 else 0.0,
        artefact_at_mm=(side * 24, 62.0, -114.0),
        offset=(x, y, z),
    )


def paint_head(
    points: Points, hull: Points, anatomy: Anatomy, tissues: Tissues, *, edge_mm: float
) -> Points:
    """Brightness of everything but the brain.

    Args:
        points: (3, N) RAS mm in the template's space.
        hull: (N,) signed distance to the brain's hull.
        anatomy: the person.
        tissues: the scan's contrast.
        edge_mm: width over which a surface is spread: about a voxel.
    Returns:
        (N,), 0 and more; white matter is about 1.
    """
    signal = np.full(hull.shape, tissues.level["air"], np.float32)
    broad = _texture(points, anatomy, grain_mm=9.0)
    total = _skull_mm(points, anatomy, broad) + anatomy.scalp_mm * (1 + np.float32(0.2) * broad)
    surface = _surface(points, hull - total, anatomy)
    body = np.flatnonzero(surface < edge_mm)
    if body.size:
        canvas = _Canvas(points[:, body], surface[body], hull[body], anatomy, tissues, edge_mm)
        signal[body] = canvas.painted(broad[body])
    return signal


class _Canvas:
    """Points in a body, painted tissue upon tissue."""

    def __init__(
        self,
        points: Points,
        surface: Points,
        hull: Points,
        anatomy: Anatomy,
        tissues: Tissues,
        edge_mm: float,
    ) -> None:
        self.points, self.surface, self.hull = points, surface, hull
        self.anatomy, self.tissues, self.edge_mm = anatomy, tissues, edge_mm
        self.fine = _texture(points, anatomy, grain_mm=1.3)
        self.medium = _texture(points, anatomy, grain_mm=3.0)
        self.grain = (self.medium + self.fine) / np.float32(1.4)
        self.signal = np.full(surface.shape, tissues.level["air"], np.float32)

    def painted(self, broad: Points) -> Points:
        """Brightness of all points."""
        self._paint_soft(broad)
        for structure in self.anatomy.under:
            self._paint_structure(structure)
        self._paint_skull(broad)
        for structure in self.anatomy.over:
            self._paint_structure(structure)
        self._paint_artefact()
        return self.signal

    def _paint(
        self, tissue: str, share: Points, where: NDArray[np.intp] | slice = slice(None)
    ) -> None:
        # A voxel larger than the grain shows its mean.
        uneven = self.tissues.texture(tissue) * min(1.0, 2.0 / self.edge_mm)
        level = np.float32(self.tissues.level[tissue])
        grain = self.grain[where]
        target = level * np.maximum(1 + np.float32(uneven) * grain, 0)
        self.signal[where] += share * (target - self.signal[where])

    def _inside(self, distance: Points) -> Points:
        return occupancy(distance, edge_mm=self.edge_mm)

    def _paint_soft(self, broad: Points) -> None:
        """Skin, the fat below it, and muscle marbled with fat below that."""
        a = self.anatomy
        self._paint("skin", self._inside(self.surface))
        below = self.surface + np.float32(a.skin_mm)
        self._paint("fat", self._inside(below))
        deep = below + np.float32(a.fat_mm) * np.maximum(1 + np.float32(0.3) * broad, 0.3)
        marbling = np.clip(np.float32(0.62) + np.float32(0.45) * self.grain, 0.15, 1)
        self._paint("muscle", self._inside(deep) * marbling)

    def _paint_skull(self, broad: Points) -> None:
        a = self.anatomy
        gap = np.maximum(a.gap_mm * (1 - np.float32(0.4) * broad), 0.3).astype(np.float32)
        outside = _skull_mm(self.points, a, broad)
        self._paint("muscle", self._inside(self.hull - outside - 0.9))
        self._paint("bone", self._inside(self.hull - outside))
        self._paint("marrow", self._inside(self.hull - outside + np.float32(a.outer_mm)))
        self._paint("bone", self._inside(self.hull - gap - np.float32(a.inner_mm)))
        self._paint("dura", self._inside(self.hull - gap - np.float32(0.5)))
        self._paint("csf", self._inside(self.hull - gap + np.float32(0.4)))

    def _paint_structure(self, structure: Structure) -> None:
        near = points_near(self.points, *structure.extent_mm, margin_mm=self.edge_mm + 3)
        if not near.size:
            return
        distance = union_distance(structure.bodies, self.points[:, near])
        distance += np.float32(structure.ragged_mm) * self.medium[near]
        distance = np.maximum(distance, self.surface[near] + np.float32(self.anatomy.skin_mm))
        if structure.layers[0][0] not in _INSIDE_HULL:
            roof = np.float32(self.anatomy.gap_mm + 1.5)
            distance = np.maximum(distance, roof - self.hull[near])
        for tissue, depth in structure.layers:
            share = self._inside(distance + np.float32(depth))
            if tissue == "cells":
                share *= np.clip(np.float32(0.6) + np.float32(2) * self.fine[near], 0, 1)
            self._paint(tissue, share, near)

    def _paint_artefact(self) -> None:
        if self.anatomy.artefact_mm == 0:
            return
        centre = np.array(self.anatomy.artefact_at_mm, np.float32)[:, None]
        away = np.sqrt(((self.points - centre) ** 2).sum(axis=0)) + 2 * self.medium
        self.signal *= np.clip((away - self.anatomy.artefact_mm) / 4, 0, 1)


def _skull_mm(points: Points, anatomy: Anatomy, broad: Points) -> Points:
    """Distance from the brain's hull to the outer surface of the skull."""
    x, y, z = points
    side = np.clip((np.abs(x) - 52) / 12, 0, 1) * np.clip((20 - z) / 20, 0, 1)
    orbit = np.clip((y - 15) / 15, 0, 1) * np.clip((-16 - z) / 6, 0, 1)
    back = np.clip((-80 - y) / 15, 0, 1)
    shape = (1 - 0.4 * side) * (1 - 0.6 * orbit) * (1 + 0.35 * back) * (1 + 0.15 * broad)
    bone = anatomy.inner_mm + anatomy.outer_mm + anatomy.diploe_mm * shape
    gap = np.maximum(anatomy.gap_mm * (1 - 0.4 * broad), 0.3)
    return (gap + bone * np.maximum(1 - 0.25 * side - 0.4 * orbit, 0.3)).astype(np.float32)


def _surface(points: Points, scalp: Points, anatomy: Anatomy) -> Points:
    """Signed distance to the skin."""
    below = union_distance(anatomy.outline, points, blend_mm=16.0)
    beside = union_distance(anatomy.appendages, points, blend_mm=5.0)
    return smooth_minimum(smooth_minimum(scalp, below, 14.0), beside, 5.0)


def _texture(points: Points, anatomy: Anatomy, *, grain_mm: float) -> Points:
    """Smooth noise of SD about 1, fixed in the person; its grain is some 2 x grain_mm."""
    index = points / np.float32(grain_mm) + np.array(anatomy.offset, np.float32)[:, None]
    noise: NDArray[np.float32] = ndimage.map_coordinates(
        texture(), index, order=1, mode="grid-wrap", output=np.float32
    )
    return noise
