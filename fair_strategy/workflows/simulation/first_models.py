"""Random weights of each round, and the first model that all arms of a seed share."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fair_strategy.learning.checkpoint import load_model, save_model, write_atomically
from fair_strategy.learning.network import NetworkArguments
from fair_strategy.learning.training import RECIPE, untrained_model
from fair_strategy.store import scores
from fair_strategy.store.scores import ModelRecord
from fair_strategy.workflows import desk
from fair_strategy.workflows.intake import prepare
from fair_strategy.workflows.rounds import train_round
from fair_strategy.workflows.simulation.cohorts import (
    POOL,
    KnownCohort,
    first_labelled,
    known_cohort,
)
from fair_strategy.workflows.simulation.plan import Run, short_digest
from fair_strategy.workflows.simulation.settings import BRAIN, TrainingBlock
from fair_strategy.workflows.study import Study, open_study

CLIENT = "annotator"


@dataclass(frozen=True)
class Workspace:
    """Where a simulation keeps what it needs while it runs.

    Attributes:
        out: results.
        device: "cpu" or "cuda".
        scratch: another place for the studies that are being played than `out / "work"`: they
            make many small writes, which a RAM disk spares. If it is lost, runs that were not
            finished begin anew.
    """

    out: Path
    device: str = "cpu"
    scratch: Path | None = None

    @property
    def work(self) -> Path:
        """Studies that are being played; may be deleted once all is done."""
        if self.scratch is None:
            return self.out / "work"
        return self.scratch / f"{self.out.name}-{short_digest(str(self.out))}"


def pool_of(workspace: Workspace, run: Run) -> KnownCohort:
    """The scans that a run annotates."""
    view = run.block.field_of_view
    return known_cohort(workspace.out, POOL, bias=run.bias, field_of_view=view)


def opened(workspace: Workspace, run: Run, state_dir: Path) -> Study:
    """A run's study in its first round.

    Submitted masks lie in its state directory, for many runs share the pool.
    """
    study = open_study(
        pool_of(workspace, run).folder,
        run.study_settings(),
        state_dir=state_dir,
        shipped_model=random_weights(workspace, run, run.first_round),
    )
    return replace(study, derivatives_root=state_dir / "masks", device=workspace.device)


def in_round(workspace: Workspace, run: Run, study: Study, number: int) -> Study:
    """The study with the random streams of a round, and the weights that its training starts from.

    From a training to the next: its plan, its scores and what is annotated by them are of one seed.
    """
    return replace(
        study,
        settings=run.study_settings(number),
        shipped_model=random_weights(workspace, run, number),
    )


def random_weights(workspace: Workspace, run: Run, number: int) -> Path:
    """The untrained checkpoint of a round, of the simulation's architecture; made once."""
    training = run.simulation.training
    whole = run.block.field_of_view == BRAIN and training.localiser is not None
    suffix = "-localised" if whole else ""
    seed = run.stream(number)
    name = f"seed{seed}{suffix}-{short_digest(training.model_dump(mode='json'))}.pt"
    path = workspace.work / "untrained" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_untrained(training, path, seed=seed, with_localiser=whole)
    return path


def save_untrained(
    training: TrainingBlock, path: Path, *, seed: int, with_localiser: bool = False
) -> None:
    """Write random weights that say how they want to be trained."""
    model = untrained_model(
        seed=seed,
        arguments=NetworkArguments(
            channels=training.channels,
            strides=training.strides,
            residual_units=training.residual_units,
            dropout=training.dropout,
        ),
        window=training.window,
        spacing_mm=training.spacing_mm,
    )
    model = replace(model, training={"recipe": {n: getattr(training, n) for n in RECIPE}})
    if with_localiser and training.localiser is not None:
        found = load_model(training.localiser)
        model = replace(
            model,
            localiser=found.localiser,
            localiser_arguments=found.localiser_arguments,
            localiser_spacing_mm=found.localiser_spacing_mm,
        )
    save_model(model, path)


def first_model(workspace: Workspace, run: Run) -> tuple[list[str], ModelRecord]:
    """The first labelled scans of a (bias, start, seed) and the model trained on them.

    Trained once, whoever comes first; a second process waits for it.
    """
    view = run.block.field_of_view
    made_of = run.simulation.model_dump(mode="json", include={"cohort", "training", "starts"})
    if run.simulation.streams != "by_run":
        made_of["streams"] = run.simulation.streams
    if (objective := run.study_settings().objective) != "erm":
        made_of["objective"] = objective
    name = f"{run.bias}_{run.start}_{view}_seed{run.seed}-{short_digest(made_of)}"
    folder = workspace.work / "first" / name
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "first.json"
    with only_one(folder / "lock"):
        if not kept.exists():
            _train_first(workspace, run, folder, kept)
    content: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    record = ModelRecord(**content["model"] | {"path": folder / content["model"]["path"]})
    return content["labelled"], record


def label_truly(study: Study, pool: KnownCohort, case_ids: list[str]) -> None:
    """Submit the true masks of scans."""
    for case_id in case_ids:
        desk.submit(study, case_id, pool.cases[case_id].truth, client_id=CLIENT)


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Wait until no other process is here; a killed one is not."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _train_first(workspace: Workspace, run: Run, folder: Path, kept: Path) -> None:
    # The settings of the arm that comes first must not matter: neither for what is labelled, nor
    # for the training.
    study = opened(workspace, run, folder)
    plain = {"validation_per_group": 0, "estimator": "labelled"}
    study = replace(study, settings=study.settings.model_copy(update=plain))
    pool = pool_of(workspace, run)
    labelled = first_labelled(pool, run.simulation.starts[run.start], seed=run.stream(0))
    prepare(study)
    label_truly(study, pool, labelled)
    train_round(study, track=False)
    record = scores.current_model(study.store)
    assert record is not None
    model = asdict(record) | {"path": str(record.path.relative_to(folder.resolve()))}
    study.store.close()
    write_atomically(kept, json.dumps({"labelled": labelled, "model": model}).encode())
