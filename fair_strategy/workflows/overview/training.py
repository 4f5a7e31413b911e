"""The models of the study and how their training went."""

from collections.abc import Mapping
from typing import Any

from fair_strategy.metrics.suppression import suppressed
from fair_strategy.store import scores
from fair_strategy.store.scores import ModelRecord
from fair_strategy.workflows.overview.figures import TrainedModel, Training, TrainingProgress
from fair_strategy.workflows.overview.keeping import SHORT, moment
from fair_strategy.workflows.overview.performance import finite
from fair_strategy.workflows.study import Study


def training(study: Study, *, min_cell: int) -> Training:
    """All models, oldest first, with what their training reported."""
    current = scores.current_model(study.store)
    return Training(
        models=tuple(
            trained_model(
                number,
                model,
                current=current is not None and model.checksum == current.checksum,
                min_cell=min_cell,
            )
            for number, model in enumerate(scores.models(study.store), start=1)
        )
    )


def trained_model(number: int, model: ModelRecord, *, current: bool, min_cell: int) -> TrainedModel:
    """One model's statistics; what rests on a subgroup of less than `min_cell` cases is left out.

    The Dice of the select half is told if each of its subgroups is large enough, loss and q of a
    subgroup if it was trained on enough cases.
    """
    told = model.statistics
    objective = told.get("objective") or {}
    validated = _shown({g: s["n"] for g, s in told.get("by_group", {}).items()}, min_cell)
    open_dice = bool(validated) and all(validated.values())
    trained = _shown(objective.get("cases", {}), min_cell)
    hidden = [what for what, shown in (("Dice", validated), ("loss and q", trained))
              if not all(shown.values())]  # fmt: skip
    return TrainedModel(
        number=number,
        model=model.checksum[:SHORT],
        origin=model.origin,
        created_at=moment(model.created_at),
        current=current,
        training_cases=told.get("training_cases"),
        steps=told.get("steps"),
        best_step=told.get("best_step"),
        loss=_number(told.get("loss")),
        dice=_number(told.get("overall")) if open_dice else None,
        worst_group_dice=_number(told.get("best_metric")) if open_dice else None,
        objective=objective.get("name"),
        progress=tuple(_progress(row, trained) for row in objective.get("history", [])),
        note=f"{' and '.join(hidden)} suppressed: a subgroup has fewer than {min_cell} cases"
        if hidden
        else "",
    )


def _shown(numbers: Mapping[str, int], min_cell: int) -> dict[str, bool]:
    if not numbers:
        return {}
    hidden = suppressed(list(numbers.values()), minimum=min_cell)
    return {name: not hide for name, hide in zip(numbers, hidden.tolist(), strict=True)}


def _progress(row: Mapping[str, Any], shown: Mapping[str, bool]) -> TrainingProgress:
    q = row.get("q")
    return TrainingProgress(
        step=row["step"],
        loss={name: _number(value) for name, value in row["loss"].items() if shown.get(name)},
        q=None if q is None else {name: value for name, value in q.items() if shown.get(name)},
    )


def _number(value: float | None) -> float | None:
    return None if value is None else finite(value)
