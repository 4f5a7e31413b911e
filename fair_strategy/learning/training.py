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

from fair_strategy.data.volumes import Mask, Volume, match_grid, read_image, read_mask
from fair_strategy.learning.checkpoint import Model, ModelError, load_model, save_model
from fair_strategy.learning.inference import predict
from fair_strategy.learning.network import NetworkArguments, build_network
from fair_strategy.learning.objectives import make_objective
from fair_strategy.learning.optimisation import Progress, TrainingSettings, optimise
from fair_strategy.learning.samples import PreparedCase, Samples, fingerprint, prepare_case
from fair_strategy.learning.transforms import augmentation
from fair_strategy.metrics.fairness import by_group, worst_group
from fair_strategy.metrics.overlap import dice

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


@dataclass(frozen=True, slots=True, eq=False)
class TrainingCase:
    """A scan and its mask, as files or in memory.

    Attributes:
        image, label: in any grid; for validation the label must be in the image's own.
        subgroup: value of the sensitive feature; it is reported by, and the objectives
            `balanced` and `group_dro` train by it.
        subject_id: the person.
    """

    image: Path | Volume
    label: Path | Mask
    subgroup: str
    subject_id: str


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
    left by other cases or settings is ignored.

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
    """
    if not cases:
        raise ValueError("training needs at least one case, got none")
    model = load_model(start_from) if start_from else untrained_model(seed=settings.seed)
    model = model.to(_device(settings))
    prepared = [_prepare(case, model, settings) for case in cases]
    return train_prepared(
        prepared,
        validation,
        model=model,
        settings=settings,
        out_dir=out_dir,
        progress=progress,
        on_metrics=on_metrics,
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
) -> TrainingResult:
    """`train` for cases that went through the deterministic part already."""
    out_dir.mkdir(parents=True, exist_ok=True)
    state_file = out_dir / STATE_FILE
    model.network.requires_grad_(True)

    def after_step(state: Progress) -> None:
        if validation and (
            state.step % settings.evaluate_every == 0 or state.step == settings.steps
        ):
            _validate(model, validation, state, on_metrics)
        if progress:
            progress(state.step, settings.steps)

    objective = make_objective(
        settings.objective, [case.subgroup for case in prepared], seed=settings.seed
    )
    count = settings.steps * objective.rows_per_step(settings.batch_size)
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
        state_file=state_file,
        identity=fingerprint(
            prepared, settings, model.checksum, [c.subject_id for c in validation]
        ),
        after_step=after_step,
    )
    told = {**objective.summary(), "history": state.notes.get("objective", [])}
    result = _publish(model, state, settings, len(prepared), told, out_dir)
    state_file.unlink(missing_ok=True)
    return result


def evaluate(model: Model, cases: Sequence[TrainingCase]) -> list[float]:
    """Dice of each case, in its own grid, by the whole path of inference."""
    model.network.eval()
    return [_dice(model, case) for case in cases]


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


def _device(settings: TrainingSettings) -> str:
    if settings.device != "auto":
        return settings.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _load(case: TrainingCase) -> tuple[Volume, Mask]:
    image = read_image(case.image) if isinstance(case.image, Path) else case.image
    label = read_mask(case.label) if isinstance(case.label, Path) else case.label
    return image, label


def _prepare(case: TrainingCase, model: Model, settings: TrainingSettings) -> PreparedCase:
    image, label = _load(case)
    margin = round(settings.context_mm / model.spacing_mm)
    shape = [side + 2 * margin for side in model.window]
    return prepare_case(
        image, label, spacing_mm=model.spacing_mm, shape=shape, subgroup=case.subgroup
    )


def _dice(model: Model, case: TrainingCase) -> float:
    image, label = _load(case)
    reference = match_grid(label.array, label.affine, image.array.shape, image.affine)
    prediction = predict(model, image)
    mask = prediction.whole_mask()
    return dice(mask, reference > 0)


def _validate(
    model: Model,
    validation: Sequence[TrainingCase],
    state: Progress,
    on_metrics: Callable[[int, dict[str, float]], None] | None,
) -> None:
    scores, groups = evaluate(model, validation), [case.subgroup for case in validation]
    summary = by_group(scores, groups)
    metric = float(summary[worst_group(scores, groups)].mean)
    evaluation: dict[str, Any] = {
        "step": state.step,
        "best_metric": metric,
        "overall": float(np.mean(scores)),
        "by_group": {
            str(name): {"mean": float(g.mean), "n": int(g.n)} for name, g in summary.items()
        },
    }
    state.notes.setdefault("evaluations", []).append(evaluation)
    if metric >= state.notes.get("best", {}).get("best_metric", -1.0):
        state.notes["best"] = evaluation
        state.notes["weights"] = {
            k: v.detach().cpu().clone() for k, v in model.network.state_dict().items()
        }
    if on_metrics:
        loss = float(np.mean(state.losses[-100:]))
        on_metrics(
            state.step, {"worst_group_dice": metric, "dice": evaluation["overall"], "loss": loss}
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
