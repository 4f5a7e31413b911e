"""What is in the folder becomes cases; masks that lie there already become labels, once."""

import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fair_strategy.data import bids
from fair_strategy.data.bids import Scan
from fair_strategy.data.cohort import Cohort, CohortError
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.data.volumes import Mask, VolumeError
from fair_strategy.store import cases, predictions, scores
from fair_strategy.store.cases import Changes, LabelRecord, Split
from fair_strategy.store.database import Store
from fair_strategy.store.readings import CONSENSUS
from fair_strategy.store.settings import get_value, set_value
from fair_strategy.workflows.masks import checked_mask, place_of_mask, store_mask
from fair_strategy.workflows.models import publish_shipped, shown_models
from fair_strategy.workflows.replacing import replacing, settle
from fair_strategy.workflows.sources import source_of
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)

_IMPORTED = "imported_masks"

IMPORTER = "import"
"""Client id of masks that lay in the folder already."""


def prepare(study: Study) -> list[str]:
    """Bring the state up to the folder, freeze the validation set, see that a model is current.

    Returns:
        Sentences for whoever starts the study; a missing model is one of them, not an error:
        scans are still handed out, at random.
    """
    settle(study)
    notes = _lost_labels(study)
    try:
        refresh(study)
        notes += _cohort_notes(study)
    except CohortError as error:
        notes.append(f"{error}; until it is repaired, older plans serve, and no new one is made")
    except ArchiveUnavailable as error:
        notes.append(f"{error}; the scans known from before are served, new ones come later")
    try:
        publish_shipped(study)
    except (OSError, ValueError) as error:
        notes.append(str(error))
    return notes + _lost_predictions(study)


def _lost_predictions(study: Study) -> list[str]:
    """Scores whose prediction is gone are forgotten, and so made again with it.

    Readers are shown a prediction because there is a score. The folder may have been left out of a
    backup, or removed to make room.
    """
    count = sum(
        scores.forget_unkept(study.store, model, predictions.predicted_by(study.state_dir, model))
        for model in shown_models(study)
    )
    return [f"predictions that are gone: {count}; their scans are scored again"] if count else []


def refresh(study: Study) -> Changes:
    """Walk the folder or ask the PACS, take up what came, went or changed, and import masks.

    Raises:
        CohortError: the folder or its table is not what it must be.
        ArchiveUnavailable: no whole answer of the PACS; nothing is changed then.
    """
    scans = source_of(study).walk()
    changes = cases.sync(study.store, scans)
    import_masks(study, scans)
    freeze_validation(study)
    return changes


def import_masks(study: Study, scans: Sequence[Scan]) -> dict[str, str]:
    """Import masks that lie beside the scans as labels, each case once; case_id -> what failed."""
    done = set(json.loads(get_value(study.store, _IMPORTED) or "[]"))
    labelled = set(cases.labelled_ids(study.store))
    found = source_of(study).existing_masks(scans)
    fresh = {i: path for i, path in found.items() if i not in done and i not in labelled}
    failed: dict[str, str] = {}
    for case_id, path in fresh.items():
        try:
            _import(study, case_id, path)
        except ValueError as error:
            failed[case_id] = str(error)
            log.warning("not imported: %s", error)
    if fresh:
        set_value(study.store, _IMPORTED, json.dumps(sorted(done | fresh.keys() - failed.keys())))
        log.info("imported %d existing masks, %d failed", len(fresh) - len(failed), len(failed))
    return failed


def freeze_validation(study: Study) -> None:
    """Draw `validation_per_group` subjects of each subgroup, half to select, half to audit.

    Already labelled subjects fill the places first; the rest is drawn at random. A subgroup gives
    at most half of its subjects. Whoever was drawn once stays (docs/method.md#ranking).
    """
    cohort, store, wanted = study.cohort(), study.store, study.settings.validation_per_group
    frozen = cases.splits(store)
    by_group = _subjects_by_group(store, cohort)
    subject_of = cases.subjects(store)
    labelled = {subject_of[case_id] for case_id in cases.labelled_ids(store)}
    trained = _trained_subjects(store)
    for number, group in enumerate(sorted(by_group)):
        subjects = by_group[group]
        have = [s for s in subjects if s in frozen]
        places = min(wanted, len(subjects) // 2) - len(have)
        if places <= 0:
            continue
        rng = np.random.default_rng([study.settings.seed, len(have), number])
        free = [s for s in subjects if s not in frozen and s not in trained]
        drawn = sorted(free, key=dict(zip(free, rng.random(len(free)), strict=True)).__getitem__)
        drawn.sort(key=lambda s: s not in labelled)
        counts = Counter(frozen[s] for s in have)
        cases.freeze_split(store, _halves(drawn[:places], counts))


def _trained_subjects(store: Store) -> set[str]:
    """Subjects that the current model was trained on: too late to validate on them."""
    current = scores.current_model(store)
    digests = set(current.statistics.get("label_digests", [])) if current else set()
    subject_of = cases.subjects(store)
    return {subject_of[r.case_id] for r in cases.labels(store, "final") if r.digest in digests}


def _halves(subjects: list[str], counts: Counter[Split]) -> dict[str, Split]:
    halves: dict[str, Split] = {}
    for subject in subjects:
        half: Split = "select" if counts["select"] <= counts["audit"] else "audit"
        counts[half] += 1
        halves[subject] = half
    return halves


def _subjects_by_group(store: Store, cohort: Cohort) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for subject in sorted(set(cases.subjects(store, present=True).values())):
        groups.setdefault(cohort.subgroup(subject), []).append(subject)
    return groups


def _import(study: Study, case_id: str, path: Path) -> None:
    mask = _existing_mask(study, case_id, path)
    with replacing(study, place_of_mask(study, case_id, "final")):
        stored, digest = store_mask(study, case_id, mask, tag="final")
        cases.save_label(
            study.store,
            LabelRecord(
                case_id=case_id,
                tag="final",
                path=stored,
                info={"imported_from": path.name},
                client_id=IMPORTER,
                created_at=time.time(),
                digest=digest,
                seen_model=None,
            ),
        )


def _lost_labels(study: Study) -> list[str]:
    """Forget imported labels whose mask file is gone, to import them again; report the others."""
    gone = [label for label in cases.labels(study.store, "final") if not label.path.exists()]
    imported = {label.case_id for label in gone if label.client_id == IMPORTER}
    # One that was made of several readers' labels is made of them again.
    made = {label.case_id for label in gone if label.client_id == CONSENSUS}
    for case_id in imported | made:
        cases.delete_label(study.store, case_id, "final")
    done = set(json.loads(get_value(study.store, _IMPORTED) or "[]"))
    set_value(study.store, _IMPORTED, json.dumps(sorted(done - imported)))
    submitted = [label for label in gone if label.client_id not in (IMPORTER, CONSENSUS)]
    if not submitted:
        return []
    return [
        f"{len(submitted)} submitted masks are gone from {study.derivatives_root}; "
        "they count as labelled but are not trained on: restore the folder from a backup"
    ]


def _existing_mask(study: Study, case_id: str, path: Path) -> Mask:
    """A mask of the folder; `label_value` counts only where a file holds several labels."""
    value = study.settings.label_value
    if value is None and bids.is_label_map(path):
        raise VolumeError(
            f"{path.name}: a map of labels; say which is the left caudate with --conf label_value N"
        )
    if value is None or bids.is_label_map(path):
        return checked_mask(study, case_id, path, label_value=value)
    try:
        return checked_mask(study, case_id, path)
    except VolumeError:
        return checked_mask(study, case_id, path, label_value=value)


def _cohort_notes(study: Study) -> list[str]:
    cohort = study.cohort()
    subjects = set(cases.subjects(study.store, present=True).values())
    if not subjects:
        return [f"{study.location}: {_nothing_found(study)}"]
    if not cohort.fairness_on:
        columns = ", ".join(cohort.columns) or "none: there is no participants.tsv"
        return [
            "FAIRNESS WEIGHTING IS OFF: no sensitive feature; choose one with "
            f"--conf sensitive_feature NAME (columns that exist: {columns})"
        ]
    unknown = cohort.count_unknown(subjects)
    return [f"{unknown} of {len(subjects)} subjects have no subgroup: 'unknown'"] if unknown else []


def _nothing_found(study: Study) -> str:
    if study.pacs is None:
        return "no T1-weighted scan found (sub-*/anat/*_T1w.nii.gz, or flat)"
    asked = ",".join("=".join(pair) for pair in study.settings.dicom_filter)
    return f"no series found; asked for --conf dicom_filter {asked}"
