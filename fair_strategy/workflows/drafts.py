"""Unfinished masks: a file for each reader and scan, which that reader alone gets back.

A draft is no label: no row of the store tells of it, nothing is trained on it or compared with it.
"""

import hashlib
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from fair_strategy.data.volumes import write_mask
from fair_strategy.store import cases, plans
from fair_strategy.store.readings import own_label
from fair_strategy.workflows.masks import checked_mask
from fair_strategy.workflows.study import Study, StudyError

FOLDER = "drafts"


@dataclass(frozen=True)
class DraftInfo:
    """Whether there is a draft, and what is known of it.

    Attributes:
        saved_at: seconds since 1970; None without a draft.
        seconds_spent: from handing the scan out to saving the draft; None if not known.
    """

    exists: bool
    saved_at: float | None = None
    seconds_spent: float | None = None


def save_draft(study: Study, case_id: str, client_id: str, mask_path: Path) -> DraftInfo:
    """Keep a reader's unfinished mask in place of the one of before, whole or not at all.

    Raises:
        UnknownCaseError: for an unknown case.
        ValueError: if grid or values are not those of one mask of this scan, or if the scan is
            done with: a save that was on its way during the submission brings no draft back.
    """
    mask = checked_mask(study, case_id, mask_path)
    _require_unfinished(study, case_id, client_id)
    path = _path(study, case_id, client_id)
    _make_private(path.parent)
    part = path.with_name(f".{secrets.token_hex(6)}.nii.gz")
    try:
        write_mask(part, mask.array, mask.affine)
        part.chmod(0o600)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return draft_info(study, case_id, client_id)


def read_draft(study: Study, case_id: str, client_id: str) -> bytes | None:
    """The reader's draft of a scan as a .nii.gz file's bytes; None if there is none."""
    try:
        return _path(study, case_id, client_id).read_bytes()
    except FileNotFoundError:
        return None


def draft_info(study: Study, case_id: str, client_id: str) -> DraftInfo:
    """Whether the reader has a draft of a scan, when it was saved, and after how much time."""
    try:
        saved_at = _path(study, case_id, client_id).stat().st_mtime
    except FileNotFoundError:
        return DraftInfo(exists=False)
    handed = plans.handout(study.store, case_id, client_id)
    known = handed is not None and saved_at >= handed.created_at
    return DraftInfo(True, saved_at, saved_at - handed.created_at if handed and known else None)


def discard_draft(study: Study, case_id: str, client_id: str) -> bool:
    """Remove the reader's draft of a scan; False if there was none."""
    path = _path(study, case_id, client_id)
    existed = path.exists()
    path.unlink(missing_ok=True)
    return existed


def _require_unfinished(study: Study, case_id: str, client_id: str) -> None:
    lease = plans.lease_of(study.store, case_id)
    if lease and lease.client_id == client_id and lease.expires_at > time.monotonic():
        return
    done = cases.label(study.store, case_id) or own_label(study.store, case_id, client_id)
    if done or cases.case(study.store, case_id).excluded:
        raise StudyError(f"{case_id}: submitted or excluded; re-open it to work on it again")


def _path(study: Study, case_id: str, client_id: str) -> Path:
    # A name may hold anything; its digest is a folder's name, and never that of another client.
    owner = hashlib.sha256(client_id.encode("utf-8", "surrogatepass")).hexdigest()
    known = cases.case(study.store, case_id).case_id
    return study.state_dir / FOLDER / owner / f"{known}.nii.gz"


def _make_private(folder: Path) -> None:
    for path in (folder.parent, folder):
        path.mkdir(mode=0o700, exist_ok=True)
