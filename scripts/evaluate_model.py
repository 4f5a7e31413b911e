"""Measures a model on synthetic subjects it has not seen and on the MNI152 template.

Usage: python scripts/evaluate_model.py --model apps/fair_caudate/model/pretrained.pt \
--out docs/results/model.md
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from nilearn.datasets import load_mni152_template
from numpy.typing import NDArray

from fair_strategy.data.synthetic import draw_parameters, generate_subject
from fair_strategy.data.synthetic.template import load_template
from fair_strategy.data.volumes import Mask, Volume, spacing_mm
from fair_strategy.learning.checkpoint import Model, load_model
from fair_strategy.learning.grids import Grid, apply_affine, resample
from fair_strategy.learning.inference import predict
from fair_strategy.metrics.overlap import dice
from fair_strategy.metrics.surface import average_surface_distance_mm, hausdorff_95_mm

SEED = 90210


@dataclass(frozen=True)
class Seen:
    """What one prediction was like."""

    group: str
    dice: float
    surface_mm: float
    hausdorff_mm: float
    volume_ml: float
    reference_ml: float
    route: str
    trust: float
    seconds: float


def measure(model: Model, image: Volume, label: Mask, group: str = "") -> Seen:
    """One prediction in the scan's own grid against its mask."""
    started = time.perf_counter()
    prediction = predict(model, image)
    seconds = time.perf_counter() - started
    mask = prediction.whole_mask()
    reference, spacing = label.array > 0, spacing_mm(image.affine)
    voxel_ml = float(np.prod(spacing)) / 1000
    return Seen(
        group=group,
        dice=dice(mask, reference),
        surface_mm=average_surface_distance_mm(mask, reference, spacing),
        hausdorff_mm=hausdorff_95_mm(mask, reference, spacing),
        volume_ml=float(mask.sum()) * voxel_ml,
        reference_ml=float(reference.sum()) * voxel_ml,
        route=prediction.route,
        trust=prediction.trust,
        seconds=seconds,
    )


def cohort(
    count: int, *, bias: str, voxel_mm: float, field_of_view: str
) -> Iterator[tuple[Volume, Mask, str]]:
    """Subjects of the cohort generator as it stands, half of each group."""
    for index in range(count):
        group = "AB"[index % 2]
        subject = generate_subject(
            draw_parameters(SEED, index, group=group, bias=bias),
            voxel_mm=voxel_mm,
            field_of_view=field_of_view,
        )
        yield Volume(subject.image, subject.affine), Mask(subject.label, subject.affine), group


def template_in(grid: Grid, resolution: int) -> tuple[Volume, Mask]:
    """The MNI152 (nilearn) of a resolution and the atlas's left caudate, on another grid."""
    stored = load_mni152_template(resolution=resolution)
    image = torch.from_numpy(np.asarray(stored.dataobj, dtype=np.float32))[None]
    template = load_template()
    own = np.eye(4)
    own[:3, 3] = template.origin_mm
    caudate = resample(torch.from_numpy(template.caudate)[None], own, grid)
    array = resample(image, stored.affine, grid)[0].numpy()
    return Volume(array, grid.affine), Mask((caudate[0] >= 0.5).byte().numpy(), grid.affine)


def storage(kind: str, resolution: int) -> Grid:
    """A grid for the template: RAS, LAS, PIR, or turned by 15 and 10 degrees (oblique)."""
    stored = load_mni152_template(resolution=resolution)
    i, j, k = stored.shape
    affine = np.diag([resolution, resolution, resolution, 1.0]).astype(np.float64)
    affine[:3, 3] = apply_affine(stored.affine, np.array([[0.0, 0, 0], [i - 1, j - 1, k - 1]])).min(
        0
    )
    if kind == "LAS":
        affine[0, 3] += affine[0, 0] * (i - 1)
        affine[0, 0] *= -1
    elif kind == "PIR":
        affine[1, 3] += affine[1, 1] * (j - 1)
        affine[1, 1] *= -1
        affine[2, 3] += affine[2, 2] * (k - 1)
        affine[2, 2] *= -1
        return Grid((j, k, i), affine[:, [1, 2, 0, 3]])
    elif kind == "oblique":
        middle = affine[:3, :3] @ ((np.array([i, j, k]) - 1) / 2) + affine[:3, 3]
        affine[:3, :3] = turn(15, 0) @ turn(10, 2) @ affine[:3, :3]
        affine[:3, 3] = middle - affine[:3, :3] @ ((np.array([i, j, k]) - 1) / 2)
    return Grid((i, j, k), affine)


def turn(degrees: float, axis: int) -> NDArray[np.float64]:
    """3x3 rotation about one of the world's axes."""
    a, (u, v) = np.deg2rad(degrees), [n for n in range(3) if n != axis]
    matrix = np.eye(3)
    matrix[u, u] = matrix[v, v] = np.cos(a)
    matrix[u, v], matrix[v, u] = -np.sin(a), np.sin(a)
    return matrix


COHORTS = (
    ("unbiased, brain, 1 mm", "none", 1.0, "brain"),
    ("unbiased, brain, 1.5 mm", "none", 1.5, "brain"),
    ("unbiased, caudate box, 1 mm", "none", 1.0, "caudate"),
    ("strong bias, brain, 1.5 mm", "strong", 1.5, "brain"),
)
TEMPLATES = [(kind, r) for r in (1, 2) for kind in ("RAS", "LAS", "PIR", "oblique")]


def cohort_rows(model: Model, subjects: int) -> Iterator[str]:
    """Table rows over the cohorts, the biased one also by group."""
    for name, bias, voxel, view in COHORTS:
        seen = [
            measure(model, *case)
            for case in cohort(subjects, bias=bias, voxel_mm=voxel, field_of_view=view)
        ]
        yield summary(name, seen)
        if bias != "none":
            for group in "AB":
                yield summary(f"– group {group}", [s for s in seen if s.group == group])


def summary(name: str, seen: list[Seen]) -> str:
    """One row: mean, lowest Dice, surface distances, volumes, routes, seconds."""
    scores = [s.dice for s in seen]
    routes = ", ".join(
        f"{sum(s.route == r for s in seen)} {r}" for r in sorted({s.route for s in seen})
    )
    cells = [
        name,
        str(len(seen)),
        f"{np.mean(scores):.3f}",
        f"{min(scores):.3f}",
        f"{np.mean([s.surface_mm for s in seen]):.2f}",
        f"{np.mean([s.hausdorff_mm for s in seen]):.2f}",
        " / ".join(
            f"{np.mean([getattr(s, n) for s in seen]):.2f}" for n in ("volume_ml", "reference_ml")
        ),
        f"{routes}; trust ≥ {min(s.trust for s in seen):.2f}",
        f"{np.median([s.seconds for s in seen]):.2f}",
    ]
    line = f"| {' | '.join(cells)} |"
    print(line, flush=True)
    return line


def page(model: Model, rows: list[str], subjects: int) -> str:
    """The results page."""
    return "\n".join(
        [
            "# The shipped model",
            "",
            f"Made by `scripts/evaluate_model.py --subjects {subjects}` for the model "
            f"`{model.checksum[:16]}…`. Synthetic subjects have seed {SEED}, which no training "
            "or validation subject has. Each prediction takes the whole path (orientation, "
            "localiser, window, back to the scan's own grid). The template rows compare with "
            "the refined atlas region that the synthetic subjects are warped from; for them n "
            "is 1. Seconds: one core, other work beside it.",
            "",
            "| data | n | Dice, mean | lowest | surface distance, mm | HD95, mm "
            "| volume, ml: predicted / true | route | s |",
            "|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--subjects", type=int, default=12)
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    rows = [
        summary(
            f"MNI152, {resolution} mm, {kind}",
            [measure(model, *template_in(storage(kind, resolution), resolution))],
        )
        for kind, resolution in TEMPLATES
    ]
    rows = [*cohort_rows(model, arguments.subjects), *rows]
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(page(model, rows, arguments.subjects))


if __name__ == "__main__":
    main()
