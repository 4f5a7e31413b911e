"""The audit of a study's own model, on the labelled scans of the audit half, for the lead."""

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fair_strategy.data import bids
from fair_strategy.data.volumes import (
    VolumeError,
    read_image,
    read_mask,
    write_image,
    write_mask,
)
from fair_strategy.learning.prediction import Prediction
from fair_strategy.store import scores
from fair_strategy.workflows.audit.audit import Audit, Source, run_audit
from fair_strategy.workflows.audit.settings import RANKED_FROM, AuditSettings
from fair_strategy.workflows.models import current_model
from fair_strategy.workflows.outcomes import predict_volume
from fair_strategy.workflows.rounds import LabelledCase, labelled_cases
from fair_strategy.workflows.sources import image_path
from fair_strategy.workflows.study import LABEL, Study, StudyError

log = logging.getLogger(__name__)

FOLDER = "audits"
SUMMARY = "summary.json"
_MAKING = ".making-"
_MAPS = "maps"


TOO_FEW = (
    f"No audit yet: it compares subgroups that have {RANKED_FROM} labelled persons or more in the "
    "audit half, and there are not two of them. Label the scans that are handed out first, and "
    f"have validation_per_group at {2 * RANKED_FROM} or more: half of it is for audits."
)


class NoAuditError(ValueError):
    """The audit half does not allow an audit; the sentence says why and what to do."""


@dataclass(frozen=True)
class StudyAudit:
    """What is told of the audit of one model; for the study's lead, never for a reader.

    Attributes:
        model: checksum.
        made_at: seconds since the epoch.
        cases: labelled scans of the audit half that could be used.
        sentence: why there is no audit; "" where there is one.
        findings: the gaps that were named, in words.
        left_out: why scans of these could not be audited, a sentence each.
        folder: holds report.html, audit.json, tables/ and figures/ unless there is a `sentence`.
    """

    model: str
    made_at: float
    cases: int
    sentence: str
    findings: tuple[str, ...]
    left_out: tuple[str, ...]
    folder: Path


def audit_current_model(study: Study) -> StudyAudit:
    """Audit the current model on the audit half, into `audits/<checksum>` of the state directory.

    The scans are predicted anew, with the study's passes and seed. Scores, comparisons, weights
    and checkpoints are not touched: the audit half reports only. The folder is its owner's alone
    and appears whole. What does not allow an audit is told in `summary.json` in its place.

    Raises:
        OSError: if the folder cannot be written.
        StudyError: if no model is published.
    """
    record = scores.current_model(study.store)
    if record is None:
        raise StudyError("no model to audit: none is published")
    root = study.state_dir / FOLDER
    root.mkdir(mode=0o700, exist_ok=True)
    for left in root.glob(f"{_MAKING}*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    making = Path(tempfile.mkdtemp(prefix=_MAKING, dir=root))
    try:
        told = _audited(study, record.checksum, making)
        _publish(making, told)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    log.info("audit of model %s: %d scans of the audit half", told.model[:12], told.cases)
    return told


def latest_audit(study: Study) -> StudyAudit | None:
    """What is told of the newest model that has an audit, or a sentence in its place; else None."""
    for record in reversed(scores.models(study.store)):
        folder = study.state_dir / FOLDER / record.checksum
        try:
            told = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        lists = {name: tuple(told[name]) for name in ("findings", "left_out")}
        return StudyAudit(**{**told, **lists}, folder=folder)
    return None


def _audited(study: Study, checksum: str, folder: Path) -> StudyAudit:
    cases = [case for case in labelled_cases(study) if case.half == "audit"]
    shared: dict[str, Any] = {
        "model": checksum,
        "made_at": time.time(),
        "cases": len(cases),
        "folder": folder.parent / checksum,
    }
    left_out: list[str] = []
    named: tuple[str, ...] = ()
    sentence = ""
    try:
        audit = _write(study, cases, folder, left_out)
        named = tuple(finding.text for finding in audit.findings if finding.named)
    except (ValueError, OSError, ImportError) as error:
        sentence = str(error)
        _empty(folder)  # nothing half made beside the sentence
    return StudyAudit(sentence=sentence, findings=named, left_out=tuple(left_out), **shared)


def _write(study: Study, cases: Sequence[LabelledCase], folder: Path, left_out: list[str]) -> Audit:
    """The audit, written into a folder; `left_out` gets a sentence a case that has no prediction.

    Raises:
        NoAuditError, CohortError, VolumeError, OSError: why there is none.
        ImportError: without matplotlib, which draws the figures.
    """
    from fair_strategy.workflows.audit.report import write_audit

    table, features = bids.participants_file(study.images_dir), study.cohort().features
    if table is None or not features:
        raise NoAuditError(
            "No audit: no sensitive feature is in use; name one with --conf sensitive_feature."
        )
    if len({case.record.subject_id for case in cases}) < 2 * RANKED_FROM:
        raise NoAuditError(TOO_FEW)
    maps = folder / _MAPS
    for case in cases:
        try:
            _write_maps(study, case, maps / case.record.case_id)
        except VolumeError as error:
            log.warning("not audited: %s", error)
            left_out.append(str(error))
    audits, changes = run_audit(
        [Source(maps, regions=f"{LABEL}=1")],
        "segmentation",
        table,
        features,
        age_bins=study.settings.age_bins,
        settings=AuditSettings(seed=study.settings.seed),
    )
    shutil.rmtree(maps)
    if not any(len(grouping.ranked) > 1 for grouping in audits[0].groupings):
        raise NoAuditError(TOO_FEW)
    write_audit([replace(audits[0], name=LABEL.replace("_", " "))], changes, folder)
    return audits[0]


def _write_maps(study: Study, case: LabelledCase, folder: Path) -> None:
    """Reference, prediction, probability and entropy, on the scan's grid."""
    volume, reference = read_image(image_path(study, case.record)), read_mask(case.label.path)
    name, model = case.record.case_id, current_model(study)
    found = predict_volume(model, volume, study.settings, name=name)
    write_mask(folder / "reference.nii", reference.array, reference.affine)
    write_mask(folder / "prediction.nii", found.whole_mask(), found.affine)
    write_image(folder / "probability.nii", _whole(found, found.probability), found.affine)
    write_image(folder / "uncertainty.nii", _whole(found, found.entropy), found.affine)


def _whole(found: Prediction, inside: NDArray[np.float32]) -> NDArray[np.float32]:
    """On the whole grid; outside of the box the probability is 0, and so is the entropy."""
    array = np.zeros(found.shape, np.float32)
    array[found.box] = inside
    return array


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _publish(making: Path, told: StudyAudit) -> None:
    plain = {name: value for name, value in asdict(told).items() if name != "folder"}
    (making / SUMMARY).write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    if told.folder.exists():
        os.replace(told.folder, making.with_name(f"{making.name}-old"))
    os.replace(making, told.folder)
    shutil.rmtree(making.with_name(f"{making.name}-old"), ignore_errors=True)
