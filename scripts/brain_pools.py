"""Synthetic brains for training: overviews at 2 mm, boxes at 1 mm, whole brains for validation."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fair_strategy.data.synthetic import SubjectParameters, draw_parameters, generate_subject

EFFECT_RANGE_MM = (-2.2, 1.2)


@dataclass(frozen=True)
class BrainPool:
    """A number of subjects of one seed, seen in one way."""

    name: str
    seed: int
    subjects: int
    voxel_mm: float
    box_mm: tuple[float, float, float] | None = None
    scanners: bool = False


# Whole brains cost five times a box; a few are enough to show the segmenter what is elsewhere.
BRAIN_POOLS = (
    BrainPool("validation", 72001, 8, 1.0, scanners=True),
    BrainPool("overviews", 73001, 120, 2.0),
    BrainPool("boxes", 71001, 96, 1.0, (112.0, 128.0, 112.0)),
    BrainPool("brains", 74001, 8, 1.0),
)


def subject_parameters(pool: BrainPool, index: int) -> SubjectParameters:
    """A subject of no group: any effect between both groups' extremes.

    For training any contrast without noise: noise, blur and inhomogeneity are left to the
    augmentation, which draws them anew each time. For validation the generator's own scanners.
    """
    rng = np.random.default_rng([pool.seed, index, 99])
    drawn = draw_parameters(pool.seed, index, group="A", bias="none")
    contrast = dataclasses.replace(
        drawn.intensity,
        csf=float(rng.uniform(0.10, 0.50)),
        grey=float(rng.uniform(0.58, 0.85)),
        gamma=1.0,
        white_level=180.0,
        shading_sd=0.0,
        blur_mm=0.2,
        noise_sd=0.0,
    )
    effect = float(rng.uniform(*EFFECT_RANGE_MM))
    if pool.scanners:
        return dataclasses.replace(drawn, effect_mm=effect)
    return dataclasses.replace(drawn, effect_mm=effect, intensity=contrast)


def generate_brains(folder: Path, pool: BrainPool) -> list[Path]:
    """One .npz a subject: image uint8, label bool, affine."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{pool.name}-{index:04d}.npz" for index in range(pool.subjects)]
    for index, path in enumerate(paths):
        if path.exists():
            continue
        subject = generate_subject(
            subject_parameters(pool, index), voxel_mm=pool.voxel_mm, box_mm=pool.box_mm
        )
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            np.savez(
                file,
                image=subject.image.astype(np.uint8),
                label=subject.label.astype(bool),
                affine=subject.affine,
                effect_mm=subject.parameters.effect_mm,
            )
        part.replace(path)
        print(path.name, flush=True)
    return paths
