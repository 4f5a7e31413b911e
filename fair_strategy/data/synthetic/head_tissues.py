"""How bright each tissue is: T1-like, or at random (the idea of SynthSeg).

References:
    Billot et al. 2023, Medical Image Analysis 86, 102789.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fair_strategy.data.synthetic.head_template import TISSUES, BrainMaps
from fair_strategy.data.synthetic.intensity import TEMPLATE_LEVELS

CONTRASTS = ("t1", "random")
# Ranges on a T1 whose white matter is 1.
_T1 = {
    "air": (0.0, 0.02),
    "skin": (0.45, 0.8),
    "fat": (1.05, 1.6),
    "muscle": (0.42, 0.62),
    "tongue": (0.48, 0.72),
    "bone": (0.04, 0.14),
    "marrow": (0.5, 1.2),
    "cells": (0.0, 0.05),
    "mucosa": (0.5, 0.85),
    "gland": (0.6, 0.95),
    "vitreous": (0.12, 0.26),
    "cord": (0.75, 0.95),
    "disc": (0.3, 0.5),
    "tooth": (0.0, 0.06),
    "vessel": (0.1, 0.35),
    "dura": (0.3, 0.6),
    "csf": (0.16, 0.34),
    "grey": (0.64, 0.80),
    "white": (1.0, 1.0),
}
_FAT_SATURATED = {"fat": (0.25, 0.5), "marrow": (0.3, 0.5)}
# How uneven a tissue is, as a share of its brightness.
_TEXTURE = {"fat": 0.10, "muscle": 0.10, "tongue": 0.16, "marrow": 0.18, "gland": 0.10}
LEAST_CONTRAST = 0.12


@dataclass(frozen=True)
class Tissues:
    """Brightness of every tissue; white matter is about 1.

    Attributes:
        contrast: "t1" or "random".
        level: tissue -> brightness.
        detail: share of the T1's own fine detail in a brain of random contrast.
    """

    contrast: str
    level: Mapping[str, float]
    detail: float

    def texture(self, tissue: str) -> float:
        """SD of a tissue's unevenness, as a share of its brightness."""
        return _TEXTURE.get(tissue, 0.04)


def draw_tissues(rng: np.random.Generator, contrast: str) -> Tissues:
    """Brightness of one scan's tissues.

    Raises:
        ValueError: unknown contrast.
    """
    if contrast == "t1":
        return _draw_t1(rng)
    if contrast == "random":
        return _draw_random(rng)
    raise ValueError(f"contrast: expected one of {', '.join(CONTRASTS)}, got '{contrast}'")


def brain_signal(maps: BrainMaps, tissues: Tissues, *, gamma: float = 1.0) -> NDArray[np.float32]:
    """Brightness of the template's brain (I, J, K), on the grid of the maps."""
    level = tissues.level
    if tissues.contrast == "t1":
        levels = (0.0, level["csf"], level["grey"], 1.0, 1.12)
        signal = np.interp(maps.t1, (0.0, *TEMPLATE_LEVELS, 1.0), levels).astype(np.float32)
        return signal ** np.float32(gamma)
    signal = np.zeros(maps.t1.shape, np.float32)
    plain = np.zeros(maps.t1.shape, np.float32)
    for name, share in zip(TISSUES, maps.tissues, strict=True):
        signal += share * np.float32(level[name] / 255)
        plain += share * np.float32(_template_level(name) / 255)
    if tissues.detail:
        signal += np.float32(tissues.detail) * (maps.t1 - plain)
    return np.maximum(signal, 0)


def _template_level(name: str) -> float:
    csf, grey, white = TEMPLATE_LEVELS
    return {"csf": csf, "white": white, "thalamus": 0.78, "pallidum": 0.82, "stem": 0.8}.get(
        name, grey
    )


def _draw_t1(rng: np.random.Generator) -> Tissues:
    ranges = dict(_T1)
    if rng.random() < 0.15:
        ranges |= _FAT_SATURATED
    level = {name: _between(rng, *limits) for name, limits in ranges.items()}
    return Tissues("t1", level, 0.0)


def _draw_random(rng: np.random.Generator) -> Tissues:
    level = {name: _between(rng, 0.0, 1.2) for name in _T1}
    level |= {"air": _between(rng, 0.0, 0.08), "cells": _between(rng, 0.0, 0.08)}
    # The caudate borders on fluid and white matter: without contrast there is nothing to find.
    while min(abs(level["grey"] - level[other]) for other in ("white", "csf")) < LEAST_CONTRAST:
        level |= {name: _between(rng, 0.0, 1.2) for name in ("grey", "white", "csf")}
    for name in TISSUES[3:]:
        mix = {"thalamus": 0.4, "pallidum": 0.6, "stem": 0.7}.get(name, 0.0)
        own = level["grey"] + mix * (level["white"] - level["grey"])
        level[name] = max(0.0, round(own + 0.04 * float(np.clip(rng.standard_normal(), -2, 2)), 4))
    return Tissues("random", level, _between(rng, -0.4, 0.8))


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return round(float(rng.uniform(low, high)), 4)
