"""How uncertain a model is about each case, keyed so that nothing stale is ever served."""

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fair_strategy.store.comparisons import (  # noqa: F401 - found here by callers
    ComparisonRecord,
    add_comparison,
    comparisons,
    label_digests,
    uncompared,
    uncompared_with,
)
from fair_strategy.store.database import Store
from fair_strategy.store.encoding import null_to_nan, number_or_null, to_json
from fair_strategy.store.listings import digest
from fair_strategy.store.models import (  # noqa: F401 - found here by callers
    ModelRecord,
    add_model,
    checksums,
    current_checksum,
    current_model,
    models,
    publish,
)

_FLOAT16 = np.dtype("<f2")
_LARGEST = float(np.finfo(_FLOAT16).max)


@dataclass(frozen=True)
class ScoreRecord:
    """The score of one case; case, fingerprint, model and settings_hash are its key.

    Attributes:
        entropies: case entropy in nats by variant; NaN where undefined.
        volume_mm3: of the predicted mask.
        flags: names of what is implausible about the prediction.
        created_at: seconds since 1970.
    """

    case_id: str
    fingerprint: str
    model: str
    settings_hash: str
    entropies: Mapping[str, float]
    volume_mm3: float
    flags: tuple[str, ...]
    created_at: float


def add_score(store: Store, record: ScoreRecord, *, features: ArrayLike | None = None) -> None:
    """Add a score, or replace the one of the same key.

    Args:
        features: (D,), what the model makes of the case; kept in float16, beyond its range at its
            limits. None if there are none.
    """
    add_scores(store, [(record, features)])


def add_scores(store: Store, found: Iterable[tuple[ScoreRecord, ArrayLike | None]]) -> None:
    """`add_score` of each, all in one transaction, which does not wait for the disk."""
    rows = [_values(record, features) for record, features in found]
    with store.transaction(wait_for_disk=False) as connection:
        connection.executemany(
            """INSERT OR REPLACE INTO scores (case_id, fingerprint, model, settings_hash,
            entropies, volume_mm3, flags, created_at, features)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            rows,
        )


def _values(record: ScoreRecord, features: ArrayLike | None) -> tuple[object, ...]:
    return (
        record.case_id,
        record.fingerprint,
        record.model,
        record.settings_hash,
        to_json(record.entropies),
        number_or_null(record.volume_mm3),
        to_json(record.flags) if record.flags else "[]",
        record.created_at,
        None if features is None else _to_float16(features).tobytes(),
    )


def scores(store: Store, model: str, settings_hash: str) -> dict[str, ScoreRecord]:
    """Scores by case id under a model and settings, of the files as they are now."""
    rows = store.read().execute(
        """SELECT case_id, fingerprint, model, settings_hash, entropies, volume_mm3, flags,
        created_at FROM scores JOIN cases USING (case_id, fingerprint)
        WHERE model = ? AND settings_hash = ? ORDER BY case_id""",
        (model, settings_hash),
    )
    found = rows.fetchall()
    # Thousands of small texts are parsed as one.
    entropies = json.loads(f"[{','.join(row['entropies'] for row in found)}]")
    return {row["case_id"]: _record(row, own) for row, own in zip(found, entropies, strict=True)}


def features(store: Store, model: str, settings_hash: str) -> dict[str, NDArray[np.float16]]:
    """Features (D,) by case id, as `scores`; a case that was scored without has none."""
    rows = store.read().execute(
        """SELECT case_id, features FROM scores JOIN cases USING (case_id, fingerprint)
        WHERE model = ? AND settings_hash = ? AND features IS NOT NULL ORDER BY case_id""",
        (model, settings_hash),
    )
    return {row["case_id"]: np.frombuffer(row["features"], dtype=_FLOAT16) for row in rows}


def forget_unkept(store: Store, model: str, kept: Collection[str]) -> int:
    """Delete a model's scores of all cases but those of `kept`; of how many cases they were."""
    known = store.read().execute("SELECT DISTINCT case_id FROM scores WHERE model = ?", (model,))
    gone = [(model, case_id) for (case_id,) in known if case_id not in kept]
    if gone:
        with store.transaction() as connection:
            connection.executemany("DELETE FROM scores WHERE model = ? AND case_id = ?", gone)
    return len(gone)


def digest_of_scored(store: Store, model: str, settings_hash: str) -> str:
    """Changes with the cases that `scores` holds; no score is read."""
    query = """SELECT case_id AS told FROM scores JOIN cases USING (case_id, fingerprint)
        WHERE model = ? AND settings_hash = ?"""
    return digest(store, query, (model, settings_hash))


def have_features(store: Store, model: str, settings_hash: str) -> bool:
    """Whether the scores under a model and settings have features, by one of them."""
    row = (
        store.read()
        .execute(
            """SELECT features IS NOT NULL FROM scores WHERE model = ? AND settings_hash = ?
            LIMIT 1""",
            (model, settings_hash),
        )
        .fetchone()
    )
    return row is not None and bool(row[0])


def count_scores(
    store: Store, by: Sequence[str], settings_hash: str, *, case_id: str | None = None
) -> int:
    """How many of the cases present one of these models at least has scored, as files are now.

    Args:
        store: the study's store.
        by: checksums of the models.
        settings_hash: of the scores.
        case_id: count this case alone, present or not: 1 or 0.
    """
    which, named = ("present = 1", ()) if case_id is None else ("case_id = ?", (case_id,))
    row = (
        store.read()
        .execute(
            f"""SELECT count(*) FROM cases WHERE {which} AND EXISTS (SELECT 1 FROM scores
            WHERE model IN ({", ".join("?" * len(by))}) AND settings_hash = ?
            AND scores.case_id = cases.case_id AND scores.fingerprint = cases.fingerprint)""",
            (*named, *by, settings_hash),
        )
        .fetchone()
    )
    return int(row[0])


_UNSCORED = """FROM cases
    WHERE present = 1 AND unreadable IS NULL AND excluded IS NULL AND NOT EXISTS (
        SELECT 1 FROM scores WHERE model = ? AND settings_hash = ?
        AND scores.case_id = cases.case_id AND scores.fingerprint = cases.fingerprint)"""


def unscored(store: Store, model: str, settings_hash: str) -> list[str]:
    """Ids of the cases, labelled ones included, that this model and these settings have not scored.

    Only present, readable cases that are not excluded, as their files are now.
    """
    query = f"SELECT case_id {_UNSCORED} ORDER BY case_id"
    return [case_id for (case_id,) in store.read().execute(query, (model, settings_hash))]


def count_unscored(store: Store, model: str, settings_hash: str) -> int:
    """How many `unscored` lists."""
    query = f"SELECT count(*) {_UNSCORED}"
    return int(store.read().execute(query, (model, settings_hash)).fetchone()[0])


def _to_float16(features: ArrayLike) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        values = np.asarray(features).astype(_FLOAT16)
    if np.isinf(values).any():
        np.clip(values, -_LARGEST, _LARGEST, out=values)
    return values


def _record(row: sqlite3.Row, entropies: dict[str, float]) -> ScoreRecord:
    return ScoreRecord(
        case_id=row["case_id"],
        fingerprint=row["fingerprint"],
        model=row["model"],
        settings_hash=row["settings_hash"],
        entropies=entropies,
        volume_mm3=null_to_nan(row["volume_mm3"]),
        flags=() if row["flags"] == "[]" else tuple(json.loads(row["flags"])),
        created_at=row["created_at"],
    )
