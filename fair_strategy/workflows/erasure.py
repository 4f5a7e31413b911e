"""One person taken out of a study: rows, masks, drafts, predictions, backups and logs.

What is to go is written down before anything goes and crossed out when all is gone: an erasure that
was cut off is ended by the next call, or by the next start of the server.
"""

import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from fair_strategy.data.bids import mask_name
from fair_strategy.data.volumes import replace_file, sync_folder
from fair_strategy.store import cases
from fair_strategy.store.database import DATABASE_NAME, backup, hold
from fair_strategy.store.erasure import erase_rows
from fair_strategy.store.recovery import backups
from fair_strategy.workflows import attempts
from fair_strategy.workflows.masks import place_of_mask
from fair_strategy.workflows.rebuilding import rebuild
from fair_strategy.workflows.replacing import BEFORE, KEPT
from fair_strategy.workflows.sources import source_of
from fair_strategy.workflows.study import Study, StudyError

log = logging.getLogger(__name__)

BEGUN = "erasing.json"
"""What is to go, while it goes; names the person, and is the last that goes."""
# Databases that were damaged once, logs, and files that a kill left half written.
_OF_ANYBODY = (
    f"{DATABASE_NAME}.corrupt-*", attempts.FILE, "*.log*", ".*.tmp", "backups/.*", "backups/*-wal",
    "backups/*-shm", "drafts/*/.*", "cache/*/.*", "predictions/*/.*",
)  # fmt: skip


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


@dataclass(frozen=True)
class Erasure:
    """An erasure that was decided on; it needs no row that it removes.

    Attributes:
        subject_id: the person.
        case_ids: their scans, all of them.
        masks: files of their labels.
        erased: what there was to take out.
    """

    subject_id: str
    case_ids: list[str]
    masks: list[str]
    erased: Erased


def erase_subject(study: Study, subject_id: str) -> Erased:
    """Remove what the study holds of a person, who was taken out of its source before.

    The source is the folder with its participants.tsv, or the PACS. What the study itself made of
    it, such as fetched scans and the row of a table made of DICOM tags, is removed here.

    Killed half-way and called again, it ends what was begun.

    Raises:
        StudyError: if there is no such person, or if the source still has them: the next start
            would take them up again.
        ArchiveUnavailable: if a PACS cannot be asked whether it still has them.
        ServerRunning: if a server runs on the study.
    """
    with hold(study.state_dir):
        ended = finish_erasure(study)
        if ended is not None and ended.subject_id == subject_id:
            return ended.erased
        for note in rebuild(study):  # from a damaged database, which goes with the person
            log.warning("%s", note)
        begun = _begin(study, subject_id)
        _carry_out(study, begun)
    return begun.erased


def finish_erasure(study: Study) -> Erasure | None:
    """End an erasure that was cut off; what it was, or None if there was none.

    For whoever holds the study.

    Raises:
        StudyError: if what is to go cannot be read; nothing is removed then.
    """
    file = study.state_dir / BEGUN
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        begun = Erasure(**{**told, "erased": Erased(**told["erased"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise StudyError(
            f"{file}: expected an erasure that was cut off, this is none; remove it, and erase the "
            "person again"
        ) from error
    _carry_out(study, begun)
    log.warning("an erasure that was cut off was ended")
    return begun


def _begin(study: Study, subject_id: str) -> Erasure:
    """Check that nothing comes back, and write down what goes."""
    source = source_of(study)
    known = [c for c in cases.cases(study.store) if c.subject_id == subject_id]
    if not known and not source.named_in_table(subject_id):
        raise StudyError(f"{subject_id}: no such person in this study")
    left = source.still_has(subject_id, known)
    if left:
        raise StudyError(f"{subject_id}: take {left} away first; the next start would take it up")
    ids = [c.case_id for c in known]
    labels = [r for r in cases.labels(study.store) if r.case_id in ids]
    masks = [str(r.path) for r in labels]
    erased = Erased(
        scans=len(known),
        files=sum(path.exists() for path in _files(study, ids, masks)),
        models=_models_since(study, min((r.created_at for r in labels), default=float("inf"))),
    )
    begun = Erasure(subject_id, ids, masks, erased)
    replace_file(study.state_dir / BEGUN, json.dumps(asdict(begun)).encode())
    return begun


def _carry_out(study: Study, begun: Erasure) -> None:
    """Every step may have been done before."""
    erase_rows(study.store, begun.subject_id, begun.case_ids)
    for path in _files(study, begun.case_ids, begun.masks):
        path.unlink(missing_ok=True)
    folders = {Path(mask).parent for mask in begun.masks}
    folders |= {place_of_mask(study, case_id, "final").parent for case_id in begun.case_ids}
    for folder in folders:
        _remove_empty_folders(study.derivatives_root, folder)
    source_of(study).forget(begun.subject_id)
    # Tables of audits name cases; they are made again for the next model.
    shutil.rmtree(study.state_dir / "audits", ignore_errors=True)
    for old in backups(study.state_dir):
        old.unlink()
    backup(study.store)
    (study.state_dir / BEGUN).unlink()
    sync_folder(study.state_dir)


def _models_since(study: Study, moment: float) -> int:
    models = study.store.read().execute(
        "SELECT COUNT(*) FROM models WHERE origin != 'shipped' AND created_at >= ?", (moment,)
    )
    return int(models.fetchone()[0])


def _remove_empty_folders(root: Path, folder: Path) -> None:
    """`sub-01/anat` below the root of the masks names the person, too."""
    with suppress(OSError):  # not empty
        while root in folder.parents:
            with suppress(FileNotFoundError):
                folder.rmdir()
            folder = folder.parent


def _files(study: Study, case_ids: list[str], masks: list[str]) -> set[Path]:
    found = {Path(mask) for mask in masks}
    found |= set(source_of(study).copies(case_ids))
    for case_id in case_ids:
        found |= set(_made_of(study, case_id))
    for pattern in _OF_ANYBODY:
        found |= set(study.state_dir.glob(pattern))
    return found


def _made_of(study: Study, case_id: str) -> Iterator[Path]:
    state = study.state_dir
    yield from (state / "drafts").glob(f"*/{case_id}.nii.gz")
    yield from (state / "predictions").glob(f"*/{case_id}.npz")
    # Those of a scan whose name begins alike go, too: they are made again when asked for.
    yield from (state / "cache").glob(f"*/{case_id}_*")
    yield from _masks(study, case_id)


def _masks(study: Study, case_id: str) -> Iterator[Path]:
    """Under any tag, with a row or without; and those of before, `<time>_<name of the mask>`."""
    stem = mask_name(case_id, "x").name.partition("desc-")[0]
    yield from study.derivatives_root.rglob(f"{stem}*")
    yield from study.derivatives_root.rglob(f".{stem}*")  # cut off by a kill
    of_before = re.compile(rf"\d+_{re.escape(stem)}")
    kept = (study.state_dir / KEPT, study.state_dir / "removed", study.derivatives_root / BEFORE)
    for folder in kept:
        yield from (path for path in folder.glob("*") if of_before.match(path.name))
