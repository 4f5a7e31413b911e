"""After a damaged database was replaced by an older copy: what came since, as far as it is told.

By the damaged file where it can be read, and by the masks, which no database holds.
"""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fair_strategy.data.bids import tag_of_mask
from fair_strategy.data.cohort import CohortError
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.data.volumes import VolumeError, read_mask
from fair_strategy.store import cases, readings
from fair_strategy.store.cases import CaseRecord, LabelRecord
from fair_strategy.store.recovery import RESTORED
from fair_strategy.store.salvage import salvage
from fair_strategy.store.settings import get_value, set_value
from fair_strategy.workflows.masks import checked_mask, place_of_mask
from fair_strategy.workflows.replacing import mask_digest, settle
from fair_strategy.workflows.sources import source_of
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)

FINDER = "recovered"
"""Client id of final labels of which only the mask was left."""


def rebuild(study: Study) -> list[str]:
    """Take over what the damaged file and the masks tell, once after each restoration.

    A label's row is believed where its mask is the one that it tells of. A mask without such a row
    becomes a label whose reader and info are not known; one of several readers is known by the tag.

    Returns:
        Sentences for the log; none if nothing was restored.
    """
    bad_file = get_value(study.store, RESTORED)
    if not bad_file:
        return []
    taken = salvage(study.store, study.state_dir / bad_file)
    settle(study)  # before masks are compared: an unanswered one must not pass for a label
    with suppress(CohortError, ArchiveUnavailable):  # then those known from before
        cases.sync(study.store, source_of(study).walk())
    kept, found = 0, 0
    tags, clients = _tags_of_readings(study), readings.clients_by_tag(study.store)
    for record in cases.cases(study.store):
        final = place_of_mask(study, record.case_id, cases.FINAL)
        for tag in (*tags.get(final, ()), cases.FINAL):
            told = _told_by_the_mask(study, record, tag, clients)
            kept += told is False
            found += told is True
    set_value(study.store, RESTORED, "")
    rows = ", ".join(f"{count} {table}" for table, count in taken.items()) or "none"
    return [
        f"the database was restored; rows of {bad_file} that the copy did not have: {rows}. "
        f"{kept} labels have the mask that their row tells of; {found} masks were taken over "
        f"without info"
    ]


def _tags_of_readings(study: Study) -> dict[Path, list[str]]:
    """Where a case's final mask lies, or would -> the tags of its readers' masks; one walk."""
    found: dict[Path, list[str]] = {}
    for path in sorted(study.derivatives_root.rglob("*_mask.nii.gz")):
        tag = tag_of_mask(path)
        if tag is not None and readings.is_reading_tag(tag):
            final = path.with_name(path.name.replace(f"_desc-{tag}_", f"_desc-{cases.FINAL}_"))
            found.setdefault(final, []).append(tag)
    return found


def _told_by_the_mask(
    study: Study, record: CaseRecord, tag: str, clients: Mapping[str, str]
) -> bool | None:
    """Whether the mask had to be taken over; None if there is no mask that can be used."""
    path = place_of_mask(study, record.case_id, tag)
    if not path.exists():
        return None
    label = cases.label(study.store, record.case_id, tag)
    try:
        digest = mask_digest(read_mask(path).array)
        if label is not None and label.digest == digest:
            return False
        checked_mask(study, record.case_id, path)
    except ArchiveUnavailable as error:  # it was checked when it was submitted
        log.warning("%s: its mask was not compared with the scan: %s", record.case_id, error)
    except VolumeError as error:
        log.warning("%s: its mask is not taken over: %s", record.case_id, error)
        return None
    client_id = FINDER if tag == cases.FINAL else clients.get(tag)
    if client_id is None:
        log.warning("%s: the mask of a reader who is not known stays: %s", record.case_id, path)
        return None
    found = _without_info(record, tag, path, digest, client_id)
    save = cases.save_label if tag == cases.FINAL else readings.restore_reading
    save(study.store, found)
    return True


def _without_info(
    record: CaseRecord, tag: str, path: Path, digest: str, client_id: str
) -> LabelRecord:
    return LabelRecord(
        case_id=record.case_id,
        tag=tag,
        path=path,
        info={"recovered_at": int(time.time())},
        client_id=client_id,
        created_at=path.stat().st_mtime,
        digest=digest,
        seen_model=None,
    )
