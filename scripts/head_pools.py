"""Synthetic heads for training: overviews at 4 mm, boxes at 1 mm, whole heads for validation."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fair_strategy.data.synthetic.head import Head, HeadParameters, draw_head, render_head

WHOLE_FIELD_MM = ((-115.0, 115.0), (-145.0, 135.0), (-190.0, 125.0))
# A coarse image needs a finer label: at 4 mm a thin caudate has hardly a voxel.
LABEL_MM, LABEL_BOX_MM = 2.0, (80.0, 96.0, 80.0)


@dataclass(frozen=True)
class HeadPool:
    """A number of heads of one seed, rendered in one way.

    Without a box the whole field of view is rendered, cropped as it was drawn; with one, a box
    around the caudate of an uncropped head.
    """

    name: str
    seed: int
    heads: int
    voxel_mm: float
    contrast: str = "t1"
    box_mm: tuple[float, float, float] | None = None


NEAR_MM, WIDE_MM = (100.0, 116.0, 100.0), (140.0, 156.0, 140.0)
HEAD_POOLS = (
    HeadPool("heads-validation", 85001, 5, 1.5),
    HeadPool("random-validation", 85101, 5, 1.5, "random"),
    HeadPool("heads-overviews", 86001, 160, 4.0),
    HeadPool("random-overviews", 86101, 360, 4.0, "random"),
    HeadPool("heads-boxes", 87001, 140, 1.0, box_mm=NEAR_MM),
    HeadPool("random-boxes", 87101, 280, 1.0, "random", NEAR_MM),
    HeadPool("heads-wide", 88001, 8, 1.0, box_mm=WIDE_MM),
    HeadPool("random-wide", 88101, 8, 1.0, "random", WIDE_MM),
)


def head_parameters(
    pool: HeadPool, index: int, *, effect_range_mm: tuple[float, float]
) -> HeadParameters:
    """A head of no group; one in four without skull."""
    rng = np.random.default_rng([pool.seed, index, 99])
    head = draw_head(pool.seed, index, contrast=pool.contrast)
    person = dataclasses.replace(head.person, effect_mm=float(rng.uniform(*effect_range_mm)))
    scan = head.scan
    if pool.box_mm is not None:  # inference draws a cropped field out; a black wall is not seen
        scan = dataclasses.replace(scan, field_mm=WHOLE_FIELD_MM)
    return dataclasses.replace(head, person=person, scan=scan, skull=index % 4 != 3)


def generate_heads(
    folder: Path, pool: HeadPool, *, effect_range_mm: tuple[float, float]
) -> list[Path]:
    """One .npz a head: image uint16, label bool, affines, effect; skipped when it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{pool.name}-{index:04d}.npz" for index in range(pool.heads)]
    for index, path in enumerate(paths):
        if path.exists():
            continue
        parameters = head_parameters(pool, index, effect_range_mm=effect_range_mm)
        head = render_head(parameters, voxel_mm=pool.voxel_mm, box_mm=pool.box_mm)
        label = head
        if pool.voxel_mm > LABEL_MM:
            label = render_head(parameters, voxel_mm=LABEL_MM, box_mm=LABEL_BOX_MM)
        _write(path, head, label)
        print(path.name, flush=True)
    return paths


def _write(path: Path, head: Head, label: Head) -> None:
    # Beyond the field of view there is nothing; without a rim the last slice would go on.
    rim = 1
    affine = head.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, rim)
    part = path.with_suffix(f".{os.getpid()}.part")
    same = label is head
    with part.open("wb") as file:
        np.savez(
            file,
            image=np.pad(head.image, rim).astype(np.uint16),
            label=(np.pad(head.label, rim) if same else label.label).astype(bool),
            affine=affine,
            label_affine=affine if same else label.affine,
            effect_mm=head.parameters.person.effect_mm,
        )
    part.replace(path)
