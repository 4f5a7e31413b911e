"""How much of a training's time goes by waiting for data; and how soon its model is usable.

    python benchmarks/training_wait.py [--cohort sample-data/cohort] [--steps 300] [--out PAGE]

Trains a new segmenter, and the shipped one, on some subjects of a cohort by the study's own
settings, and validates on the others by the whole path of inference. Waiting is what the loop
spends between asking for the windows of a step and having them. Validation is apart. Beside them
the bare steps: as many on the windows of one step, which lie in memory. --out replaces the tables
in a page.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from servers import check_page, replace_measured, table

from fair_strategy.data import bids
from fair_strategy.data.cohort import load_cohort
from fair_strategy.learning import optimisation, validation
from fair_strategy.learning.checkpoint import load_model
from fair_strategy.learning.training import TrainingCase, TrainingSettings, recipe, train

SHIPPED = Path("apps/fair_caudate/model/pretrained.pt")
BARE = "the bare steps of a new one"
MASK = "derivatives/*/{subject}/anat/{subject}_*label-caudate*_mask.nii.gz"


@dataclass
class Clock:
    """Where the time of one training went: seconds by the clock, and CPU seconds of the process."""

    first_asked: float = 0.0
    """Seconds of training alone until the windows of the first step were asked for."""
    waiting: float = 0.0
    validating: float = 0.0
    cpu_validating: float = 0.0
    started: float = field(default_factory=time.perf_counter)
    cpu_started: float = field(default_factory=time.process_time)
    reached: list[tuple[int, float, float, float]] = field(default_factory=list)
    """Step, seconds and CPU seconds of training alone, mean Dice."""

    def training(self) -> float:
        """Seconds so far without validation."""
        return time.perf_counter() - self.started - self.validating

    def step(self) -> float:
        """Seconds a step, validation apart."""
        steps, seconds, *_ = self.reached[-1]
        return (seconds - self.first_asked) / steps

    def cpu_training(self) -> float:
        """CPU seconds so far without validation."""
        return time.process_time() - self.cpu_started - self.cpu_validating


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohort", type=Path, default=Path("sample-data/cohort"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--evaluate-every", type=int, default=50)
    parser.add_argument("--validation", type=int, default=6, help="subjects held out")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="page whose tables are replaced")
    given = parser.parse_args()
    check_page(given.out, "training")
    torch.set_num_threads(given.threads)
    cases = labelled(given.cohort)
    held_out, kept = cases[:: len(cases) // given.validation][: given.validation], []
    kept = [case for case in cases if case not in held_out]
    settings = TrainingSettings(
        steps=given.steps,
        evaluate_every=given.evaluate_every,
        **recipe(load_model(SHIPPED)),
    )
    runs = {
        name: run(kept, held_out, settings, start)
        for name, start in (("a new one", None), ("the shipped one", SHIPPED))
    }
    bare = replace(settings, evaluate_every=settings.steps)
    runs[BARE] = run(kept, held_out[:1], bare, None, hold_windows=True)
    text = report(runs, len(kept), len(held_out), given.threads)
    print(text)
    if given.out:
        replace_measured(given.out, text, "training")


def labelled(cohort: Path) -> list[TrainingCase]:
    """Every scan of the cohort with its mask."""
    groups = load_cohort(bids.participants_file(cohort))
    found = []
    for scan in bids.walk(cohort):
        mask = next(iter(sorted(cohort.glob(MASK.format(subject=scan.subject_id)))), None)
        if mask is not None:
            group = groups.subgroup(scan.subject_id)
            found.append(TrainingCase(scan.path, mask, group, scan.subject_id))
    return found


def run(
    kept: list[TrainingCase],
    held_out: list[TrainingCase],
    settings: TrainingSettings,
    start: Path | None,
    *,
    hold_windows: bool = False,
) -> Clock:
    """One training, timed; each step on the windows of the first, if they are to be held."""
    clock = Clock()
    steps, validate = optimisation._steps, validation.evaluate

    def waited_for(*args: Any, **named: Any) -> Iterator[Any]:
        clock.first_asked = clock.training()
        loaded = steps(*args, **named)
        if hold_windows:
            loaded = repeat(next(loaded), settings.steps)  # the one before ends with its thread
            clock.first_asked = clock.training()
        while True:
            asked = time.perf_counter()
            parts = next(loaded, None)
            clock.waiting += time.perf_counter() - asked
            if parts is None:
                return
            yield parts

    def validated(*args: Any) -> list[float]:
        seconds, cpu = clock.training(), clock.cpu_training()
        wall, used = time.perf_counter(), time.process_time()
        scores = validate(*args)
        step = settings.evaluate_every * (len(clock.reached) + 1)
        clock.reached.append((step, seconds, cpu, float(np.mean(scores))))
        clock.validating += time.perf_counter() - wall
        clock.cpu_validating += time.process_time() - used
        return scores

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(optimisation, "_steps", waited_for),
        mock.patch.object(validation, "evaluate", validated),
    ):
        train(kept, held_out, settings=settings, start_from=start, out_dir=Path(folder))
    return clock


def report(runs: dict[str, Clock], kept: int, held_out: int, threads: int) -> str:
    """Markdown: the fraction of waiting, and Dice against seconds."""
    waits = [
        [
            name,
            f"{c.reached[-1][1]:.1f}",
            f"{c.waiting:.2f}",
            f"{c.waiting / c.reached[-1][1]:.1%}",
            f"{c.step():.3f}",
            f"{c.step() / runs[BARE].step():.2f}",
        ]
        for name, c in runs.items()
    ]
    reached = [
        [name, str(step), f"{seconds:.0f}", f"{cpu:.0f}", f"{dice:.3f}"]
        for name, clock in runs.items()
        for step, seconds, cpu, dice in clock.reached
        if name != BARE
    ]
    return "\n\n".join(
        [
            f"{kept} scans to train on, {held_out} to validate on, {threads} threads of "
            f"{os.cpu_count()} cores; average load over five minutes {os.getloadavg()[1]:.1f}.",
            table(
                [
                    "training of",
                    "s, validation apart",
                    "waiting for data, s",
                    "fraction",
                    "s a step",
                    "x a bare step",
                ],
                waits,
            ),
            table(["training of", "step", "s", "CPU-s", "mean Dice, held out"], reached),
        ]
    )


if __name__ == "__main__":
    main()
