"""What the study knows of its PACS: series behind cases, segmentations seen, labels sent."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from fair_strategy.store.database import Store
from fair_strategy.store.labels import FINAL, LabelRecord, labels


@dataclass(frozen=True)
class SeriesRecord:
    """The series behind a case; `instances` is None where the PACS does not count them."""

    case_id: str
    study_uid: str
    series_uid: str
    instances: int | None


def remember_series(store: Store, found: Iterable[SeriesRecord]) -> None:
    """Add series, or bring known ones up to date, in one transaction; none is ever removed."""
    with store.transaction() as connection:
        connection.executemany(
            "INSERT OR REPLACE INTO archive_series VALUES (?, ?, ?, ?)",
            [(r.case_id, r.study_uid, r.series_uid, r.instances) for r in found],
        )


def series_of(store: Store, case_id: str) -> SeriesRecord | None:
    """The series behind a case; None if there is none."""
    row = (
        store.read()
        .execute("SELECT * FROM archive_series WHERE case_id = ?", (case_id,))
        .fetchone()
    )
    return None if row is None else SeriesRecord(**dict(row))


def known_series(store: Store) -> dict[str, SeriesRecord]:
    """SeriesInstanceUID -> series, for all that were ever seen."""
    rows = store.read().execute("SELECT * FROM archive_series")
    return {row["series_uid"]: SeriesRecord(**dict(row)) for row in rows}


def note_segmentation(store: Store, series_uid: str, outcome: str) -> None:
    """Remember that a segmentation of the PACS was looked at, and what came of it."""
    with store.transaction() as connection:
        connection.execute(
            "INSERT OR REPLACE INTO archive_segmentations VALUES (?, ?)", (series_uid, outcome)
        )


def noted_segmentations(store: Store) -> set[str]:
    """SeriesInstanceUIDs of segmentations that need not be looked at: seen, or our own."""
    rows = store.read().execute(
        "SELECT series_uid FROM archive_segmentations UNION SELECT series_uid FROM sent_labels"
    )
    return {row["series_uid"] for row in rows}


def unsent(store: Store, *, importer: str) -> list[LabelRecord]:
    """Final labels that the PACS does not hold yet, oldest first; imported ones are not sent.

    Args:
        store: the study's store.
        importer: client id of imported labels.
    """
    rows = store.read().execute("SELECT case_id, created_at FROM sent_labels")
    sent = {(row["case_id"], row["created_at"]) for row in rows}
    waiting = [
        label
        for label in labels(store, FINAL)
        if label.client_id != importer and (label.case_id, label.created_at) not in sent
    ]
    return sorted(waiting, key=lambda label: label.created_at)


def mark_sent(store: Store, label: LabelRecord, series_uid: str) -> None:
    """Remember that the PACS holds this submission."""
    with store.transaction() as connection:
        connection.execute(
            "INSERT OR REPLACE INTO sent_labels VALUES (?, ?, ?, ?)",
            (label.case_id, label.created_at, series_uid, time.time()),
        )
