"""One round of training: split, train, publish."""

import json
import logging
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fair_strategy.data.grids import match_grid, spacing_mm
from fair_strategy.data.volumes import read_grid, read_image, read_mask
from fair_strategy.learning.checkpoint import load_model, write_atomically
from fair_strategy.learning.inference import predict
from fair_strategy.learning.objectives import ObjectiveSettings
from fair_strategy.learning.training import (
    TrainingCase,
    TrainingResult,
    TrainingSettings,
    recipe,
    train,
)
from fair_strategy.store import cases, plans, predictions, readings, scores
from fair_strategy.store.cases import CaseRecord, LabelRecord, Split
from fair_strategy.store.scores import ModelRecord
from fair_strategy.workflows.intake import IMPORTER
from fair_strategy.workflows.models import publish
from fair_strategy.workflows.pacs.keeping import scans_stay
from fair_strategy.workflows.performance import compare_labels, comparison
from fair_strategy.workflows.sources import image_path
from fair_strategy.workflows.study import Study, StudyError
from fair_strategy.workflows.tracking import tracked_run

log = logging.getLogger(__name__)

_KEPT_MODELS = 2

FOLDS = 3
"""Of the `cross_validated` estimator."""


def train_round(
    study: Study,
    *,
    steps: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    track: bool = True,
    start_from: Path | None = None,
) -> dict[str, Any]:
    """Train on the labelled cases outside of the frozen validation set, and publish the model.

    Weights start from the shipped model, not from the last round's: a round never builds on
    what an earlier round saw. Resumes where a killed round stopped. The statistics also go
    into a file beside the model, `<checksum>.json`.

    Args:
        steps: optimisation steps; None for the study's.
        progress: called with (step, steps).
        track: log the validation metrics to MLflow, in the state directory.
        start_from: another checkpoint to start from than the shipped one.
    Returns:
        The statistics of the published model.
    Raises:
        StudyError: if there is no label to train on.
    """
    with scans_stay(study):
        return _train_round(study, steps, progress, track=track, start_from=start_from)


def _train_round(
    study: Study,
    steps: int | None,
    progress: Callable[[int, int], None] | None,
    *,
    track: bool,
    start_from: Path | None,
) -> dict[str, Any]:
    training, validation = training_cases(study)
    # Taken now: a label that comes while this trains belongs to the next round.
    digests = sorted(label.digest for label in cases.labels(study.store, tag="final"))
    if not training:
        raise StudyError(
            "nothing to train on: there is no label yet outside of the frozen validation set; "
            "submit more, or start with --conf validation_per_group 0"
        )
    settings = training_settings(study, steps=steps)
    run = tracked_run(study.state_dir, "caudate", asdict(settings)) if track else nullcontext()
    with run as on_metrics:
        result = train(
            training,
            validation,
            settings=settings,
            start_from=start_from or _start(study),
            out_dir=study.state_dir / "models",
            progress=progress,
            on_metrics=on_metrics,
        )
    statistics = {
        **result.statistics,
        "training_cases": len(training),
        "label_digests": digests,
        "folds": _folds(study, training, settings),
    }
    _publish(study, result, statistics)
    return statistics


def _publish(study: Study, result: TrainingResult, statistics: dict[str, Any]) -> None:
    publish(study, result.path, result.checksum, origin="trained", statistics=statistics)
    # for the study's lead: no reply to a reader holds figures of subgroups
    write_atomically(result.path.with_suffix(".json"), json.dumps(statistics, indent=2).encode())
    # Labels that made this round due, or came during it, meet the model before while they can.
    compare_labels(study)
    _prune(study)


def adopt_model(study: Study, model: ModelRecord) -> None:
    """Publish a model that another study trained on the labels that this one has.

    Simulated studies share their first model; cross-validation, if the estimator asks for it, is
    this study's own.
    """
    training, _ = training_cases(study)
    folds = _folds(study, training, training_settings(study))
    statistics = {**model.statistics, "folds": folds}
    publish(study, model.path, model.checksum, origin="trained", statistics=statistics)


def training_settings(study: Study, *, steps: int | None = None) -> TrainingSettings:
    """How this study trains: as its shipped model asks for, with its own steps, seed, objective.

    Raises:
        ModelError: if the shipped model asks for what does not exist.
    """
    asked: dict[str, Any] = {}
    if study.shipped_model.exists():
        asked = recipe(load_model(study.shipped_model))
    return TrainingSettings(
        steps=steps or study.settings.train_steps,
        seed=study.settings.seed,
        device=study.device or "auto",
        objective=ObjectiveSettings(
            study.settings.objective,
            eta=study.settings.objective_eta,
            adjustment=study.settings.objective_adjustment,
        ),
        **asked,
    )


def _folds(study: Study, training: list[TrainingCase], settings: TrainingSettings) -> list[str]:
    if study.settings.estimator != "cross_validated":
        return []
    return cross_validate(study, training, settings)


def _start(study: Study) -> Path | None:
    return study.shipped_model if study.shipped_model.exists() else None


def cross_validate(
    study: Study, training: list[TrainingCase], settings: TrainingSettings
) -> list[str]:
    """Train without each fold of subjects in turn and compare on the fold; the folds' checksums.

    Honest where the labelled set's own Dice is not, at the price of `FOLDS` trainings.
    """
    subjects = sorted({case.subject_id for case in training})
    order = np.random.default_rng([study.settings.seed, len(subjects)]).permutation(len(subjects))
    fold_of = {subjects[i]: place % FOLDS for place, i in enumerate(order)}
    checksums = []
    for fold in range(min(FOLDS, len(subjects)) if len(subjects) > 1 else 0):
        kept = [case for case in training if fold_of[case.subject_id] != fold]
        result = train(
            kept,
            [],
            settings=settings,
            start_from=_start(study),
            out_dir=study.state_dir / "models" / f"fold-{fold}",
        )
        _compare_fold(study, result, {s for s, held_out in fold_of.items() if held_out == fold})
        checksums.append(result.checksum)
    return checksums


def training_cases(study: Study) -> tuple[list[TrainingCase], list[TrainingCase]]:
    """Labelled cases: for training, and of the validation set the half that selects."""
    subgroups = study.subgroups()
    halves: dict[Split | None, list[TrainingCase]] = {None: [], "select": [], "audit": []}
    for case in labelled_cases(study):
        halves[case.half].append(
            TrainingCase(
                image=image_path(study, case.record),
                label=case.label.path,
                subgroup=subgroups[case.record.case_id],
                subject_id=case.record.subject_id,
            )
        )
    return halves[None], halves["select"]


@dataclass(frozen=True)
class LabelledCase:
    """A scan with its final label; `half` of the frozen validation set, None outside of it."""

    record: CaseRecord
    label: LabelRecord
    half: Split | None


def labelled_cases(study: Study) -> list[LabelledCase]:
    """Scans that are there and whose final label can be used, by case id."""
    splits = cases.splits(study.store)
    records = {
        c.case_id: c
        for c in cases.cases(study.store)
        if c.present and not c.unreadable and not c.excluded
    }
    labels = sorted(cases.labels(study.store, tag="final"), key=lambda label: label.case_id)
    return [
        LabelledCase(record, label, splits.get(record.subject_id))
        for label in labels
        if (record := records.get(label.case_id)) is not None and _usable(study, record, label)
    ]


def _usable(study: Study, record: CaseRecord, label: LabelRecord) -> bool:
    """Whether the mask can be read and lies on its scan's grid; one that is not is left out."""
    try:
        mask = read_mask(label.path)
        shape, affine = read_grid(image_path(study, record))
        match_grid(mask.array, mask.affine, shape, affine)
    except (OSError, ValueError) as error:
        log.warning("%s: not trained on: %s", record.case_id, error)
        return False
    return True


def due(study: Study) -> bool:
    """Whether `train_every` new training labels have come since the current model."""
    every = study.settings.train_every
    if not every or scores.current_model(study.store) is None:
        return False
    return labels_since_model(study) >= every


def labels_since_model(study: Study) -> int:
    """Labels for training submitted since the current model was trained."""
    splits = cases.splits(study.store)
    subject = cases.subjects(study.store, excluded=False)
    model = scores.current_model(study.store)
    known = set(model.statistics.get("label_digests", [])) if model else set()
    return sum(
        label.client_id != IMPORTER
        and label.digest not in known
        and label.case_id in subject
        and subject[label.case_id] not in splits
        for label in cases.labels(study.store, tag="final")
    )


def _compare_fold(study: Study, result: TrainingResult, subjects: Collection[str]) -> None:
    model = load_model(result.path, study.device or "cpu")
    for label in cases.labels(study.store, tag="final"):
        record = cases.case(study.store, label.case_id)
        if record.subject_id not in subjects:
            continue
        prediction = predict(model, read_image(image_path(study, record)))
        predicted = prediction.whole_mask()
        compared = comparison(
            label, predicted, model=result.checksum, spacing=spacing_mm(prediction.affine)
        )
        scores.add_comparison(study.store, compared)


def _prune(study: Study) -> None:
    """Keep the predictions of the newest models and those that labels will still be compared with.

    That is: what a reader at work sees, what a label waits to meet, and what was seen by readers of
    a scan that has no final label yet.
    """
    newest = [m.checksum for m in scores.models(study.store)][-_KEPT_MODELS:]
    current = scores.current_model(study.store)  # of a clock that was set back it is not the newest
    newest += [current.checksum] if current else []
    awaited = {model for _, model, _ in scores.uncompared(study.store)}
    awaited |= readings.models_seen(study.store)
    leased = plans.models_in_use(study.store)
    predictions.prune(study.state_dir, keep={*newest, *awaited, *leased})
