"""A label taken out of the study by an admin, with what cannot stay without it."""

import shutil
import time

from fair_strategy.store import cases, readings
from fair_strategy.store.labels import FINAL, LabelRecord
from fair_strategy.workflows.exclusive import exclusive
from fair_strategy.workflows.study import Study


def remove_label(study: Study, case_id: str, tag: str) -> bool:
    """Take a label out; its file moves into the state directory. False if there is none.

    With the final label of a scan that several have read go their readings, so that it is read
    again; with one reading goes the final label that was made of it. All rows go at once, and no
    final label is made meanwhile: of half of them the background would make the next.
    """
    with exclusive(study.state_dir, "consensus"):
        record = cases.label(study.store, case_id, tag)
        if record is None:
            return False
        gone = [record, *_made_with(study, record)]
        cases.delete_labels(study.store, case_id, [each.tag for each in gone])
        for each in gone:
            if each.path.exists():
                kept = study.state_dir / "removed"
                kept.mkdir(exist_ok=True)
                shutil.move(each.path, kept / f"{time.time_ns()}_{each.path.name}")
    return True


def _made_with(study: Study, record: LabelRecord) -> list[LabelRecord]:
    """What cannot stay once a label is taken out."""
    if record.tag == FINAL:
        return readings.readings(study.store, record.case_id)
    final = cases.label(study.store, record.case_id)
    made = final is not None and final.client_id == readings.CONSENSUS
    return [final] if final and made and readings.is_reading_tag(record.tag) else []
