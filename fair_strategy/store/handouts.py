"""When and from which row of which plan a client got a case; and handing it out once more."""

import sqlite3
import time
from dataclasses import dataclass

from fair_strategy.store.database import Store
from fair_strategy.store.encoding import null_to_nan
from fair_strategy.store.errors import UnknownCaseError
from fair_strategy.store.open_rows import refresh_open

AUDIT = "audit"
"""Reason of a plan row that was drawn at random within its subgroup."""


@dataclass(frozen=True)
class Handout:
    """The last decision that gave a case to a client, with the row of the plan that it took.

    Attributes:
        percentile: of the case's uncertainty in that plan's pool, [0, 100]; NaN if unscored.
        reason: of the row; it is the study lead's, no reader may see it.
        model: checksum behind the plan; None if the strategy needs no scores.
        created_at: seconds since 1970.
    """

    decision_id: int
    case_id: str
    client_id: str
    strategy: str
    model: str | None
    settings_version: int
    percentile: float
    reason: str
    created_at: float


_HANDOUT = """SELECT decision_id, decisions.case_id, client_id, strategy, model, settings_version,
    percentile, reason, decisions.created_at
    FROM decisions JOIN plans USING (plan_id) JOIN plan_rows USING (plan_id, position)
    WHERE decisions.case_id = ? AND client_id = ? ORDER BY decision_id DESC LIMIT 1"""


def handout(store: Store, case_id: str, client_id: str) -> Handout | None:
    """The client's last handout of a case; None if it never got it by Next Sample."""
    return handout_within(store.read(), case_id, client_id)


def handout_within(connection: sqlite3.Connection, case_id: str, client_id: str) -> Handout | None:
    """As `handout`, inside a transaction."""
    row = connection.execute(_HANDOUT, (case_id, client_id)).fetchone()
    if row is None:
        return None
    fields = dict(row)
    return Handout(**fields | {"percentile": null_to_nan(fields["percentile"])})


def percentile_of(store: Store, case_id: str) -> float:
    """Percentile of a case's uncertainty in the newest plan that lists it; NaN without a score."""
    row = (
        store.read()
        .execute(
            """SELECT percentile FROM plan_rows JOIN plans USING (plan_id)
            WHERE case_id = ? AND percentile IS NOT NULL AND strategy <> ''
            ORDER BY plan_id DESC LIMIT 1""",
            (case_id,),
        )
        .fetchone()
    )
    return null_to_nan(None if row is None else row["percentile"])


def take_again(
    store: Store, case_id: str, client_id: str, *, now: float, lease_s: float
) -> Handout | None:
    """Hand a case out once more to the client that had it: a new decision on the same plan row.

    In one transaction: an exclusion is undone, whatever else the client holds goes back to the
    others without a pause, and the case is leased. A final label stays until another replaces it.

    Args:
        store: the study's store.
        case_id: what to hand out.
        client_id: to whom.
        now: monotonic seconds.
        lease_s: how long the case stays with the client unless renewed.

    Returns:
        None, and nothing done, if a colleague holds the case.

    Raises:
        UnknownCaseError: if the client was never handed the case, so that no plan row tells of it.
    """
    with store.transaction() as connection:
        connection.execute("DELETE FROM leases WHERE expires_at <= ?", (now,))
        if _held_by_another(connection, case_id, client_id):
            return None
        decision_id = _decide_again(connection, case_id, client_id)
        connection.execute("DELETE FROM leases WHERE client_id = ?", (client_id,))
        connection.execute(
            "INSERT INTO leases VALUES (?, ?, ?, ?)",
            (case_id, client_id, now + lease_s, decision_id),
        )
        connection.execute(
            "UPDATE cases SET excluded = NULL, excluded_by = NULL WHERE case_id = ?", (case_id,)
        )
        refresh_open(connection, [case_id])
        return handout_within(connection, case_id, client_id)


def _held_by_another(connection: sqlite3.Connection, case_id: str, client_id: str) -> bool:
    row = connection.execute(
        "SELECT 1 FROM leases WHERE case_id = ? AND client_id <> ?", (case_id, client_id)
    ).fetchone()
    return row is not None


def _decide_again(connection: sqlite3.Connection, case_id: str, client_id: str) -> int:
    row = connection.execute(
        """INSERT INTO decisions (plan_id, position, case_id, client_id, created_at)
        SELECT plan_id, position, case_id, client_id, :now FROM decisions
        WHERE case_id = :case AND client_id = :client ORDER BY decision_id DESC LIMIT 1
        RETURNING decision_id""",
        {"case": case_id, "client": client_id, "now": time.time()},
    ).fetchone()
    if row is None:
        raise UnknownCaseError(f"{case_id!r} was never handed out to this client by Next Sample")
    return int(row["decision_id"])
