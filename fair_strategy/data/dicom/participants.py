"""The participants.tsv that stands for the subgroup tags of a PACS; readable by its owner only."""

from __future__ import annotations

import csv
import io
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from fair_strategy.data.cohort import CohortError

ID = "participant_id"
COLUMNS = (ID, "sex", "age", "ethnic_group")
MISSING = "n/a"


def known_subjects(path: Path) -> set[str]:
    """The participant_ids of the table; none without a table."""
    return {row[ID] for row in _read(path)[1]}


def add_participants(path: Path, found: Iterable[tuple[str, Mapping[str, str]]]) -> int:
    """Add subjects to the table, and fill what it did not know of the others; how many it holds.

    A value that stands there stays, whoever wrote it; columns that somebody added stay too. The
    first of several values of one subject counts. The file is either the old or the whole new one.

    Args:
        path: of the table.
        found: participant_id and what its header tells, see `subgroup_columns`.
    Raises:
        CohortError: the table has no column of ids; it is left as it is.
    """
    columns, rows = _read(path)
    by_id = {row[ID]: row for row in rows}
    before = {subject: dict(row) for subject, row in by_id.items()}
    for subject, values in found:
        row = by_id.setdefault(subject, {ID: subject})
        for name in columns:
            if row.get(name, "") in ("", MISSING):
                row[name] = values.get(name) or MISSING
    if by_id != before or not path.exists():
        _write(path, columns, by_id.values())
    return len(by_id)


def remove_participant(path: Path, subject_id: str) -> None:
    """Take a subject's row out of the table, and what a kill left of earlier writing.

    Raises:
        CohortError: the table has no column of ids; it is left as it is.
    """
    columns, rows = _read(path)
    kept = [row for row in rows if row[ID] != subject_id]
    if len(kept) < len(rows):
        _write(path, columns, kept)
    for part in path.parent.glob(f".{path.name}.*.tmp"):
        part.unlink(missing_ok=True)


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    if not path.exists():
        return list(COLUMNS), []
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.DictReader(handle, delimiter="\t", restval="", restkey="")
        rows = [{k: v for k, v in row.items() if k} for row in reader if row.get(ID)]
        named = list(reader.fieldnames or ())
    if ID not in named:
        raise CohortError(f"{path}: no column '{ID}'; name it, or remove the file to make it anew")
    return [*named, *(name for name in COLUMNS if name not in named)], rows


def _write(path: Path, columns: list[str], rows: Iterable[Mapping[str, str]]) -> None:
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, delimiter="\t", restval=MISSING, lineterminator="\n")
    table.writeheader()
    table.writerows(sorted(rows, key=lambda row: row[ID]))
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8", newline="") as handle:
            handle.write(text.getvalue())
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
