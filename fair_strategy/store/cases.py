"""Scans of the study: which there are, where, whether they can be read, and to which split."""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from fair_strategy.store.database import Store
from fair_strategy.store.encoding import to_json
from fair_strategy.store.errors import UnknownCaseError
from fair_strategy.store.labels import (  # noqa: F401 - found here by callers
    FINAL,
    LabelRecord,
    SkipRecord,
    WorkRecord,
    delete_label,
    delete_labels,
    label,
    labelled_ids,
    labels,
    progress,
    save_label,
    skip_reasons,
    update_label_info,
    work,
)
from fair_strategy.store.listings import (  # noqa: F401 - found here by callers
    count_labels,
    count_present,
    digest_of_files,
    present_ids,
    subjects,
    tags,
)
from fair_strategy.store.open_rows import refresh_open

Split = Literal["select", "audit"]


class ScanLike(Protocol):
    """What a walk of the image folder knows of one scan."""

    @property
    def case_id(self) -> str: ...
    @property
    def subject_id(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class CaseRecord:
    """One scan; `unreadable` and `excluded` are the reason, or None; `excluded_by` is a client."""

    case_id: str
    subject_id: str
    path: Path
    fingerprint: str
    present: bool
    unreadable: str | None
    excluded: str | None
    info: dict[str, Any]
    excluded_by: str | None = None


@dataclass(frozen=True)
class Changes:
    """Case ids that a sync added, found changed (file, place, subject, back again), or missed."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    gone: tuple[str, ...]


def sync(store: Store, scans: Iterable[ScanLike]) -> Changes:
    """Make the cases present exactly those of `scans`, in one transaction.

    Nothing is deleted: a scan that is missing is marked not present and keeps its labels. A file
    with another fingerprint is believed readable again.
    """
    found = {scan.case_id: scan for scan in scans}
    with store.transaction() as connection:
        known = {row["case_id"]: row for row in connection.execute("SELECT * FROM cases")}
        added = sorted(found.keys() - known.keys())
        changed = sorted(c for c in found.keys() & known.keys() if _differs(known[c], found[c]))
        gone = sorted(c for c in known.keys() - found.keys() if known[c]["present"])
        for case_id in (*added, *changed):
            _write(connection, found[case_id])
        connection.executemany("UPDATE cases SET present = 0 WHERE case_id = ?", zip(gone))
        refresh_open(connection, (*changed, *gone))
    return Changes(tuple(added), tuple(changed), tuple(gone))


def add(store: Store, scan: ScanLike) -> None:
    """Add one scan, or bring a known one up to date, without regard to the others."""
    with store.transaction() as connection:
        _write(connection, scan)
        refresh_open(connection, [scan.case_id])


def _differs(row: sqlite3.Row, scan: ScanLike) -> bool:
    stored = (row["subject_id"], row["path"], row["fingerprint"], row["present"])
    return stored != (scan.subject_id, str(scan.path), scan.fingerprint, 1)


def _write(connection: sqlite3.Connection, scan: ScanLike) -> None:
    connection.execute(
        """INSERT INTO cases (case_id, subject_id, path, fingerprint) VALUES (?, ?, ?, ?)
        ON CONFLICT (case_id) DO UPDATE SET
            subject_id = excluded.subject_id, path = excluded.path, present = 1,
            unreadable = CASE fingerprint WHEN excluded.fingerprint THEN unreadable END,
            fingerprint = excluded.fingerprint""",
        (scan.case_id, scan.subject_id, str(scan.path), scan.fingerprint),
    )


def case(store: Store, case_id: str) -> CaseRecord:
    """The case of that id; UnknownCaseError if there never was one."""
    row = store.read().execute("SELECT * FROM cases WHERE case_id = ?", (case_id,)).fetchone()
    if row is None:
        raise UnknownCaseError(f"there is no case {case_id!r} in this study")
    return _record(row)


def cases(store: Store) -> list[CaseRecord]:
    """All cases ever seen, by id; `present` tells those that are there now."""
    return [_record(row) for row in store.read().execute("SELECT * FROM cases ORDER BY case_id")]


def case_by_path(store: Store, path: Path | str) -> CaseRecord | None:
    """The present case whose file is `path` (as the walk gave it); None if there is none."""
    row = (
        store.read()
        .execute("SELECT * FROM cases WHERE path = ? AND present = 1", (str(path),))
        .fetchone()
    )
    return None if row is None else _record(row)


def _record(row: sqlite3.Row) -> CaseRecord:
    return CaseRecord(
        case_id=row["case_id"],
        subject_id=row["subject_id"],
        path=Path(row["path"]),
        fingerprint=row["fingerprint"],
        present=bool(row["present"]),
        unreadable=row["unreadable"],
        excluded=row["excluded"],
        info=json.loads(row["info"]),
        excluded_by=row["excluded_by"],
    )


def update_info(store: Store, case_id: str, info: Mapping[str, Any]) -> None:
    """Merge keys into a case's info; other keys stay. UnknownCaseError if there is no such case."""
    with store.transaction() as connection:
        row = connection.execute("SELECT info FROM cases WHERE case_id = ?", (case_id,)).fetchone()
        if row is None:
            raise UnknownCaseError(f"there is no case {case_id!r} in this study")
        merged = json.loads(row["info"]) | dict(info)
        connection.execute(
            "UPDATE cases SET info = ? WHERE case_id = ?", (to_json(merged), case_id)
        )


def mark_unreadable(store: Store, case_id: str, fingerprint: str, reason: str) -> bool:
    """Take a file that cannot be read out of every queue, until it is replaced.

    Returns:
        False, and nothing done, if the file has been replaced since (another fingerprint).
    """
    with store.transaction() as connection:
        done = connection.execute(
            "UPDATE cases SET unreadable = ? WHERE case_id = ? AND fingerprint = ?",
            (reason, case_id, fingerprint),
        ).rowcount
        refresh_open(connection, [case_id])
    return done == 1


def exclude(store: Store, case_id: str, reason: str | None, *, by: str | None = None) -> None:
    """Take a case out of the study for a reason, or (None) put it back; its labels stay.

    While it is out nobody holds it, nobody is handed it, and its label is neither trained on nor
    counted.

    Args:
        store: the study's store.
        case_id: which case.
        reason: why; None puts the case back.
        by: the client who says so.

    Raises:
        UnknownCaseError: if there is no such case.
    """
    with store.transaction() as connection:
        done = connection.execute(
            "UPDATE cases SET excluded = ?, excluded_by = ? WHERE case_id = ?",
            (reason, None if reason is None else by, case_id),
        ).rowcount
        if not done:
            raise UnknownCaseError(f"there is no case {case_id!r} in this study")
        if reason is not None:
            connection.execute("DELETE FROM leases WHERE case_id = ?", (case_id,))
        refresh_open(connection, [case_id])


def unlabelled_ids(store: Store) -> list[str]:
    """Ids of cases a reader may be asked for: present, readable, not excluded, no final label."""
    rows = store.read().execute("SELECT case_id FROM open_cases ORDER BY case_id")
    return [row["case_id"] for row in rows]


def splits(store: Store) -> dict[str, Split]:
    """The frozen validation subjects and their half; every other subject trains."""
    rows = store.read().execute("SELECT subject_id, split FROM splits ORDER BY subject_id")
    return {row["subject_id"]: row["split"] for row in rows}


def freeze_split(store: Store, split_of: Mapping[str, Split]) -> None:
    """Add validation subjects, all or none; a subject never changes its half.

    Raises:
        ValueError: if a subject is already in the other half, or a half is unknown.
    """
    with store.transaction() as connection:
        for subject_id, split in split_of.items():
            if split not in ("select", "audit"):
                raise ValueError(f"split of {subject_id} is {split!r}; it is 'select' or 'audit'")
            connection.execute("INSERT OR IGNORE INTO splits VALUES (?, ?)", (subject_id, split))
            kept = connection.execute(
                "SELECT split FROM splits WHERE subject_id = ?", (subject_id,)
            ).fetchone()["split"]
            if kept != split:
                raise ValueError(
                    f"{subject_id} is frozen in the {kept!r} half and cannot move to {split!r}"
                )
