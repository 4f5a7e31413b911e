"""Makes the shipped model: synthetic subjects -> localiser -> segmenter -> pretrained.pt.

    python scripts/make_pretrained.py --work DIR --out apps/fair_caudate/model/pretrained.pt

Every stage leaves its result in the work folder and is skipped when it is there, so an
interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation

from fair_strategy.data.synthetic import SubjectParameters, draw_parameters, generate_subject
from fair_strategy.data.volumes import Mask, Volume
from fair_strategy.learning.checkpoint import Model, load_model, save_model, write_atomically
from fair_strategy.learning.localisation import OVERVIEW_MM
from fair_strategy.learning.network import NetworkArguments
from fair_strategy.learning.optimisation import Progress, TrainingSettings, optimise
from fair_strategy.learning.samples import PreparedCase, Samples, fingerprint, prepare_case
from fair_strategy.learning.training import WINDOW, TrainingCase, train_prepared, untrained_model
from fair_strategy.learning.transforms import augmentation

LOCALISER = NetworkArguments(channels=(16, 32, 64, 64), strides=(2, 2, 2))
LOCALISER_SETTINGS = TrainingSettings(
    steps=500, batch_size=4, learning_rate=2e-3, seed=1, save_every=100
)
SEGMENTER_SETTINGS = TrainingSettings(
    steps=2400,
    batch_size=2,
    learning_rate=1e-3,
    seed=2,
    evaluate_every=200,
    save_every=100,
    workers=1,
    device="cpu",
)

EFFECT_RANGE_MM = (-2.2, 1.2)


@dataclass(frozen=True)
class Pool:
    """A number of subjects of one seed, seen in one way."""

    name: str
    seed: int
    subjects: int
    voxel_mm: float
    box_mm: tuple[float, float, float] | None = None
    scanners: bool = False


# Whole brains cost five times a box; a few are enough to show the segmenter what is elsewhere.
POOLS = (
    Pool("validation", 72001, 8, 1.0, scanners=True),
    Pool("overviews", 73001, 120, 2.0),
    Pool("boxes", 71001, 96, 1.0, (112.0, 128.0, 112.0)),
    Pool("brains", 74001, 8, 1.0),
)


def subject_parameters(pool: Pool, index: int) -> SubjectParameters:
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


def generate(folder: Path, pool: Pool) -> list[Path]:
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


def train_localiser(folder: Path, overviews: list[Path]) -> Path:
    """The low-resolution network, on whole brains at 4 mm; `localiser.pt` in the folder.

    Its target is the caudate grown by one voxel of 2 mm, so that a thin one does not vanish at
    4 mm. It is kept in a model file of its own, in the segmenter's place.
    """
    target = folder / "localiser.pt"
    if target.exists():
        return target
    model = dataclasses.replace(
        untrained_model(seed=1, arguments=LOCALISER, window=(48, 56, 48)),
        spacing_mm=OVERVIEW_MM,
    )
    prepared = [
        prepare_case(image, grown(label), spacing_mm=OVERVIEW_MM, shape=(56, 64, 56))
        for image, label in map(load, overviews)
    ]
    settings = LOCALISER_SETTINGS
    optimise(
        model.network,
        Samples(
            prepared,
            augmentation(model.window, shift_voxels=8, far_voxels=0),
            seed=settings.seed,
            count=settings.steps * settings.batch_size,
        ),
        settings=settings,
        state_file=folder / "localiser.state",
        identity=fingerprint(prepared, settings),
        after_step=report("localiser", settings.steps),
    )
    save_model(model, target, half=False)
    return target


def train_segmenter(
    folder: Path, localiser: Path, boxes: list[Path], brains: list[Path], validation: list[Path]
) -> Path:
    """The U-Net, validated by the whole path of inference; a checkpoint in the folder.

    Every validation leaves a snapshot.
    """
    found = load_model(localiser)
    model = dataclasses.replace(
        untrained_model(seed=2),
        localiser=found.network,
        localiser_arguments=found.network_arguments,
        localiser_spacing_mm=found.spacing_mm,
    )
    prepared = [prepared_within(path, margin=20) for path in boxes]
    prepared += 3 * [prepared_within(path, margin=40) for path in brains]
    result = train_prepared(
        prepared,
        [validation_case(path) for path in validation],
        model=model,
        settings=SEGMENTER_SETTINGS,
        out_dir=folder / "segmenter",
        progress=ticker(),
        on_metrics=lambda step, metrics: snapshot(folder, model, step, metrics),
    )
    print(result.checksum, result.statistics)
    return result.path


def prepared_within(path: Path, *, margin: int) -> PreparedCase:
    """A generated subject, `margin` voxels of 1 mm around the window."""
    return prepare_case(*load(path), spacing_mm=1.0, shape=[n + 2 * margin for n in WINDOW])


def validation_case(path: Path) -> TrainingCase:
    """A generated subject; its group is only whether the effect shrinks or spares."""
    with np.load(path) as stored:
        group = "shrunk" if stored["effect_mm"] < -0.5 else "spared"
    return TrainingCase(*load(path), subgroup=group, subject_id=path.stem)


def snapshot(folder: Path, model: Model, step: int, metrics: dict[str, float]) -> None:
    """What the segmenter is like after so many steps, as a file and as a line."""
    print(time.strftime("%X"), step, {k: round(v, 4) for k, v in metrics.items()}, flush=True)
    target = folder / f"snapshot-{step:05d}.pt"
    target.unlink(missing_ok=True)
    save_model(model, target)


def ticker() -> Callable[[int, int], None]:
    """Prints every 50th step."""

    def progress(step: int, steps: int) -> None:
        if step % 50 == 0:
            print(f"{time.strftime('%X')} segmenter {step}/{steps}", flush=True)

    return progress


def report(name: str, steps: int) -> Callable[[Progress], None]:
    """Prints the mean loss every 20 steps."""

    def after_step(progress: Progress) -> None:
        if progress.step % 20 == 0:
            loss = np.mean(progress.losses[-20:])
            print(f"{time.strftime('%X')} {name} {progress.step}/{steps} {loss:.3f}", flush=True)

    return after_step


def load(path: Path) -> tuple[Volume, Mask]:
    """A generated subject."""
    with np.load(path) as stored:
        image, label, affine = stored["image"], stored["label"], stored["affine"]
    return Volume(image.astype(np.float32), affine), Mask(label.astype(np.uint8), affine)


def grown(mask: Mask) -> Mask:
    """The mask and the voxels that touch it."""
    return Mask(binary_dilation(mask.array).astype(np.uint8), mask.affine)


def main() -> None:
    """Run every stage that has not been run yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    subjects = {pool.name: generate(arguments.work / "subjects", pool) for pool in POOLS}
    localiser = train_localiser(arguments.work, subjects["overviews"])
    trained = train_segmenter(
        arguments.work,
        localiser,
        subjects["boxes"],
        subjects["brains"],
        subjects["validation"],
    )
    write_atomically(arguments.out, trained.read_bytes())
    arguments.out.chmod(0o644)


if __name__ == "__main__":
    main()
