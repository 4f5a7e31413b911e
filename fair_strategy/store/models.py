"""Models that the study has used, by checksum; one of them is current."""

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fair_strategy.store.database import Store
from fair_strategy.store.encoding import to_json


@dataclass(frozen=True)
class ModelRecord:
    """One model file.

    Attributes:
        checksum: sha256 of the file's bytes.
        origin: where it comes from, e.g. "pretrained" or "trained".
        created_at: seconds since 1970.
    """

    checksum: str
    path: Path
    origin: str
    created_at: float
    statistics: dict[str, Any]


def add_model(store: Store, record: ModelRecord) -> None:
    """Add a model without publishing it; of a known checksum only the path changes."""
    with store.transaction() as connection:
        connection.execute(
            """INSERT INTO models (checksum, path, origin, created_at, statistics)
            VALUES (?, ?, ?, ?, ?) ON CONFLICT (checksum) DO UPDATE SET path = excluded.path""",
            (
                record.checksum,
                str(record.path),
                record.origin,
                record.created_at,
                to_json(record.statistics),
            ),
        )


def publish(store: Store, checksum: str) -> None:
    """Make a model the current one; LookupError if it was never added."""
    with store.transaction() as connection:
        connection.execute("UPDATE models SET current = 0 WHERE current = 1")
        done = connection.execute("UPDATE models SET current = 1 WHERE checksum = ?", (checksum,))
        if done.rowcount == 0:
            raise LookupError(f"model {checksum} is not in the store; add it before publishing")


def checksums(store: Store) -> list[str]:
    """Of all models, the current one first and then the newest; reads no statistics."""
    rows = store.read().execute(
        "SELECT checksum FROM models ORDER BY current DESC, created_at DESC, checksum DESC"
    )
    return [checksum for (checksum,) in rows]


def current_checksum(store: Store) -> str | None:
    """Checksum of the published model; None before the first."""
    row = store.read().execute("SELECT checksum FROM models WHERE current = 1").fetchone()
    return None if row is None else str(row[0])


def current_model(store: Store) -> ModelRecord | None:
    """The published model; None before the first."""
    row = store.read().execute("SELECT * FROM models WHERE current = 1").fetchone()
    return None if row is None else _record(row)


def models(store: Store) -> list[ModelRecord]:
    """All models, oldest first."""
    rows = store.read().execute("SELECT * FROM models ORDER BY created_at, checksum")
    return [_record(row) for row in rows]


def _record(row: sqlite3.Row) -> ModelRecord:
    return ModelRecord(
        checksum=row["checksum"],
        path=Path(row["path"]),
        origin=row["origin"],
        created_at=row["created_at"],
        statistics=json.loads(row["statistics"]),
    )
