"""The study in the shapes of MONAI Label's own datastore, which Slicer reads."""

import time
from typing import Any

from fair_strategy.host.uploads import suffix_of
from fair_strategy.store import cases, readings
from fair_strategy.store.cases import CaseRecord, LabelRecord
from fair_strategy.workflows import showing
from fair_strategy.workflows.study import LABEL, Study

ORIGINAL, FINAL, UNCERTAINTY = "original", "final", "uncertainty"
MADE_BY_MODEL = frozenset({ORIGINAL, UNCERTAINTY})
"""Tags that are materialised from the stored prediction; nobody can save under them."""


def objects(study: Study) -> dict[str, dict[str, Any]]:
    """Image and labels of every scan that is there, by id.

    Of a scan that several read and have not done with, no reader's label is among them.
    """
    labels = _labels(study)
    return {
        c.case_id: {
            "image": {"ext": suffix_of(c.path.name), "info": image_info(c)},
            "labels": labels.get(c.case_id, {}),
        }
        for c in present(study)
    }


def _labels(study: Study) -> dict[str, dict[str, Any]]:
    labels: dict[str, dict[str, Any]] = {}
    blind = readings.blind_cases(study.store, now=time.monotonic())
    for record in cases.labels(study.store):
        if record.case_id in blind and is_of_readers(record.tag):
            continue
        described = {"ext": suffix_of(record.path.name), "info": label_info(record)}
        labels.setdefault(record.case_id, {})[record.tag] = described
    for case_id in showing.predicted_ids(study):
        described = {"ext": ".nii.gz", "info": original_info(case_id)}
        labels.setdefault(case_id, {})[ORIGINAL] = described
    return labels


def counts(study: Study) -> dict[str, Any]:
    """Numbers of scans, of labelled scans, of labels by tag."""
    counted = cases.count_labels(study.store)
    tags = {tag: n for tag, n in counted.items() if not readings.is_reading_tag(tag)}
    tags[ORIGINAL] = showing.count_predicted(study)
    return {
        "total": cases.count_present(study.store),
        "completed": tags.get(FINAL, 0),
        "label_tags": {tag: n for tag, n in tags.items() if n},
    }


def present(study: Study) -> list[CaseRecord]:
    """Every scan that is there."""
    return [c for c in cases.cases(study.store) if c.present]


def is_of_readers(tag: str) -> bool:
    """Whether labels under a tag are of readers, or made of theirs."""
    return tag == FINAL or readings.is_reading_tag(tag)


def image_info(record: CaseRecord) -> dict[str, Any]:
    """What is told of a scan: the name of its file, and what was put there."""
    return {**record.info, "name": record.path.name}


def label_info(record: LabelRecord) -> dict[str, Any]:
    """What is told of a label: time, name of its file, client, and what came with it."""
    named = {"ts": int(record.created_at), "name": record.path.name}
    return {**record.info, **named, "client_id": record.client_id}


def original_info(case_id: str) -> dict[str, Any]:
    """What is told of a pre-segmentation, which no row of the store stands for."""
    return {"name": f"{case_id}.nii.gz", "params": {"label_names": {LABEL: 1}}}
