"""How well each subgroup is segmented today: labels compared with predictions, four estimators."""

import logging
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fair_strategy.acquisition.performance import GroupPerformance, group_performance
from fair_strategy.data.grids import spacing_mm
from fair_strategy.data.volumes import read_mask
from fair_strategy.metrics.overlap import dice
from fair_strategy.metrics.surface import average_surface_distance_mm
from fair_strategy.store import cases, plans, predictions, scores
from fair_strategy.store.labels import LabelRecord
from fair_strategy.store.predictions import full_mask
from fair_strategy.store.scores import ComparisonRecord, ModelRecord
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)

MIN_AUDITED = 2
"""With so many audit draws in each subgroup the prequential estimate uses these alone."""


def compare_labels(study: Study) -> int:
    """Compare labels with the predictions that their readers saw, and with the current model's.

    Each comparison is one commit: a kill loses none and repeats at most one.

    Returns:
        How many comparisons were made.
    """
    seen = [(*key, True) for key in scores.uncompared(study.store)]
    current = scores.current_model(study.store)
    unseen = (
        [(*key, False) for key in scores.uncompared_with(study.store, current.checksum)]
        if current
        else []
    )
    for case_id, model, _, was_seen in seen + unseen:
        _compare(study, case_id, model, seen=was_seen)
    return len(seen) + len(unseen)


def study_performance(study: Study) -> dict[str, GroupPerformance]:
    """Mean Dice of each known subgroup by the study's estimator, with n and interval.

    A subgroup without a comparison is there with n = 0 and NaN (docs/method.md).
    """
    subgroups = study.subgroups()
    chosen = estimator_comparisons(study, scores.current_model(study.store))
    rows = [c for c in chosen if c.case_id in subgroups and not np.isnan(c.dice)]
    return group_performance(
        [c.dice for c in rows],
        [subgroups[c.case_id] for c in rows],
        known_groups=sorted(set(subgroups.values())),
    )


def estimator_comparisons(study: Study, model: ModelRecord | None) -> list[ComparisonRecord]:
    """The comparisons of one model that the study's estimator looks at; none without a model."""
    return [] if model is None else _ESTIMATORS[study.settings.estimator](study, model)


def newest_comparisons(study: Study, model: str) -> dict[str, ComparisonRecord]:
    """case_id -> the last comparison of a model with the case's label as it is today."""
    return {c.case_id: c for c in scores.comparisons(study.store, model=model)}


def comparison(
    label: LabelRecord,
    predicted: NDArray[np.bool_] | None,
    *,
    model: str,
    spacing: Sequence[float],
    seen: bool = False,
) -> ComparisonRecord:
    """Dice and surface distance of a final label against one model's mask of the same scan.

    Args:
        label: the submitted mask; its file is read.
        predicted: (I, J, K) on the scan's grid; None if the prediction is gone: NaN then, so
            that the pair is not looked for again.
        model: checksum.
        spacing: voxel edges, mm.
        seen: the reader started from this very prediction.
    """
    agreement, distance, unchanged = float("nan"), float("nan"), False
    if predicted is not None and label.path.exists():
        submitted = read_mask(label.path).array != 0
        agreement = dice(predicted, submitted)
        distance = average_surface_distance_mm(predicted, submitted, spacing)
        unchanged = seen and bool(np.array_equal(predicted, submitted))
    return ComparisonRecord(
        case_id=label.case_id,
        model=model,
        label_digest=label.digest,
        dice=agreement,
        surface_distance_mm=distance,
        seen=seen,
        unchanged=unchanged,
        selection_probability=None,
        created_at=time.time(),
    )


def _compare(study: Study, case_id: str, model: str, *, seen: bool) -> None:
    record, label = cases.case(study.store, case_id), cases.label(study.store, case_id, "final")
    if label is None:
        return
    stored = predictions.read_prediction(study.state_dir, model, case_id, record.fingerprint)
    predicted = None if stored is None else full_mask(stored) != 0
    spacing = (1.0, 1.0, 1.0) if stored is None else spacing_mm(stored.affine)
    try:
        compared = comparison(label, predicted, model=model, spacing=spacing, seen=seen)
    except (OSError, ValueError) as error:
        # One damaged mask, or a scan replaced by another, must not stop the others.
        log.warning("%s: its label cannot be compared: %s", case_id, error)
        compared = comparison(label, None, model=model, spacing=spacing, seen=seen)
    scores.add_comparison(study.store, compared)


def _validation(study: Study, model: ModelRecord) -> list[ComparisonRecord]:
    splits = cases.splits(study.store)
    subject = cases.subjects(study.store)
    newest = newest_comparisons(study, model.checksum)
    return [c for c in newest.values() if splits.get(subject[c.case_id]) == "select"]


def _labelled(study: Study, model: ModelRecord) -> list[ComparisonRecord]:
    splits = cases.splits(study.store)
    subject = cases.subjects(study.store)
    newest = newest_comparisons(study, model.checksum)
    return [c for c in newest.values() if subject[c.case_id] not in splits]


def _prequential(study: Study, model: ModelRecord) -> list[ComparisonRecord]:
    """What the model said before the label came, against the label; by what its reader saw.

    A reader who saw the prediction and submitted it unchanged says nothing. One to whom it stayed
    hidden (audit slot) says most: that label counts whatever it is. Scans are picked because they
    are uncertain, more strictly in one subgroup than in another: where every subgroup has audit
    draws, which are random within it, those alone are used.
    """
    seen = scores.comparisons(study.store, model=model.checksum, seen=True)
    rows = [c for c in seen if not c.unchanged] + _kept_hidden(study, model)
    audited = plans.random_draws(study.store)
    subgroups = study.subgroups()
    drawn = [c for c in rows if c.case_id in audited and c.case_id in subgroups]
    counts = dict.fromkeys(subgroups.values(), 0)
    for c in drawn:
        counts[subgroups[c.case_id]] += 1
    return drawn if min(counts.values(), default=0) >= MIN_AUDITED else rows


def _kept_hidden(study: Study, model: ModelRecord) -> list[ComparisonRecord]:
    """A model against labels of audit slots whose readers saw no prediction at all.

    Only labels newer than the model: it cannot have been trained on those.
    """
    unseen = {
        (label.case_id, label.digest)
        for label in cases.labels(study.store, cases.FINAL)
        if label.seen_model is None
    }
    hidden = {
        (work.case_id, work.label_digest)
        for work in cases.work(study.store)
        if work.revealed is False and work.created_at > model.created_at
    }
    rows = scores.comparisons(study.store, model=model.checksum, seen=False)
    return [c for c in rows if (c.case_id, c.label_digest) in unseen & hidden]


def _cross_validated(study: Study, model: ModelRecord) -> list[ComparisonRecord]:
    folds = model.statistics.get("folds", [])
    return [c for fold in folds for c in scores.comparisons(study.store, model=fold)]


_ESTIMATORS = {
    "validation": _validation,
    "labelled": _labelled,
    "prequential": _prequential,
    "cross_validated": _cross_validated,
}
