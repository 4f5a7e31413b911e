"""What the database knows of one person, taken out of it."""

import json
import secrets
import sqlite3
from collections.abc import Mapping, Sequence

from fair_strategy.store.database import Store
from fair_strategy.store.encoding import to_json

# Everything about a case but its place in plans, by which the decisions on others are replayed.
_TABLES = (
    "leases", "seen_models", "skips", "skip_reasons", "reveals", "label_work", "comparisons",
    "scores", "labels", "readings", "agreements", "archive_series", "sent_labels",
)  # fmt: skip


def erase_rows(store: Store, subject_id: str, case_ids: Sequence[str]) -> None:
    """Delete a person's rows in one transaction; what was decided or shown keeps a random name.

    Done again after a kill, it ends what was left.

    No table tells which name stands for whom. A plan's score and subgroup of a nameless case stay:
    without them no decision on anybody else could be replayed.

    Args:
        store: of a study that no server runs on.
        subject_id: the person.
        case_ids: their scans, all of them.
    """
    names = {case_id: f"erased-{secrets.token_hex(8)}" for case_id in case_ids}
    person = f"erased-{secrets.token_hex(8)}"
    with store.transaction() as connection:
        connection.execute("PRAGMA defer_foreign_keys = ON")
        for case_id, name in names.items():
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table} WHERE case_id = ?", (case_id,))
            for table in ("plan_rows", "decisions"):
                connection.execute(
                    f"UPDATE {table} SET case_id = ? WHERE case_id = ?", (name, case_id)
                )
            connection.execute(
                """UPDATE cases SET case_id = ?, subject_id = ?, path = '', fingerprint = '',
                present = 0, unreadable = NULL, excluded = 'erased', excluded_by = NULL, info = '{}'
                WHERE case_id = ?""",
                (name, person, case_id),
            )
        for old, new in {**names, subject_id: person}.items():
            _rename_in_snapshots(connection, old, new)
        _forget_what_plans_are_of(connection)
        connection.execute("DELETE FROM splits WHERE subject_id = ?", (subject_id,))
        _forget_what_may_be_theirs(connection)
        _rename_in_values(connection, names)
    # What was deleted stays in free pages and in the log until they are written anew.
    store.read().execute("VACUUM")
    store.read().execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _rename_in_snapshots(connection: sqlite3.Connection, old: str, new: str) -> None:
    """A snapshot that is changed gets a random key: its digest told what the text was before."""
    quoted = f'"{old}"'
    found = connection.execute(
        "SELECT digest FROM plan_inputs WHERE instr(inputs, ?)", (quoted,)
    ).fetchall()
    for (digest,) in found:
        key = f"erased-{secrets.token_hex(16)}"
        connection.execute(
            "UPDATE plan_inputs SET digest = ?, inputs = replace(inputs, ?, ?) WHERE digest = ?",
            (key, quoted, f'"{new}"', digest),
        )
        connection.execute(
            "UPDATE plans SET inputs_digest = ? WHERE inputs_digest = ?", (key, digest)
        )


def _forget_what_plans_are_of(connection: sqlite3.Connection) -> None:
    """A plan's note is a digest of all scans, which would confirm a guess at the one that is gone.

    Plans of one round still have one note.
    """
    for (note,) in connection.execute("SELECT DISTINCT note FROM plans").fetchall():
        new = f"erased-{secrets.token_hex(8)}"
        connection.execute("UPDATE plans SET note = ? WHERE note = ?", (new, note))


def _forget_what_may_be_theirs(connection: sqlite3.Connection) -> None:
    """UIDs of a PACS that no case stands for: nobody can say whose they are.

    Series that wait for their segmentation, and segmentations that became nobody's mask. They are
    looked up again if the PACS still lists them.
    """
    connection.execute(
        "DELETE FROM archive_series WHERE case_id NOT IN (SELECT case_id FROM cases)"
    )
    connection.execute(
        """DELETE FROM archive_segmentations
        WHERE outcome NOT IN (SELECT 'mask of ' || case_id FROM cases)"""
    )


def _rename_in_values(connection: sqlite3.Connection, names: Mapping[str, str]) -> None:
    """Lists of cases among the single values: a whole value, or the `cases` of a kept figure.

    A kept figure still counts the person. Were the entry taken out, the next figure could come
    without them, as if no scan had changed: the two together would tell of this one person.
    """
    for row in connection.execute("SELECT key, value FROM key_values").fetchall():
        try:
            told = json.loads(row["value"])
        except ValueError:  # a plain text
            continue
        if isinstance(told, list):
            told = [_renamed(entry, names) for entry in told]
        elif isinstance(told, dict) and isinstance(told.get("cases"), list):
            told["cases"] = [_renamed(entry, names) for entry in told["cases"]]
        else:
            continue
        connection.execute(
            "UPDATE key_values SET value = ? WHERE key = ?", (to_json(told), row["key"])
        )


def _renamed(entry: object, names: Mapping[str, str]) -> object:
    """An entry of words, one of which may be an id; ids hold no spaces."""
    if not isinstance(entry, str):
        return entry
    return " ".join(names.get(word, word) for word in entry.split(" "))
