"""How well each subgroup is segmented today: labels compared with predictions, four estimators."""

import logging
import time
from collections import Counter
from collections.abc import Container, Sequence

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

RECENT = 8
"""So many of a subgroup's newest comparisons make the prequential estimate."""
MIN_AUDITED = 4
"""With so many audit draws in each subgroup the prequential estimate uses these alone."""


def compare_labels(study: Study) -> int:
    """Compare labels with the predictions that their readers saw, and with the current model's.

    One whose reader saw none is also compared with the newest model from before it.

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
    older = _uncompared_hidden(study)
    for case_id, model in older:
        _compare(study, case_id, model, seen=False)
    return len(seen) + len(unseen) + len(older)


def study_performance(study: Study) -> dict[str, GroupPerformance]:
    """Mean Dice of each known subgroup by the study's estimator, with n and interval.

    A subgroup without a comparison is there with n = 0 and NaN (docs/method.md).
    """
    subgroups = study.subgroups()
    rows = _that_count(study, subgroups)
    return group_performance(
        [c.dice for c in rows],
        [subgroups[c.case_id] for c in rows],
        known_groups=sorted(set(subgroups.values())),
    )


def count_comparisons(study: Study) -> Counter[str]:
    """How many comparisons `study_performance` counts of each subgroup that has any; faster."""
    subject_of = cases.subjects(study.store, present=True, labelled=True)
    cohort = study.cohort()
    return Counter(cohort.subgroup(subject_of[c.case_id]) for c in _that_count(study, subject_of))


def _that_count(study: Study, there: Container[str]) -> list[ComparisonRecord]:
    chosen = estimator_comparisons(study, scores.current_model(study.store))
    return [c for c in chosen if c.case_id in there and not np.isnan(c.dice)]


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
    subject = cases.subjects(study.store, labelled=True)
    newest = newest_comparisons(study, model.checksum)
    return [c for c in newest.values() if splits.get(subject.get(c.case_id, "")) == "select"]


def _labelled(study: Study, model: ModelRecord) -> list[ComparisonRecord]:
    splits = cases.splits(study.store)
    subject = cases.subjects(study.store, labelled=True)
    newest = newest_comparisons(study, model.checksum)
    # A label may have come back since the subjects were asked for.
    return [c for c in newest.values() if c.case_id in subject and subject[c.case_id] not in splits]


def _prequential(study: Study, model: ModelRecord) -> list[ComparisonRecord]:
    """What a model said before the label came, against the label; the newest of each subgroup.

    A model that was just published has met no label, so labels that met earlier ones count on:
    they tell of a model that was a little worse, in every subgroup.

    Scans are picked because they are uncertain, more strictly in one subgroup than in another:
    where every subgroup has some audit draws, which are random within it, those alone are used.
    """
    rows = _before_the_label(study, until=model)
    subgroups = study.subgroups()
    audited = plans.random_draws(study.store)
    drawn = _newest([c for c in rows if c.case_id in audited], subgroups)
    enough = all(len(drawn.get(g, [])) >= MIN_AUDITED for g in set(subgroups.values()))
    chosen = drawn if enough else _newest(rows, subgroups)
    return [row for own in chosen.values() for row in own]


def _newest(
    rows: list[ComparisonRecord], subgroups: dict[str, str]
) -> dict[str, list[ComparisonRecord]]:
    """The last RECENT rows of each subgroup."""
    found: dict[str, list[ComparisonRecord]] = {}
    for row in rows:
        if row.case_id in subgroups:
            found.setdefault(subgroups[row.case_id], []).append(row)
    return {group: own[-RECENT:] for group, own in found.items()}


def _before_the_label(study: Study, *, until: ModelRecord) -> list[ComparisonRecord]:
    """One comparison a label, oldest label first, with a model that cannot have learnt it.

    A reader who saw the prediction and submitted it unchanged says nothing. One to whom it stayed
    hidden (audit slot) says most: that label counts whatever it is. A corrected label does not
    count with a model that learnt the label of before.
    """
    learnt = _learnt(study)
    made = {m.checksum: m.created_at for m in scores.models(study.store)}
    made = {checksum: at for checksum, at in made.items() if at <= until.created_at}
    rows = [
        c
        for c in scores.comparisons(study.store)
        # What could not be compared takes no place among the newest.
        if c.model in made and c.case_id not in learnt[c.model] and not np.isnan(c.dice)
    ]
    seen = [c for c in rows if c.seen and not c.unchanged]
    hidden = _kept_hidden(study, [c for c in rows if not c.seen], made)
    labelled = {label.case_id: label.created_at for label in cases.labels(study.store, cases.FINAL)}
    return sorted(seen + hidden, key=lambda c: (labelled[c.case_id], c.case_id))


def _kept_hidden(
    study: Study, rows: list[ComparisonRecord], made: dict[str, float]
) -> list[ComparisonRecord]:
    """Labels of audit slots whose readers saw no prediction, against the model of that time.

    Args:
        rows: comparisons to choose from.
        made: the time of each of their models.
    """
    labelled = {label.case_id: label.created_at for label in _hidden(study)}
    found: dict[str, ComparisonRecord] = {}
    for row in sorted(rows, key=lambda c: made[c.model]):
        if row.case_id in labelled and made[row.model] < labelled[row.case_id]:
            found[row.case_id] = row
    return list(found.values())


def _hidden(study: Study) -> list[LabelRecord]:
    """Final labels of audit slots whose readers saw no prediction, of cases that are not excluded.

    The client is part of the key: readings may equal the final label that was made of them, and
    one reader's work does not tell what the others saw.
    """
    hidden = {
        (work.case_id, work.label_digest, work.client_id)
        for work in cases.work(study.store)
        if work.revealed is False
    }
    included = cases.subjects(study.store, excluded=False)
    return [
        label
        for label in cases.labels(study.store, cases.FINAL)
        if label.seen_model is None
        and (label.case_id, label.digest, label.client_id) in hidden
        and label.case_id in included
    ]


def _uncompared_hidden(study: Study) -> list[tuple[str, str]]:
    """(case id, model) of hidden labels that have not met the newest model from before them.

    Where a label starts a training, or comes during one, the current model is a later one when
    labels are compared. The prediction of the one before is still there.
    """
    compared = {(c.case_id, c.model) for c in scores.comparisons(study.store, seen=False)}
    learnt = _learnt(study)
    newest_first = scores.models(study.store)[::-1]
    found = []
    for label in _hidden(study):
        fingerprint = cases.case(study.store, label.case_id).fingerprint
        for model in newest_first:
            key = label.case_id, model.checksum
            if model.created_at >= label.created_at or label.case_id in learnt[model.checksum]:
                continue
            if key in compared:
                break
            if predictions.has_prediction(study.state_dir, key[1], key[0], fingerprint):
                found.append(key)
                break
    return found


def _learnt(study: Study) -> dict[str, set[str]]:
    """Model -> cases of which it may have learnt a label, be it one that was corrected since."""
    cases_of: dict[str, set[str]] = {}
    for case_id, digest in scores.label_digests(study.store):
        cases_of.setdefault(digest, set()).add(case_id)
    return {
        model.checksum: {
            case_id
            for digest in model.statistics.get("label_digests", [])
            for case_id in cases_of.get(digest, ())
        }
        for model in scores.models(study.store)
    }


def _cross_validated(study: Study, model: ModelRecord) -> list[ComparisonRecord]:
    folds = model.statistics.get("folds", [])
    return [c for fold in folds for c in scores.comparisons(study.store, model=fold)]


_ESTIMATORS = {
    "validation": _validation,
    "labelled": _labelled,
    "prequential": _prequential,
    "cross_validated": _cross_validated,
}
