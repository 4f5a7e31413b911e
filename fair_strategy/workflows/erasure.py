"""One person taken out of a study: rows, masks, drafts, predictions, backups and logs."""

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fair_strategy.data.bids import mask_name, participants_file
from fair_strategy.store import cases
from fair_strategy.store.database import DATABASE_NAME, backup, hold
from fair_strategy.store.erasure import erase_rows
from fair_strategy.store.recovery import backups
from fair_strategy.workflows import attempts
from fair_strategy.workflows.replacing import BEFORE, KEPT
from fair_strategy.workflows.study import Study, StudyError


@dataclass(frozen=True)
class Erased:
    """What was taken out.

    Attributes:
        scans: number of the person's scans.
        files: number of masks, drafts, predictions and what was made of them that were removed.
        models: models trained since the person's first label; weights cannot forget.
    """

    scans: int
    files: int
    models: int


def erase_subject(study: Study, subject_id: str) -> Erased:
    """Remove what the study holds of a person, whose scans and row were taken away before.

    Raises:
        StudyError: if there is no such person, or if a scan or the row of participants.tsv is
            still there: the next start would take it up again.
        ServerRunning: if a server runs on the study.
    """
    with hold(study.state_dir):
        known = [c for c in cases.cases(study.store) if c.subject_id == subject_id]
        if not known:
            raise StudyError(f"{subject_id}: no such person in this study")
        _refuse_what_comes_back(study, subject_id, [c.path for c in known if c.path.exists()])
        ids = [c.case_id for c in known]
        labels = [r for r in cases.labels(study.store) if r.case_id in ids]
        first = min((r.created_at for r in labels), default=float("inf"))
        models = study.store.read().execute(
            "SELECT COUNT(*) FROM models WHERE origin != 'shipped' AND created_at >= ?", (first,)
        )
        trained = int(models.fetchone()[0])
        files = {r.path for r in labels} | set(_files(study, ids))
        erase_rows(study.store, subject_id, ids)
        for path in files:
            path.unlink(missing_ok=True)
            _remove_empty_folders(study.derivatives_root, path.parent)
        # Tables of audits name cases; they are made again for the next model.
        shutil.rmtree(study.state_dir / "audits", ignore_errors=True)
        for old in backups(study.state_dir):
            old.unlink()
        backup(study.store)
    return Erased(len(known), len(files), trained)


def _refuse_what_comes_back(study: Study, subject_id: str, present: list[Path]) -> None:
    table = participants_file(study.images_dir)
    listed = table is not None and any(
        line.split("\t", 1)[0] == subject_id
        for line in table.read_text(encoding="utf-8").splitlines()
    )
    if present or listed:
        what = "its scans" if present else "the row of participants.tsv"
        raise StudyError(f"{subject_id}: take {what} away first; the next start would take it up")


def _remove_empty_folders(root: Path, folder: Path) -> None:
    """`sub-01/anat` below the root of the masks names the person, too."""
    with suppress(OSError):  # not empty, or gone
        while root in folder.parents:
            folder.rmdir()
            folder = folder.parent


def _files(study: Study, case_ids: list[str]) -> Iterator[Path]:
    state = study.state_dir
    for case_id in case_ids:
        yield from (state / "drafts").glob(f"*/{case_id}.nii.gz")
        yield from (state / "predictions").glob(f"*/{case_id}.npz")
        # Those of a scan whose name begins alike go, too: they are made again when asked for.
        yield from (state / "cache").glob(f"*/{case_id}_*")
        if study.pacs:  # what was fetched of the PACS, scans and segmentations
            yield from study.images_dir.rglob(f"{case_id}.nii.gz")
        yield from _masks(study, case_id)
    # Databases that were damaged once hold rows of everybody; logs may name anybody.
    yield from state.glob(f"{DATABASE_NAME}.corrupt-*")
    yield from state.glob(attempts.FILE)
    yield from state.glob("*.log*")


def _masks(study: Study, case_id: str) -> Iterator[Path]:
    """Under any tag, with a row or without; and those of before, `<time>_<name of the mask>`."""
    stem = mask_name(case_id, "x").name.partition("desc-")[0]
    yield from study.derivatives_root.rglob(f"{stem}*")
    yield from study.derivatives_root.rglob(f".{stem}*")  # cut off by a kill
    of_before = re.compile(rf"\d+_{re.escape(stem)}")
    kept = (study.state_dir / KEPT, study.state_dir / "removed", study.derivatives_root / BEFORE)
    for folder in kept:
        yield from (path for path in folder.glob("*") if of_before.match(path.name))
