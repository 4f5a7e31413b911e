"""Masks that people or models made of a case, one a tag; `final` is the reader's."""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fair_strategy.store.database import Store
from fair_strategy.store.encoding import to_json
from fair_strategy.store.errors import UnknownCaseError
from fair_strategy.store.open_rows import refresh_open
from fair_strategy.store.work import (  # noqa: F401 - found here by callers
    SkipRecord,
    WorkRecord,
    add_work,
    progress,
    skip_reasons,
    work,
)

FINAL = "final"


@dataclass(frozen=True)
class LabelRecord:
    """One mask file and who made it.

    Attributes:
        digest: sha256 of the mask's voxels, zero or not; how the file is packed does not matter.
        seen_model: checksum of the model whose prediction the reader started from, if any.
        created_at: seconds since 1970.
    """

    case_id: str
    tag: str
    path: Path
    info: dict[str, Any]
    client_id: str
    created_at: float
    digest: str
    seen_model: str | None


def save_label(
    store: Store, record: LabelRecord, *, by_reader: bool = False, edited_mm3: float | None = None
) -> None:
    """Add or replace the label of (case, tag): row and info in one transaction.

    A final label also ends the case's lease and takes the case out of the plans. Write the mask
    file first: once this returns, the row survives a kill or a power cut.

    Args:
        store: the study's store.
        record: the label.
        by_reader: a final label is work of its client: keep what it cost (`work`).
        edited_mm3: how much of the prediction that they saw the reader changed; None if none was.

    Raises:
        UnknownCaseError: if the case was never added.
    """
    with store.transaction() as connection:
        require_case(connection, record.case_id)
        if by_reader and record.tag == FINAL:
            add_work(connection, record, edited_mm3=edited_mm3)
        write_label(connection, record)
        if record.tag == FINAL:
            connection.execute("DELETE FROM leases WHERE case_id = ?", (record.case_id,))
            refresh_open(connection, [record.case_id])


def write_label(connection: sqlite3.Connection, record: LabelRecord) -> None:
    """The row of a label, inside a transaction."""
    connection.execute(
        "INSERT OR REPLACE INTO labels VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.case_id,
            record.tag,
            str(record.path),
            to_json(record.info),
            record.client_id,
            record.created_at,
            record.digest,
            record.seen_model,
        ),
    )


def require_case(connection: sqlite3.Connection, case_id: str) -> None:
    """UnknownCaseError if the case was never added."""
    if connection.execute("SELECT 1 FROM cases WHERE case_id = ?", (case_id,)).fetchone() is None:
        raise UnknownCaseError(f"there is no case {case_id!r} in this study")


def label(store: Store, case_id: str, tag: str = FINAL) -> LabelRecord | None:
    """The label of a case under a tag; None if there is none."""
    row = (
        store.read()
        .execute("SELECT * FROM labels WHERE case_id = ? AND tag = ?", (case_id, tag))
        .fetchone()
    )
    return None if row is None else label_record(row)


def labels(store: Store, tag: str | None = None) -> list[LabelRecord]:
    """All labels, or those of one tag, by case and tag."""
    rows = store.read().execute(
        "SELECT * FROM labels WHERE tag = coalesce(?, tag) ORDER BY case_id, tag", (tag,)
    )
    return [label_record(row) for row in rows]


def label_record(row: sqlite3.Row) -> LabelRecord:
    """A label from all columns of its row."""
    fields = dict(row)
    return LabelRecord(
        **fields | {"path": Path(fields["path"]), "info": json.loads(fields["info"])}
    )


def delete_label(store: Store, case_id: str, tag: str) -> bool:
    """Remove the row, not the file; False if there was none.

    Without its final label a case opens again in the plans that list it, unless as many readers as
    are asked for have read it: then the final label is due to be made again. How far readers agree
    is forgotten with the reading of one of them.
    """
    return delete_labels(store, case_id, [tag]) == 1


def delete_labels(store: Store, case_id: str, tags: Iterable[str]) -> int:
    """`delete_label` for several tags of a case in one transaction; how many rows there were."""
    with store.transaction() as connection:
        done = sum(_delete_label(connection, case_id, tag) for tag in tags)
        refresh_open(connection, [case_id])
    return done


def _delete_label(connection: sqlite3.Connection, case_id: str, tag: str) -> int:
    done = connection.execute(
        "DELETE FROM labels WHERE case_id = ? AND tag = ?", (case_id, tag)
    ).rowcount
    was_read = connection.execute(
        "DELETE FROM readings WHERE case_id = ? AND tag = ?", (case_id, tag)
    ).rowcount
    if was_read:
        connection.execute("DELETE FROM agreements WHERE case_id = ?", (case_id,))
    if was_read or tag == FINAL:
        connection.execute("UPDATE readings SET settled = 0 WHERE case_id = ?", (case_id,))
    return done


def update_label_info(store: Store, case_id: str, tag: str, info: Mapping[str, Any]) -> None:
    """Merge keys into a label's info; other keys stay.

    Raises:
        UnknownCaseError: if the case has no label of that tag.
    """
    with store.transaction() as connection:
        row = connection.execute(
            "SELECT info FROM labels WHERE case_id = ? AND tag = ?", (case_id, tag)
        ).fetchone()
        if row is None:
            raise UnknownCaseError(f"case {case_id!r} has no label {tag!r}")
        connection.execute(
            "UPDATE labels SET info = ? WHERE case_id = ? AND tag = ?",
            (to_json(json.loads(row["info"]) | dict(info)), case_id, tag),
        )


def labelled_ids(store: Store, tag: str = FINAL) -> list[str]:
    """Ids of the cases with a label of that tag, present or not."""
    rows = store.read().execute("SELECT case_id FROM labels WHERE tag = ? ORDER BY case_id", (tag,))
    return [row["case_id"] for row in rows]
