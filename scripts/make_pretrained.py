"""Makes the shipped model: localiser and segmenter, on brains first, then on everything.

    python scripts/make_pretrained.py --work DIR --out apps/fair_caudate/model/pretrained.pt

Everything is brains, heads (skull, scalp, neck) with the contrast of a T1, and heads of any
contrast, one in four of them without skull; fields of view may be cropped. Every stage leaves its
result in the work folder and is skipped when it is there, so an interrupted run goes on where it
stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from brain_pools import BRAIN_POOLS, EFFECT_RANGE_MM, generate_brains
from head_pools import HEAD_POOLS, generate_heads
from pretraining_cases import (
    overviews_with_cuts,
    prepared_boxes,
    prepared_overview,
    validation_case,
)

from fair_strategy.learning.checkpoint import Model, load_model, save_model, write_atomically
from fair_strategy.learning.localisation import OVERVIEW_MM
from fair_strategy.learning.network import NetworkArguments
from fair_strategy.learning.optimisation import Progress, TrainingSettings, optimise
from fair_strategy.learning.samples import PreparedCase, Samples, fingerprint
from fair_strategy.learning.training import train_prepared, untrained_model
from fair_strategy.learning.transforms import augmentation

Subjects = dict[str, list[Path]]

LOCALISER = NetworkArguments(channels=(16, 32, 64, 64), strides=(2, 2, 2))
LOCALISER_ON_BRAINS = TrainingSettings(
    steps=500, batch_size=4, learning_rate=2e-3, seed=1, save_every=100, device="cpu"
)
LOCALISER_ON_ALL = dataclasses.replace(LOCALISER_ON_BRAINS, steps=1500, seed=3, workers=1)
SEGMENTER_ON_BRAINS = TrainingSettings(
    steps=2400,
    batch_size=2,
    learning_rate=1e-3,
    seed=2,
    evaluate_every=200,
    save_every=100,
    workers=1,
    device="cpu",
)
SEGMENTER_ON_ALL = dataclasses.replace(SEGMENTER_ON_BRAINS, steps=5000, seed=4, evaluate_every=500)


def main() -> None:
    """Run every stage that has not been run yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    work = arguments.work
    subjects = generate(work / "subjects")
    localiser = localiser_on_all(work, localiser_on_brains(work, subjects), subjects)
    segmenter = segmenter_on_brains(work, localiser, subjects)
    trained = segmenter_on_all(work, localiser, segmenter, subjects)
    write_atomically(arguments.out, trained.read_bytes())
    arguments.out.chmod(0o644)


def generate(folder: Path) -> Subjects:
    """The files of every pool, made where they are not there yet."""
    subjects = {pool.name: generate_brains(folder, pool) for pool in BRAIN_POOLS}
    for pool in HEAD_POOLS:
        subjects[pool.name] = generate_heads(folder, pool, effect_range_mm=EFFECT_RANGE_MM)
    return subjects


def localiser_on_brains(work: Path, subjects: Subjects) -> Path:
    """The low-resolution network, on whole brains; in a model file of its own."""
    target = work / "localiser.pt"
    if target.exists():
        return target
    model = dataclasses.replace(
        untrained_model(seed=1, arguments=LOCALISER, window=(48, 56, 48)),
        spacing_mm=OVERVIEW_MM,
    )
    prepared = [prepared_overview(path, shape=(56, 64, 56)) for path in subjects["overviews"]]
    return optimised_localiser(model, prepared, LOCALISER_ON_BRAINS, target)


def localiser_on_all(work: Path, start_from: Path, subjects: Subjects) -> Path:
    """The localiser, further on brains and heads.

    Its window grows: a head fills more of an overview than a brain.
    """
    target = work / "localiser-all.pt"
    if target.exists():
        return target
    model = dataclasses.replace(load_model(start_from), window=(56, 64, 56))
    paths = [*subjects["overviews"], *subjects["heads-overviews"], *subjects["random-overviews"]]
    prepared = overviews_with_cuts(paths, shape=(64, 72, 64))
    return optimised_localiser(model, prepared, LOCALISER_ON_ALL, target)


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


def segmenter_on_brains(work: Path, localiser: Path, subjects: Subjects) -> Path:
    """The U-Net, validated by the whole path of inference; a checkpoint in the folder."""
    return optimised_segmenter(
        work / "segmenter",
        with_localiser(untrained_model(seed=2), localiser),
        lambda: prepared_boxes(subjects["boxes"], subjects["brains"]),
        subjects["validation"],
        SEGMENTER_ON_BRAINS,
    )


def segmenter_on_all(work: Path, localiser: Path, start_from: Path, subjects: Subjects) -> Path:
    """The U-Net, further on brains and heads."""

    def prepared() -> list[PreparedCase]:
        near = [*subjects["boxes"], *subjects["heads-boxes"], *subjects["random-boxes"]]
        wide = [*subjects["brains"], *subjects["heads-wide"], *subjects["random-wide"]]
        return prepared_boxes(near, wide)

    validation = [
        *subjects["validation"],
        *subjects["heads-validation"],
        *subjects["random-validation"],
    ]
    return optimised_segmenter(
        work / "segmenter-all",
        with_localiser(load_model(start_from), localiser),
        prepared,
        validation,
        SEGMENTER_ON_ALL,
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


def optimised_segmenter(
    out_dir: Path,
    model: Model,
    prepared: Callable[[], list[PreparedCase]],
    validation: list[Path],
    settings: TrainingSettings,
) -> Path:
    """The best state by validation, as a checkpoint in a folder of its own.

    Every validation leaves a snapshot.
    """
    if done := sorted(out_dir.glob("*.pt")):
        return done[0]
    snapshots = out_dir.with_name(out_dir.name + "-snapshots")
    snapshots.mkdir(parents=True, exist_ok=True)
    result = train_prepared(
        prepared(),
        [validation_case(path) for path in validation],
        model=model,
        settings=settings,
        out_dir=out_dir,
        progress=ticker(),
        on_metrics=lambda step, metrics: snapshot(snapshots, model, step, metrics),
    )
    print(result.checksum, result.statistics)
    return result.path


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


if __name__ == "__main__":
    main()
