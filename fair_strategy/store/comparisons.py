"""Submitted labels against predictions: what the estimators of group performance are made of."""

import sqlite3
from dataclasses import dataclass

from fair_strategy.store.database import Store
from fair_strategy.store.encoding import null_to_nan, number_or_null


@dataclass(frozen=True)
class ComparisonRecord:
    """Agreement of one final label with one model's prediction.

    Attributes:
        label_digest: sha256 of the label's voxels, so that a corrected label is compared anew.
        dice: in [0, 1]; surface_distance_mm: NaN if either mask is empty.
        seen: the reader started from this very prediction (prequential).
        unchanged: the reader submitted it as it was.
        selection_probability: with which the case was drawn; None if it was not drawn at random.
        created_at: seconds since 1970.
    """

    case_id: str
    model: str
    label_digest: str
    dice: float
    surface_distance_mm: float
    seen: bool
    unchanged: bool
    selection_probability: float | None
    created_at: float


def add_comparison(store: Store, record: ComparisonRecord) -> None:
    """Add a comparison, or replace the one of the same case, model, label and `seen`."""
    with store.transaction() as connection:
        connection.execute(
            "INSERT OR REPLACE INTO comparisons VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.case_id,
                record.model,
                record.label_digest,
                number_or_null(record.dice),
                number_or_null(record.surface_distance_mm),
                int(record.seen),
                int(record.unchanged),
                record.selection_probability,
                record.created_at,
            ),
        )


def comparisons(
    store: Store, *, model: str | None = None, seen: bool | None = None
) -> list[ComparisonRecord]:
    """Comparisons with today's final labels, oldest first, of one model or kind if asked.

    Those with a label that has since been replaced or deleted, and those of an excluded case, are
    left out.
    """
    rows = store.read().execute(
        """SELECT comparisons.* FROM comparisons JOIN labels
            ON labels.case_id = comparisons.case_id AND labels.tag = 'final'
            AND labels.digest = comparisons.label_digest
        JOIN cases ON cases.case_id = comparisons.case_id AND cases.excluded IS NULL
        WHERE model = coalesce(?, model) AND seen = coalesce(?, seen)
        ORDER BY comparisons.created_at, comparisons.case_id, model, seen""",
        (model, None if seen is None else int(seen)),
    )
    return [_record(row) for row in rows]


def uncompared(store: Store) -> list[tuple[str, str, str]]:
    """(case id, model, label digest) of final labels not compared with what their reader saw."""
    rows = store.read().execute(
        """SELECT case_id, seen_model, digest FROM labels
        WHERE tag = 'final' AND seen_model IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM comparisons c WHERE c.case_id = labels.case_id
            AND c.model = labels.seen_model AND c.label_digest = labels.digest AND c.seen = 1)
        ORDER BY created_at, case_id"""
    )
    return [(row["case_id"], row["seen_model"], row["digest"]) for row in rows]


def uncompared_with(store: Store, model: str) -> list[tuple[str, str, str]]:
    """(case id, model, label digest) of final labels that this model has scored but not met.

    That is: a score of the file as it is now exists, and no comparison with `seen` false.
    """
    rows = store.read().execute(
        """SELECT case_id, digest FROM labels JOIN cases USING (case_id)
        WHERE tag = 'final'
        AND EXISTS (SELECT 1 FROM scores s WHERE s.case_id = labels.case_id
            AND s.model = :model AND s.fingerprint = cases.fingerprint)
        AND NOT EXISTS (SELECT 1 FROM comparisons c WHERE c.case_id = labels.case_id
            AND c.model = :model AND c.label_digest = labels.digest AND c.seen = 0)
        ORDER BY case_id""",
        {"model": model},
    )
    return [(row["case_id"], model, row["digest"]) for row in rows]


def label_digests(store: Store) -> list[tuple[str, str]]:
    """(case id, digest) of every label that is known, those that were replaced or deleted too.

    A replaced label of no reader (an imported one) is known if it was compared with a prediction.
    """
    rows = store.read().execute(
        """SELECT case_id, label_digest AS digest FROM label_work
        UNION SELECT case_id, label_digest FROM comparisons
        UNION SELECT case_id, digest FROM labels WHERE tag = 'final'
        ORDER BY case_id, digest"""
    )
    return [(row["case_id"], row["digest"]) for row in rows]


def _record(row: sqlite3.Row) -> ComparisonRecord:
    fields = dict(row)
    return ComparisonRecord(
        **fields
        | {
            "dice": null_to_nan(fields["dice"]),
            "surface_distance_mm": null_to_nan(fields["surface_distance_mm"]),
            "seen": bool(fields["seen"]),
            "unchanged": bool(fields["unchanged"]),
        }
    )
