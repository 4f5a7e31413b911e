"""After a damaged database was replaced by an older copy: what came since, as far as it is told.

By the damaged file where it can be read, and by the masks, which no database holds.
"""

import logging
import time
from contextlib import suppress
from pathlib import Path

from fair_strategy.data.cohort import CohortError
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.data.volumes import VolumeError, read_mask
from fair_strategy.store import cases
from fair_strategy.store.cases import CaseRecord, LabelRecord
from fair_strategy.store.recovery import RESTORED
from fair_strategy.store.salvage import salvage
from fair_strategy.store.settings import get_value, set_value
from fair_strategy.workflows.intake import checked_mask, place_of_mask
from fair_strategy.workflows.replacing import mask_digest, settle
from fair_strategy.workflows.sources import source_of
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)

FINDER = "recovered"
"""Client id of labels of which only the mask was left."""


def rebuild(study: Study) -> list[str]:
    """Take over what the damaged file and the masks tell, once after each restoration.

    A label's row is believed where its mask is the one that it tells of. A mask without such a row
    becomes a label whose reader and info are not known.

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
    kept, found = 0, []
    for record in cases.cases(study.store):
        told = _told_by_the_mask(study, record)
        kept += told is False
        found += [record.case_id] if told else []
    set_value(study.store, RESTORED, "")
    rows = ", ".join(f"{count} {table}" for table, count in taken.items()) or "none"
    return [
        f"the database was restored; rows of {bad_file} that the copy did not have: {rows}. "
        f"{kept} labels have the mask that their row tells of; {len(found)} masks were taken over "
        f"without reader and info"
    ]


def _told_by_the_mask(study: Study, record: CaseRecord) -> bool | None:
    """Whether the final mask had to be taken over; None if there is no mask that can be used."""
    path = place_of_mask(study, record.case_id, cases.FINAL)
    if not path.exists():
        return None
    label = cases.label(study.store, record.case_id)
    try:
        digest = mask_digest(read_mask(path).array)
        if label is not None and label.digest == digest:
            return False
        checked_mask(study, record.case_id, path)
    except VolumeError as error:
        log.warning("%s: its mask is not taken over: %s", record.case_id, error)
        return None
    cases.save_label(study.store, _without_reader(record, path, digest))
    return True


def _without_reader(record: CaseRecord, path: Path, digest: str) -> LabelRecord:
    return LabelRecord(
        case_id=record.case_id,
        tag=cases.FINAL,
        path=path,
        info={"recovered_at": int(time.time())},
        client_id=FINDER,
        created_at=path.stat().st_mtime,
        digest=digest,
        seen_model=None,
    )
