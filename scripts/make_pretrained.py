"""Makes the shipped model: brains -> localiser -> segmenter, then the localiser on heads too.

    python scripts/make_pretrained.py --work DIR --out apps/fair_caudate/model/pretrained.pt

First both networks learn synthetic brains alone; then the localiser goes on, at a lower rate, with
brains and heads (skull, scalp, neck; T1-like and random contrast; cropped fields of view) mixed.
With --segmenter-on-heads the segmenter does so too; 700 steps of that lost about 0.01 of Dice on
T1-like heads and on brains, so what ships goes without.
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
from head_pools import HEAD_POOLS, generate_heads
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

# The second stage starts from trained weights: a lower rate, fewer steps.
LOCALISER_HEADS = dataclasses.replace(
    LOCALISER_SETTINGS, steps=300, learning_rate=1e-3, seed=3, save_every=50
)
SEGMENTER_HEADS = dataclasses.replace(
    SEGMENTER_SETTINGS,
    steps=700,
    learning_rate=5e-4,
    seed=4,
    evaluate_every=175,
    save_every=50,
    workers=0,
)

# One overview in so many is shown a second time with the structure out of view.
LEFT_OUT_EVERY = 7
# (axis, distance from the structure's middle in mm, whether what lies beyond it is kept)
CUTS = ((0, 9.0, True), (2, -26.0, False), (1, -46.0, False), (2, 30.0, True))

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
    prepared = [prepared_overview(path, shape=(56, 64, 56)) for path in overviews]
    return optimised_localiser(model, prepared, LOCALISER_SETTINGS, target)


def retrain_localiser(folder: Path, start_from: Path, overviews: list[Path]) -> Path:
    """The localiser, further on brains and heads; `localiser-heads.pt` in the folder.

    Its window grows: a head fills more of an overview than a brain.
    """
    target = folder / "localiser-heads.pt"
    if target.exists():
        return target
    model = dataclasses.replace(load_model(start_from), window=(56, 64, 56))
    shape = (64, 72, 64)
    prepared = [prepared_overview(path, shape=shape) for path in overviews]
    prepared += [
        prepare_case(*without_structure(*load(path), turn), spacing_mm=OVERVIEW_MM, shape=shape)
        for turn, path in enumerate(overviews[::LEFT_OUT_EVERY])
    ]
    return optimised_localiser(model, prepared, LOCALISER_HEADS, target)


def prepared_overview(path: Path, *, shape: tuple[int, int, int]) -> PreparedCase:
    """A generated subject at 4 mm."""
    image, label = load(path)
    return prepare_case(image, grown(label), spacing_mm=OVERVIEW_MM, shape=shape)


def without_structure(image: Volume, label: Mask, turn: int) -> tuple[Volume, Mask]:
    """The part of a scan right of, below, behind or above the structure, by turns.

    So the localiser learns to trust nothing where there is nothing, the other side above all.
    """
    axis, distance_mm, beyond = CUTS[turn % len(CUTS)]
    middle = label.affine[:3, :3] @ np.argwhere(label.array).mean(0) + label.affine[:3, 3]
    edge = (middle[axis] + distance_mm - image.affine[axis, 3]) / image.affine[axis, axis]
    first, last = (round(edge), None) if beyond else (0, round(edge))
    kept = tuple(slice(first, last) if n == axis else slice(None) for n in range(3))
    array = np.pad(image.array[kept], 1)
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array([s.start or 0 for s in kept]) - np.diag(affine)[:3]
    return Volume(array, affine), Mask(np.zeros(array.shape, np.uint8), affine)


def optimised_localiser(
    model: Model, prepared: list[PreparedCase], settings: TrainingSettings, target: Path
) -> Path:
    """The localiser after training, as a model file."""
    model.network.requires_grad_(True)
    optimise(
        model.network,
        Samples(
            prepared,
            augmentation(model.window, shift_voxels=8, far_voxels=0),
            seed=settings.seed,
            count=settings.steps * settings.batch_size,
        ),
        settings=settings,
        state_file=target.with_suffix(".state"),
        identity=fingerprint(prepared, settings),
        after_step=report(target.stem, settings.steps),
    )
    save_model(model, target, half=False)
    return target


def train_segmenter(
    folder: Path, localiser: Path, boxes: list[Path], brains: list[Path], validation: list[Path]
) -> Path:
    """The U-Net, validated by the whole path of inference; a checkpoint in the folder.

    Every validation leaves a snapshot.
    """
    return optimised_segmenter(
        folder / "segmenter",
        with_localiser(untrained_model(seed=2), localiser),
        prepared_boxes(boxes, brains),
        validation,
        SEGMENTER_SETTINGS,
    )


def retrain_segmenter(
    folder: Path,
    start_from: Path,
    localiser: Path,
    prepared: list[PreparedCase],
    validation: list[Path],
) -> Path:
    """The U-Net, further on brains and heads, with the localiser that saw both."""
    return optimised_segmenter(
        folder / "segmenter-heads",
        with_localiser(load_model(start_from), localiser),
        prepared,
        validation,
        SEGMENTER_HEADS,
    )


def with_localiser(model: Model, localiser: Path) -> Model:
    """The model with the network of a localiser's file."""
    found = load_model(localiser)
    return dataclasses.replace(
        model,
        localiser=found.network,
        localiser_arguments=found.network_arguments,
        localiser_spacing_mm=found.spacing_mm,
    )


def prepared_boxes(boxes: list[Path], wide: list[Path]) -> list[PreparedCase]:
    """Regions around the structure; the few wide ones come up three times as often."""
    near = [prepared_within(path, margin=20) for path in boxes]
    return near + 3 * [prepared_within(path, margin=40) for path in wide]


def optimised_segmenter(
    out_dir: Path,
    model: Model,
    prepared: list[PreparedCase],
    validation: list[Path],
    settings: TrainingSettings,
) -> Path:
    """The best state by validation, as a checkpoint in a folder of its own."""
    if done := sorted(out_dir.glob("*.pt")):
        return done[0]
    snapshots = out_dir.with_name(out_dir.name + "-snapshots")
    snapshots.mkdir(parents=True, exist_ok=True)
    result = train_prepared(
        prepared,
        [validation_case(path) for path in validation],
        model=model,
        settings=settings,
        out_dir=out_dir,
        progress=ticker(),
        on_metrics=lambda step, metrics: snapshot(snapshots, model, step, metrics),
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
        label_affine = stored.get("label_affine", affine)
    return Volume(image.astype(np.float32), affine), Mask(label.astype(np.uint8), label_affine)


def grown(mask: Mask) -> Mask:
    """The mask and the voxels that touch it."""
    return Mask(binary_dilation(mask.array).astype(np.uint8), mask.affine)


def main() -> None:
    """Run every stage that has not been run yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--segmenter-on-heads", action="store_true")
    arguments = parser.parse_args()
    work = arguments.work
    subjects = {pool.name: generate(work / "subjects", pool) for pool in POOLS}
    subjects |= {
        pool.name: generate_heads(work / "subjects", pool, effect_range_mm=EFFECT_RANGE_MM)
        for pool in HEAD_POOLS
    }
    localiser, segmenter = train_on_brains(work, subjects)
    overviews = subjects["overviews"] + subjects["heads-overviews"]
    localiser = retrain_localiser(work, localiser, overviews)
    if arguments.segmenter_on_heads:
        trained = retrain_segmenter_on_heads(work, subjects, localiser, segmenter)
    else:
        trained = work / "pretrained.pt"
        trained.unlink(missing_ok=True)
        save_model(with_localiser(load_model(segmenter), localiser), trained)
    write_atomically(arguments.out, trained.read_bytes())
    arguments.out.chmod(0o644)


def train_on_brains(work: Path, subjects: dict[str, list[Path]]) -> tuple[Path, Path]:
    """The first stage: localiser and segmenter."""
    localiser = train_localiser(work, subjects["overviews"])
    boxes, brains, validation = (subjects[name] for name in ("boxes", "brains", "validation"))
    return localiser, train_segmenter(work, localiser, boxes, brains, validation)


def retrain_segmenter_on_heads(
    work: Path, subjects: dict[str, list[Path]], localiser: Path, segmenter: Path
) -> Path:
    """The segmenter's second stage, from the first one's weights."""
    prepared = prepared_boxes(
        subjects["boxes"] + subjects["heads-boxes"], subjects["brains"] + subjects["heads-wide"]
    )
    validation = subjects["validation"] + subjects["heads-validation"]
    return retrain_segmenter(work, segmenter, localiser, prepared, validation)


if __name__ == "__main__":
    main()
