"""Training of the segmenter: prepare, optimise, validate by subgroup, publish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fair_strategy.learning.checkpoint import Model, ModelError, load_model, save_model
from fair_strategy.learning.network import NetworkArguments, build_network
from fair_strategy.learning.objectives import make_objective
from fair_strategy.learning.optimisation import Progress, TrainingSettings, optimise
from fair_strategy.learning.replicas import ALONE, Replicas, together, training_devices
from fair_strategy.learning.samples import PreparedCase, Samples, fingerprint, prepare_case
from fair_strategy.learning.transforms import augmentation
from fair_strategy.learning.validation import TrainingCase, evaluate, load_case, validate

__all__ = [
    "TrainingCase",
    "TrainingResult",
    "TrainingSettings",
    "evaluate",
    "recipe",
    "train",
    "untrained_model",
]

STATE_FILE = "training.state"
LABELS = {"left_caudate": 1}
WINDOW = (56, 72, 56)
SPACING_MM = 1.0
RECIPE = (
    "batch_size",
    "learning_rate",
    "weight_decay",
    "context_mm",
    "augment",
    "shift_mm",
    "far_mm",
)
"""Training settings that a checkpoint may ask for, because they suit its architecture."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A published model.

    Attributes:
        path, checksum: the checkpoint.
        statistics: plain values: `steps`, `best_step`, `best_metric` (mean Dice of the worst
            subgroup on the validation cases, None without any), `overall` (mean Dice),
            `by_group` (name -> mean, n), `loss` (mean over the last tenth of the steps),
            `evaluations` (step, best_metric, overall, by_group each) and `objective` (name,
            cases trained on by subgroup, and `history`: rows of step, mean training loss by
            subgroup since the row before, and q by subgroup for `group_dro`).
    """

    path: Path
    checksum: str
    statistics: dict[str, Any]


def train(
    cases: Sequence[TrainingCase],
    validation: Sequence[TrainingCase],
    *,
    settings: TrainingSettings,
    start_from: Path | None,
    out_dir: Path,
    progress: Callable[[int, int], None] | None = None,
    on_metrics: Callable[[int, dict[str, float]], None] | None = None,
) -> TrainingResult:
    """Fine-tune the segmenter and publish the best state by worst-group validation Dice.

    The localiser is carried over. Without validation cases the last state is published. A
    killed call goes on where it stopped when it is repeated with the same arguments; a state
    left by other cases or settings is ignored. On several devices a process each trains on
    `batch_size` windows a step; this one is the first.

    Args:
        cases: at least one.
        validation: predicted in their own grids, by the whole path of inference.
        settings: see TrainingSettings.
        start_from: checkpoint to continue; None starts a new segmenter without localiser.
        out_dir: gets `<checksum>.pt`, and the state file meanwhile.
        progress: called with (step, steps) after each step.
        on_metrics: called with (step, name -> value) after each validation.
    Raises:
        ValueError: without cases.
        ModelError: if start_from is not a model.
        VolumeError: if a scan or a mask cannot be used.
        RuntimeError: if another device's process fails.
    """
    if not cases:
        raise ValueError("training needs at least one case, got none")
    model, prepared = _ready(cases, settings, start_from)  # refuses what all would stumble over
    devices = training_devices(settings.device)
    model = model.to(devices[0])

    def with_these(replicas: Replicas) -> TrainingResult:
        return train_prepared(
            prepared,
            validation,
            model=model,
            settings=settings,
            out_dir=out_dir,
            progress=progress,
            on_metrics=on_metrics,
            replicas=replicas,
        )

    if len(devices) == 1:
        return with_these(ALONE)
    out_dir.mkdir(parents=True, exist_ok=True)
    told = (tuple(cases), tuple(validation), settings, start_from, out_dir)
    with together(devices, _follow, *told) as replicas:
        return with_these(replicas)


def _ready(
    cases: Sequence[TrainingCase], settings: TrainingSettings, start_from: Path | None
) -> tuple[Model, list[PreparedCase]]:
    """The model to start from, on the CPU, and the cases for it."""
    model = load_model(start_from) if start_from else untrained_model(seed=settings.seed)
    return model, [_prepare(case, model, settings) for case in cases]


def _follow(
    replicas: Replicas,
    device: str,
    cases: Sequence[TrainingCase],
    validation: Sequence[TrainingCase],
    settings: TrainingSettings,
    start_from: Path | None,
    out_dir: Path,
) -> None:
    """What the processes of the further devices do: the same steps on other rows."""
    model, prepared = _ready(cases, settings, start_from)
    _optimised(
        prepared,
        validation,
        model=model.to(device),
        settings=settings,
        out_dir=out_dir,
        replicas=replicas,
        after_step=lambda state: None,
    )


def train_prepared(
    prepared: Sequence[PreparedCase],
    validation: Sequence[TrainingCase],
    *,
    model: Model,
    settings: TrainingSettings,
    out_dir: Path,
    progress: Callable[[int, int], None] | None = None,
    on_metrics: Callable[[int, dict[str, float]], None] | None = None,
    replicas: Replicas = ALONE,
) -> TrainingResult:
    """`train` for cases that went through the deterministic part already."""
    out_dir.mkdir(parents=True, exist_ok=True)

    def after_step(state: Progress) -> None:
        if validation and (
            state.step % settings.evaluate_every == 0 or state.step == settings.steps
        ):
            validate(model, validation, state, on_metrics)
        if progress:
            progress(state.step, settings.steps)

    state, told = _optimised(
        prepared,
        validation,
        model=model,
        settings=settings,
        out_dir=out_dir,
        replicas=replicas,
        after_step=after_step,
    )
    result = _publish(model, state, settings, len(prepared), told, out_dir)
    (out_dir / STATE_FILE).unlink(missing_ok=True)
    return result


def _optimised(
    prepared: Sequence[PreparedCase],
    validation: Sequence[TrainingCase],
    *,
    model: Model,
    settings: TrainingSettings,
    out_dir: Path,
    replicas: Replicas,
    after_step: Callable[[Progress], None],
) -> tuple[Progress, dict[str, Any]]:
    """The model's network trained in place; how it went, and what the objective tells."""
    model.network.requires_grad_(True)
    objective = make_objective(
        settings.objective,
        [case.subgroup for case in prepared],
        seed=settings.seed,
        replicas=replicas,
    )
    count = settings.steps * objective.rows_per_step(settings.batch_size) * replicas.count
    transforms = augmentation(
        model.window,
        shift_voxels=round(settings.shift_mm / model.spacing_mm),
        far_voxels=round(settings.far_mm / model.spacing_mm),
        strength=settings.augment,
    )
    state = optimise(
        model.network,
        Samples(prepared, transforms, seed=settings.seed, count=count, objective=objective),
        settings=settings,
        state_file=out_dir / STATE_FILE,
        identity=fingerprint(
            prepared, settings, model.checksum, [c.subject_id for c in validation]
        ),
        after_step=after_step,
    )
    return state, {**objective.summary(), "history": state.notes.get("objective", [])}


def untrained_model(
    *,
    seed: int,
    arguments: NetworkArguments | None = None,
    window: tuple[int, int, int] = WINDOW,
    spacing_mm: float = SPACING_MM,
) -> Model:
    """A model with random weights and no localiser."""
    arguments = arguments or NetworkArguments()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(arguments)
    return Model("", LABELS, spacing_mm, window, network, arguments)


def recipe(model: Model) -> dict[str, Any]:
    """The training settings that a checkpoint asks for, by name; none where it tells none.

    Raises:
        ModelError: for what is no setting of `RECIPE`, or no number.
    """
    asked = model.training.get("recipe", {})
    for name, value in asked.items():
        if name not in RECIPE or not isinstance(value, int | float):
            raise ModelError(
                f"model {model.checksum[:12]}: its recipe asks for {name} = {value!r}; "
                f"expected numbers for {', '.join(RECIPE)} only"
            )
    return dict(asked)


def _prepare(case: TrainingCase, model: Model, settings: TrainingSettings) -> PreparedCase:
    image, label = load_case(case)
    margin = round(settings.context_mm / model.spacing_mm)
    shape = [side + 2 * margin for side in model.window]
    return prepare_case(
        image, label, spacing_mm=model.spacing_mm, shape=shape, subgroup=case.subgroup
    )


def _publish(
    model: Model,
    state: Progress,
    settings: TrainingSettings,
    count: int,
    objective: dict[str, Any],
    out_dir: Path,
) -> TrainingResult:
    if "weights" in state.notes:
        model.network.load_state_dict(state.notes["weights"])
    best = state.notes.get("best", {"step": state.step, "best_metric": None})
    last = state.losses[-max(1, len(state.losses) // 10) :]
    statistics = {
        "steps": state.step,
        "best_step": best["step"],
        "best_metric": best["best_metric"],
        "overall": best.get("overall"),
        "by_group": best.get("by_group", {}),
        "loss": float(np.mean(last)) if last else nan,
        "evaluations": state.notes.get("evaluations", []),
        "objective": objective,
    }
    published = replace(
        model,
        training={
            "start_from": model.checksum,
            "cases": count,
            "best_step": best["step"],
            "settings": asdict(settings),
        },
    )
    frozen(published.network)
    checksum = save_model(published, out_dir)
    return TrainingResult(out_dir / f"{checksum}.pt", checksum, statistics)


def frozen(network: nn.Module) -> nn.Module:
    """The network, in evaluation mode, not to be trained further."""
    return network.eval().requires_grad_(False)
