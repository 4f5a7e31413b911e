"""Training cases, and how well a model segments those that are set aside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fair_strategy.data.volumes import Mask, Volume, match_grid, read_image, read_mask
from fair_strategy.learning.checkpoint import Model
from fair_strategy.learning.inference import predict
from fair_strategy.learning.optimisation import Progress
from fair_strategy.metrics.fairness import by_group, worst_group
from fair_strategy.metrics.overlap import dice


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


def load_case(case: TrainingCase) -> tuple[Volume, Mask]:
    """Scan and mask, each in its own grid."""
    image = read_image(case.image) if isinstance(case.image, Path) else case.image
    label = read_mask(case.label) if isinstance(case.label, Path) else case.label
    return image, label


def evaluate(model: Model, cases: Sequence[TrainingCase]) -> list[float]:
    """Dice of each case, in its own grid, by the whole path of inference."""
    model.network.eval()
    return [_dice(model, case) for case in cases]


def _dice(model: Model, case: TrainingCase) -> float:
    image, label = load_case(case)
    reference = match_grid(label.array, label.affine, image.array.shape, image.affine)
    prediction = predict(model, image)
    mask = prediction.whole_mask()
    return dice(mask, reference > 0)


def validate(
    model: Model,
    validation: Sequence[TrainingCase],
    state: Progress,
    on_metrics: Callable[[int, dict[str, float]], None] | None,
) -> None:
    """Note how the worst subgroup fares now, and the weights if it never fared better.

    Args:
        state: its notes get `evaluations`, and `best` and `weights` of the best so far.
        on_metrics: called with (step, name -> value).
    """
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
