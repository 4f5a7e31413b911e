"""What labels cost their readers: time, volume edited; and why scans were skipped."""

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fair_strategy.store.database import Store
from fair_strategy.store.handouts import handout_within
from fair_strategy.store.reveals import revealed_within

if TYPE_CHECKING:
    from fair_strategy.store.labels import LabelRecord


@dataclass(frozen=True)
class WorkRecord:
    """The work behind one label of a reader; case, digest and client are its key.

    Attributes:
        label_digest: that of the label.
        seconds: from handing the case out to submitting it, on the wall clock, pauses included;
            None if the case was not handed out since its label before, or if the clock was set
            back meanwhile. Submitting the same mask after a re-opening adds to it.
        edited_mm3: volume that differs between the label and the prediction that its reader saw;
            None if none was seen.
        created_at: seconds since 1970.
        revealed: whether the reader asked for the hidden pre-segmentation; None if it was not
            hidden (no audit slot).
    """

    case_id: str
    label_digest: str
    client_id: str
    seconds: float | None
    edited_mm3: float | None
    created_at: float
    revealed: bool | None


@dataclass(frozen=True)
class SkipRecord:
    """A case given back by a reader, who said why; `created_at` is seconds since 1970."""

    case_id: str
    client_id: str
    reason: str
    created_at: float


_ADD_WORK = """INSERT INTO label_work
    (case_id, label_digest, client_id, seconds, edited_mm3, created_at, revealed)
    VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (case_id, label_digest, client_id) DO UPDATE SET
        seconds = CASE WHEN seconds IS NOT NULL
            THEN seconds + coalesce(excluded.seconds, 0) ELSE excluded.seconds END,
        edited_mm3 = excluded.edited_mm3,
        created_at = excluded.created_at, revealed = excluded.revealed"""


def add_work(
    connection: sqlite3.Connection, record: "LabelRecord", *, edited_mm3: float | None
) -> None:
    """Add the row of a reader's label, before the label itself replaces the one of before."""
    connection.execute(
        _ADD_WORK,
        (
            record.case_id,
            record.digest,
            record.client_id,
            _seconds(connection, record),
            edited_mm3,
            record.created_at,
            revealed_within(connection, record.case_id, record.client_id),
        ),
    )


def _seconds(connection: sqlite3.Connection, record: "LabelRecord") -> float | None:
    handed = handout_within(connection, record.case_id, record.client_id)
    if handed is None:
        return None
    until = record.created_at
    row = connection.execute(
        "SELECT 1 FROM labels WHERE case_id = ? AND tag = ? AND created_at > ?",
        (record.case_id, record.tag, handed.created_at),
    ).fetchone()
    # A label since the handout: that one took the time. A negative time: the clock was set back.
    return until - handed.created_at if row is None and until >= handed.created_at else None


def work(store: Store, *, superseded: bool = False) -> list[WorkRecord]:
    """The work behind today's labels of readers, final or one of several, oldest first.

    A final label that was made of several has a row too, without time and volume.

    Args:
        store: the study's store.
        superseded: with the work behind labels that were replaced or deleted.
    """
    rows = store.read().execute(
        """SELECT label_work.* FROM label_work WHERE :all OR EXISTS (
            SELECT 1 FROM labels WHERE labels.case_id = label_work.case_id
            AND digest = label_digest AND labels.client_id = label_work.client_id
            AND (tag = 'final' OR EXISTS (SELECT 1 FROM readings
                WHERE readings.case_id = labels.case_id AND readings.tag = labels.tag)))
        ORDER BY created_at, case_id""",
        {"all": superseded},
    )
    return [_record(row) for row in rows]


def _record(row: sqlite3.Row) -> WorkRecord:
    fields = dict(row)
    asked = fields["revealed"]
    return WorkRecord(**fields | {"revealed": None if asked is None else bool(asked)})


def add_skip_reason(
    connection: sqlite3.Connection, case_id: str, client_id: str, reason: str, now: float
) -> None:
    """Note why a client gave a case back; `now` is seconds since 1970."""
    connection.execute(
        "INSERT INTO skip_reasons VALUES (?, ?, ?, ?)", (case_id, client_id, reason, now)
    )


def skip_reasons(store: Store) -> list[SkipRecord]:
    """Every skip for which a reason was given, oldest first."""
    rows = store.read().execute("SELECT * FROM skip_reasons ORDER BY created_at, rowid")
    return [SkipRecord(**dict(row)) for row in rows]


def progress(store: Store, client_id: str) -> tuple[int, int, int]:
    """How many cases are labelled, how many are open to a client, and how many it has labelled.

    A case that a client has read and that waits for other readers is open to those alone.
    """
    row = (
        store.read()
        .execute(
            """SELECT
            (SELECT count(*) FROM labels JOIN cases USING (case_id)
                WHERE tag = 'final' AND present = 1 AND excluded IS NULL),
            (SELECT count(*) FROM open_cases WHERE case_id NOT IN (
                SELECT case_id FROM readings WHERE client_id = :client)),
            (SELECT count(*) FROM (
                SELECT case_id FROM labels WHERE tag = 'final' AND client_id = :client
                UNION SELECT case_id FROM readings WHERE client_id = :client))""",
            {"client": client_id},
        )
        .fetchone()
    )
    labelled, left, own = map(int, row)
    return labelled, left, own
