"""Which prediction a reader was shown of a case, and which hidden ones they asked for.

The pre-segmentation of a case from an audit slot stays hidden until its reader asks for it: a label
drawn without having seen it is the cleanest evidence on the model.
"""

import sqlite3
import time

from fair_strategy.store.database import Store
from fair_strategy.store.handouts import AUDIT, handout_within


def set_seen_model(
    store: Store, case_id: str, client_id: str, model: str, *, wait_for_disk: bool = True
) -> None:
    """Remember whose prediction a client was last shown on a case; outlives the lease.

    Of a case from an audit slot this is a reveal too, by whatever way it was shown.

    Args:
        store: the study's store.
        case_id: what was shown.
        client_id: to whom.
        model: checksum.
        wait_for_disk: False with a hand-out, which does not wait, either.
    """
    with store.transaction(wait_for_disk=wait_for_disk) as connection:
        connection.execute(
            "INSERT OR REPLACE INTO seen_models VALUES (?, ?, ?)", (case_id, client_id, model)
        )
        _reveal(connection, case_id, client_id)


def reveal(store: Store, case_id: str, client_id: str) -> None:
    """Record, once, that a client asked for the hidden pre-segmentation of a case.

    Nothing is recorded of a case that this client has not from an audit slot.
    """
    with store.transaction() as connection:
        _reveal(connection, case_id, client_id)


def _reveal(connection: sqlite3.Connection, case_id: str, client_id: str) -> None:
    if revealed_within(connection, case_id, client_id) is False:
        connection.execute(
            "INSERT INTO reveals VALUES (?, ?, ?)", (case_id, client_id, time.time())
        )


def revealed(store: Store, case_id: str, client_id: str) -> bool | None:
    """Whether a client has asked for the hidden pre-segmentation of a case.

    Returns:
        None if it is not hidden: the client has the case not from an audit slot, or not at all.
    """
    return revealed_within(store.read(), case_id, client_id)


def revealed_within(connection: sqlite3.Connection, case_id: str, client_id: str) -> bool | None:
    """As `revealed`, inside a transaction."""
    found = handout_within(connection, case_id, client_id)
    if found is None or found.reason != AUDIT:
        return None
    row = connection.execute(
        "SELECT 1 FROM reveals WHERE case_id = ? AND client_id = ?", (case_id, client_id)
    ).fetchone()
    return row is not None


def holder_saw(store: Store, case_id: str, client_id: str) -> str | None:
    """Checksum of the model whose prediction the client was last shown on a case; None if none."""
    row = (
        store.read()
        .execute(
            "SELECT model FROM seen_models WHERE case_id = ? AND client_id = ?",
            (case_id, client_id),
        )
        .fetchone()
    )
    return None if row is None else row["model"]
