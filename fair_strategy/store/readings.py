"""Several readers a case: each one's label, the final label made of them, how far they agree.

A reading is a label under a tag of its reader's own. It neither closes its case nor is trained on;
the final label, which does and is, has the client id `CONSENSUS`.
"""

import hashlib
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from fair_strategy.store.database import Store
from fair_strategy.store.encoding import null_to_nan, number_or_null
from fair_strategy.store.labels import (
    LabelRecord,
    label,
    label_record,
    require_case,
    write_label,
)
from fair_strategy.store.open_rows import refresh_open
from fair_strategy.store.work import add_work

CONSENSUS = "consensus"
"""Client id of final labels that were made of readings."""

_PREFIX, _DIGITS = "reader", 20
_TAG = re.compile(f"{_PREFIX}[0-9a-f]{{{_DIGITS}}}")


@dataclass(frozen=True)
class Agreement:
    """How far two readers agree on a case, by what they had made of it when it was closed first.

    Attributes:
        dice: in [0, 1]. surface_distance_mm: NaN if either mask is empty.
        created_at: seconds since 1970.
    """

    case_id: str
    first_client: str
    second_client: str
    dice: float
    surface_distance_mm: float
    created_at: float


def reading_tag(client_id: str) -> str:
    """The tag of a client's readings: a name may hold what no tag and no file name can."""
    digest = hashlib.sha256(client_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{_PREFIX}{digest[:_DIGITS]}"


def is_reading_tag(tag: str) -> bool:
    """Whether it is the tag of somebody's readings."""
    return _TAG.fullmatch(tag) is not None


def save_reading(store: Store, record: LabelRecord, *, edited_mm3: float | None = None) -> None:
    """Add or replace a reader's label of a case, whose lease on it ends; one transaction.

    Args:
        store: the study's store.
        record: the label, under `reading_tag` of its client.
        edited_mm3: how much of the prediction that they saw the reader changed; None if none was.

    Raises:
        UnknownCaseError: if the case was never added.
    """
    with store.transaction() as connection:
        require_case(connection, record.case_id)
        add_work(connection, record, edited_mm3=edited_mm3)
        _write_reading(connection, record)


def restore_reading(store: Store, record: LabelRecord) -> None:
    """Add or replace a reader's label of which the mask alone was left.

    What it cost stays as it is told, or is not known.

    Raises:
        UnknownCaseError: if the case was never added.
    """
    with store.transaction() as connection:
        require_case(connection, record.case_id)
        _write_reading(connection, record)


def clients_by_tag(store: Store) -> dict[str, str]:
    """Tag of readings -> client id, of every client who was handed a case or labelled one."""
    rows = store.read().execute(
        """SELECT client_id FROM decisions UNION SELECT client_id FROM labels
        UNION SELECT client_id FROM label_work"""
    )
    return {reading_tag(row["client_id"]): row["client_id"] for row in rows}


def _write_reading(connection: sqlite3.Connection, record: LabelRecord) -> None:
    case_id, client_id = record.case_id, record.client_id
    write_label(connection, record)
    connection.execute(
        """INSERT INTO readings (case_id, client_id, tag) VALUES (?, ?, ?)
        ON CONFLICT (case_id, client_id) DO UPDATE SET settled = 0""",
        (case_id, client_id, record.tag),
    )
    # Not that of a colleague, who got the case after this one's lease had run out.
    connection.execute(
        "DELETE FROM leases WHERE case_id = ? AND client_id = ?", (case_id, client_id)
    )
    refresh_open(connection, [case_id])


_OF_CASE = """SELECT labels.* FROM readings JOIN labels USING (case_id, tag)
    WHERE case_id = ? ORDER BY readings.client_id"""


def readings(store: Store, case_id: str) -> list[LabelRecord]:
    """What each reader made of a case, by client id; empty where nobody reads it for several."""
    return [label_record(row) for row in store.read().execute(_OF_CASE, (case_id,))]


def own_label(store: Store, case_id: str, client_id: str) -> LabelRecord | None:
    """What a client made of a case: their reading, else the final label if it is theirs."""
    own = [record for record in readings(store, case_id) if record.client_id == client_id]
    final = label(store, case_id)
    if not own and final is not None and final.client_id == client_id:
        return final
    return own[0] if own else None


def last_labelled(store: Store, client_id: str) -> str | None:
    """The case that a client labelled last; None if there is none."""
    row = (
        store.read()
        .execute(
            """SELECT case_id FROM labels WHERE client_id = :client AND (tag = 'final' OR EXISTS (
                SELECT 1 FROM readings
                WHERE readings.case_id = labels.case_id AND readings.tag = labels.tag))
            ORDER BY created_at DESC LIMIT 1""",
            {"client": client_id},
        )
        .fetchone()
    )
    return None if row is None else row["case_id"]


def is_blind(store: Store, case_id: str, *, now: float) -> bool:
    """Whether readers must not see what others made of a case: several read it, and not to the end.

    That is: it has no final label yet, or somebody has it in hand again.

    Args:
        store: the study's store.
        case_id: which case.
        now: monotonic seconds.
    """
    row = (
        store.read()
        .execute(
            """SELECT EXISTS (SELECT 1 FROM readings WHERE case_id = :case) AND (
                NOT EXISTS (SELECT 1 FROM labels WHERE case_id = :case AND tag = 'final')
                OR EXISTS (SELECT 1 FROM leases WHERE case_id = :case AND expires_at > :now))""",
            {"case": case_id, "now": now},
        )
        .fetchone()
    )
    return bool(row[0])


def blind_cases(store: Store, *, now: float) -> set[str]:
    """Every case of which `is_blind` is true; one query."""
    rows = store.read().execute(
        """SELECT DISTINCT case_id FROM readings
        WHERE NOT EXISTS (SELECT 1 FROM labels
            WHERE labels.case_id = readings.case_id AND labels.tag = 'final')
        OR EXISTS (SELECT 1 FROM leases
            WHERE leases.case_id = readings.case_id AND expires_at > ?)""",
        (now,),
    )
    return {row["case_id"] for row in rows}


def unsettled(store: Store, *, readers: int, now: float) -> list[str]:
    """Cases whose final label is due to be made, anew if a reading has changed since it was made.

    Those that so many have read, and that nobody has in hand.

    Args:
        store: the study's store.
        readers: so many readings make a final label.
        now: monotonic seconds.
    """
    rows = store.read().execute(
        """SELECT case_id FROM readings
        WHERE case_id IN (SELECT case_id FROM readings WHERE settled = 0)
        AND NOT EXISTS (SELECT 1 FROM leases
            WHERE leases.case_id = readings.case_id AND expires_at > ?)
        GROUP BY case_id HAVING count(*) >= ? ORDER BY case_id""",
        (now, readers),
    )
    return [row["case_id"] for row in rows]


def models_seen(store: Store) -> set[str]:
    """Models whose predictions were seen by readers of cases whose final label is still to come."""
    rows = store.read().execute(
        """SELECT DISTINCT seen_model FROM readings JOIN labels USING (case_id, tag)
        WHERE settled = 0 AND seen_model IS NOT NULL"""
    )
    return {row["seen_model"] for row in rows}


def save_consensus(
    store: Store,
    record: LabelRecord,
    made_of: Sequence[LabelRecord],
    agreements: Sequence[Agreement],
    *,
    now: float,
) -> bool:
    """Add or replace a case's final label that was made of readings; one transaction.

    How far they agree is kept the first time. After that a reader could have looked at the final
    label before changing their own.

    Args:
        store: the study's store.
        record: the final label.
        made_of: all readings of the case.
        agreements: of each pair of them.
        now: monotonic seconds.

    Returns:
        False, and nothing done, if a reading has changed meanwhile, or somebody has the case.
    """
    case_id = record.case_id
    with store.transaction() as connection:
        found = [label_record(row) for row in connection.execute(_OF_CASE, (case_id,))]
        if _digests(found) != _digests(made_of) or _is_held(connection, case_id, now):
            return False
        write_label(connection, record)
        _add_work_of_several(connection, record, found)
        connection.execute("UPDATE readings SET settled = 1 WHERE case_id = ?", (case_id,))
        if not _agreements(connection, case_id):
            connection.executemany(
                "INSERT INTO agreements VALUES (?, ?, ?, ?, ?, ?)", map(_values, agreements)
            )
        refresh_open(connection, [case_id])
    return True


def agreements(store: Store) -> list[Agreement]:
    """How far readers agree, by case and client ids; of cases that are excluded, nothing."""
    rows = store.read().execute(
        """SELECT agreements.* FROM agreements JOIN cases USING (case_id) WHERE excluded IS NULL
        ORDER BY case_id, first_client, second_client"""
    )
    return [_agreement(row) for row in rows]


def _digests(records: Sequence[LabelRecord]) -> list[tuple[str, str]]:
    return sorted((record.client_id, record.digest) for record in records)


def _is_held(connection: sqlite3.Connection, case_id: str, now: float) -> bool:
    row = connection.execute(
        "SELECT 1 FROM leases WHERE case_id = ? AND expires_at > ?", (case_id, now)
    ).fetchone()
    return row is not None


def _add_work_of_several(
    connection: sqlite3.Connection, record: LabelRecord, made_of: Sequence[LabelRecord]
) -> None:
    """A row that tells of the final label whether any of its readers saw a prediction."""
    asked = [
        row["revealed"]
        for reading in made_of
        for row in connection.execute(
            "SELECT revealed FROM label_work WHERE case_id = ? AND label_digest = ? "
            "AND client_id = ?",
            (reading.case_id, reading.digest, reading.client_id),
        )
    ]
    revealed = None if None in asked else int(any(asked))
    connection.execute(
        "INSERT OR REPLACE INTO label_work VALUES (?, ?, ?, NULL, NULL, ?, ?)",
        (record.case_id, record.digest, record.client_id, record.created_at, revealed),
    )


def _agreements(connection: sqlite3.Connection, case_id: str) -> list[sqlite3.Row]:
    return connection.execute("SELECT * FROM agreements WHERE case_id = ?", (case_id,)).fetchall()


def _values(found: Agreement) -> tuple[object, ...]:
    return (
        found.case_id,
        found.first_client,
        found.second_client,
        number_or_null(found.dice),
        number_or_null(found.surface_distance_mm),
        found.created_at,
    )


def _agreement(row: sqlite3.Row) -> Agreement:
    fields = dict(row)
    numbers = {key: null_to_nan(fields[key]) for key in ("dice", "surface_distance_mm")}
    return Agreement(**fields | numbers)
