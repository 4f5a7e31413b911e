"""Who works on which case: Next Sample, skip, renewal, and the log of decisions.

Times called `now` are seconds of a monotonic clock, so that a corrected wall clock ends no lease.
That clock restarts with the machine: call `renew_all` when the server starts.
"""

import sqlite3
import time
from dataclasses import dataclass

from fair_strategy.store.database import Store
from fair_strategy.store.encoding import null_to_nan
from fair_strategy.store.handouts import AUDIT
from fair_strategy.store.work import add_skip_reason


@dataclass(frozen=True)
class Taken:
    """A case that was just handed out, and why.

    Attributes:
        percentile: of its uncertainty in the plan's pool, [0, 100]; NaN if unscored.
        model: checksum behind the plan; None if the strategy needs no scores.
        started: others have read it already; plan and position are those of the first of them.
    """

    case_id: str
    plan_id: int
    position: int
    percentile: float
    reason: str
    model: str | None
    strategy: str
    decision_id: int
    started: bool = False


@dataclass(frozen=True)
class LeaseRecord:
    """A case in a client's hands until `expires_at` (monotonic seconds)."""

    case_id: str
    client_id: str
    expires_at: float
    decision_id: int


@dataclass(frozen=True)
class DecisionRecord:
    """One handing out, never changed: `position` in plan `plan_id` went to `client_id`."""

    decision_id: int
    plan_id: int
    position: int
    case_id: str
    client_id: str
    strategy: str
    model: str | None
    created_at: float


def take_next(
    store: Store,
    strategy: str,
    client_id: str,
    *,
    now: float,
    lease_s: float,
    skip_s: float,
    shared_client: bool,
    shown: tuple[str, str] | None = None,
) -> Taken | None:
    """Hand out the first open case of the strategy's newest plan that nobody holds.

    No client gets a case that it has read for several. One that others have read before comes
    first, on the plan row that gave it to the first of them: so all readers of a case see as much
    of its prediction, and whether it was drawn at random does not change with a new plan.

    Lease and decision are one transaction, so no two clients get the same case. A client that
    still holds a case and asks again skips it: it goes back to the others at once and to this
    client after `skip_s`. If only cases in that pause are left for the client, it gets the one
    whose pause ends first rather than nothing.

    Args:
        store: the study's store.
        strategy: whose newest plan is followed.
        client_id: who asks.
        now: monotonic seconds.
        lease_s: how long the case stays with the client unless renewed.
        skip_s: how long a skipped case stays away from the client that skipped it.
        shared_client: the id is used by several people (stock Slicer's `user-xyz`): asking again
            is then another person's click, and releases nothing.
        shown: a case and a model: if this very case is handed out, the client is shown the model's
            prediction of it, except from an audit slot. Noted in the same transaction, because a
            hand-out without it tells of a label drawn unseen (`likely_next` tells for which case
            to ask).

    Returns:
        None if no plan exists, or nothing is left that is neither labelled nor held.
    """
    with store.transaction(wait_for_disk=False) as connection:
        if not shared_client:
            _skip_held(connection, client_id, now=now, skip_s=skip_s)
        # What an expired lease tells (decision, model seen) has rows of its own.
        connection.execute("DELETE FROM leases WHERE expires_at <= ?", (now,))
        connection.execute("DELETE FROM skips WHERE until <= ?", (now,))
        row = _first_row(connection, strategy, client_id)
        if row is None:
            return None
        if shown is not None and row["case_id"] == shown[0] and row["reason"] != AUDIT:
            connection.execute(
                "INSERT OR REPLACE INTO seen_models VALUES (?, ?, ?)",
                (shown[0], client_id, shown[1]),
            )
        return _hand_out(connection, row, client_id, expires_at=now + lease_s)


def likely_next(
    store: Store, strategy: str, client_id: str, *, skip_s: float, shared_client: bool
) -> str | None:
    """The case that `take_next` will hand out unless others are faster or a lease ends; or None.

    Args:
        skip_s, shared_client: as there. Without a pause the case that the client holds, and gives
            back by asking, is open to it again at once.
    """
    released = client_id if skip_s == 0 and not shared_client else None
    row = _first_row(store.read(), strategy, client_id, released=released)
    return None if row is None else str(row["case_id"])


def _skip_held(
    connection: sqlite3.Connection, client_id: str, *, now: float, skip_s: float
) -> None:
    held = connection.execute(
        "DELETE FROM leases WHERE client_id = ? RETURNING case_id, expires_at", (client_id,)
    ).fetchall()
    for row in held:
        if row["expires_at"] > now:
            _pause(connection, client_id, row["case_id"], until=now + skip_s)


def _pause(connection: sqlite3.Connection, client_id: str, case_id: str, *, until: float) -> None:
    connection.execute("INSERT OR REPLACE INTO skips VALUES (?, ?, ?)", (client_id, case_id, until))


_FREE_ROWS = """SELECT plan_rows.*, plans.model, plans.strategy, until, 0 AS started
    FROM plans JOIN plan_rows INDEXED BY plan_rows_open USING (plan_id)
    {join} skips ON skips.client_id = :client AND skips.case_id = plan_rows.case_id
    WHERE plan_id = (SELECT max(plan_id) FROM plans WHERE strategy = :strategy) AND open = 1
    AND NOT EXISTS (SELECT 1 FROM leases
        WHERE leases.case_id = plan_rows.case_id AND leases.client_id IS NOT :released)
    AND NOT EXISTS (SELECT 1 FROM readings
        WHERE readings.case_id = plan_rows.case_id AND readings.client_id = :client)
    """

# A reading without a handout (submitted by hand) brings its case forward in no way.
_STARTED_ROWS = """SELECT plan_rows.*, plans.model, plans.strategy, until, 1 AS started
    FROM readings JOIN decisions ON decision_id = (SELECT max(decision_id) FROM decisions AS own
        WHERE own.case_id = readings.case_id AND own.client_id = readings.client_id)
    JOIN plans USING (plan_id) JOIN plan_rows USING (plan_id, position)
    {join} skips ON skips.client_id = :client AND skips.case_id = readings.case_id
    WHERE settled = 0
    AND NOT EXISTS (SELECT 1 FROM readings AS own
        WHERE own.case_id = readings.case_id AND own.client_id = :client)
    AND NOT EXISTS (SELECT 1 FROM leases
        WHERE leases.case_id = readings.case_id AND leases.client_id IS NOT :released)
    AND EXISTS (SELECT 1 FROM open_cases WHERE open_cases.case_id = readings.case_id)
    """

_FRESH, _PAUSED = "AND until IS NULL ORDER BY {order} LIMIT 1", "ORDER BY until, {order} LIMIT 1"
_FRESH_STARTED, _FRESH_FREE, _PAUSED_STARTED, _PAUSED_FREE = (
    (rows + which.format(order=order)).format(join=join)
    for which, join in ((_FRESH, "LEFT JOIN"), (_PAUSED, "JOIN"))
    for rows, order in ((_STARTED_ROWS, "readings.rowid"), (_FREE_ROWS, "position"))
)


def _first_row(
    connection: sqlite3.Connection, strategy: str, client_id: str, *, released: str | None = None
) -> sqlite3.Row | None:
    """The row to hand out, given that expired leases and pauses are gone.

    Args:
        released: a client whose leases do not count.
    """
    names = {"strategy": strategy, "client": client_id, "released": released}
    for query in (_FRESH_STARTED, _FRESH_FREE):
        row: sqlite3.Row | None = connection.execute(query, names).fetchone()
        if row is not None:
            return row
    paused = [connection.execute(q, names).fetchone() for q in (_PAUSED_STARTED, _PAUSED_FREE)]
    # The newest plan may list a started case, too: of two pauses that end at once the first counts.
    return min((row for row in paused if row), key=lambda row: row["until"], default=None)


def _hand_out(
    connection: sqlite3.Connection, row: sqlite3.Row, client_id: str, *, expires_at: float
) -> Taken:
    decision_id = connection.execute(
        """INSERT INTO decisions (plan_id, position, case_id, client_id, created_at)
        VALUES (?, ?, ?, ?, ?) RETURNING decision_id""",
        (row["plan_id"], row["position"], row["case_id"], client_id, time.time()),
    ).fetchone()["decision_id"]
    connection.execute(
        "INSERT INTO leases VALUES (?, ?, ?, ?)",
        (row["case_id"], client_id, expires_at, decision_id),
    )
    connection.execute(
        "DELETE FROM skips WHERE client_id = ? AND case_id = ?", (client_id, row["case_id"])
    )
    return Taken(
        case_id=row["case_id"],
        plan_id=row["plan_id"],
        position=row["position"],
        percentile=null_to_nan(row["percentile"]),
        reason=row["reason"],
        model=row["model"],
        strategy=row["strategy"],
        decision_id=decision_id,
        started=bool(row["started"]),
    )


def release(
    store: Store,
    case_id: str,
    client_id: str,
    *,
    now: float,
    cool_down_s: float,
    reason: str | None = None,
) -> bool:
    """Give a held case back; for `cool_down_s` this client gets others first.

    Args:
        store: the study's store.
        case_id: what is given back.
        client_id: who holds it.
        now: monotonic seconds.
        cool_down_s: how long the case stays away from this client; 0: not at all.
        reason: kept with the case if given.

    Returns:
        False, and nothing done, if the client does not hold it.
    """
    with store.transaction() as connection:
        done = connection.execute(
            "DELETE FROM leases WHERE case_id = ? AND client_id = ? AND expires_at > ?",
            (case_id, client_id, now),
        ).rowcount
        if done and cool_down_s > 0:
            _pause(connection, client_id, case_id, until=now + cool_down_s)
        if done and reason is not None:
            add_skip_reason(connection, case_id, client_id, reason, time.time())
    return done == 1


def renew(
    store: Store, client_id: str, *, now: float, lease_s: float, case_id: str | None = None
) -> int:
    """Make a client's running leases (or the one on `case_id`) last until now + lease_s.

    Returns:
        How many were renewed; an expired lease is not.
    """
    with store.transaction(wait_for_disk=False) as connection:
        return connection.execute(
            """UPDATE leases SET expires_at = max(expires_at, ?)
            WHERE client_id = ? AND expires_at > ? AND case_id = coalesce(?, case_id)""",
            (now + lease_s, client_id, now, case_id),
        ).rowcount


def renew_all(store: Store, *, now: float, lease_s: float) -> int:
    """Set every lease to end at now + lease_s, and no pause to end later; for the server's start.

    After a restart of the machine the stored times belong to a clock that is gone.

    Returns:
        How many leases there are.
    """
    with store.transaction() as connection:
        connection.execute("UPDATE skips SET until = min(until, ?)", (now + lease_s,))
        return connection.execute("UPDATE leases SET expires_at = ?", (now + lease_s,)).rowcount


def leases(store: Store, now: float) -> list[LeaseRecord]:
    """The leases that have not expired, by case id."""
    rows = store.read().execute(
        "SELECT * FROM leases WHERE expires_at > ? ORDER BY case_id", (now,)
    )
    return [LeaseRecord(**dict(row)) for row in rows]


def lease_of(store: Store, case_id: str) -> LeaseRecord | None:
    """The lease on a case, expired or not (compare `expires_at`); None if it is free."""
    row = store.read().execute("SELECT * FROM leases WHERE case_id = ?", (case_id,)).fetchone()
    return None if row is None else LeaseRecord(**dict(row))


def held_by(store: Store, client_id: str, now: float) -> LeaseRecord | None:
    """What a client got last of what it holds and has not run out; None if it holds nothing."""
    row = (
        store.read()
        .execute(
            """SELECT * FROM leases WHERE client_id = ? AND expires_at > ?
            ORDER BY decision_id DESC LIMIT 1""",
            (client_id, now),
        )
        .fetchone()
    )
    return None if row is None else LeaseRecord(**dict(row))


def models_in_use(store: Store) -> set[str]:
    """Checksums of the models whose predictions are before the readers who hold a case."""
    rows = store.read().execute(
        "SELECT DISTINCT model FROM leases JOIN seen_models USING (case_id, client_id)"
    )
    return {row["model"] for row in rows}


_DECISIONS = """SELECT decision_id, plan_id, position, case_id, client_id, strategy, model,
    decisions.created_at FROM decisions JOIN plans USING (plan_id) """


def decisions(store: Store, limit: int = 100) -> list[DecisionRecord]:
    """The last `limit` decisions, newest first."""
    rows = store.read().execute(_DECISIONS + "ORDER BY decision_id DESC LIMIT ?", (limit,))
    return [DecisionRecord(**dict(row)) for row in rows]


def decision(store: Store, decision_id: int) -> DecisionRecord:
    """The decision of that id; LookupError if there is none."""
    row = store.read().execute(_DECISIONS + "WHERE decision_id = ?", (decision_id,)).fetchone()
    if row is None:
        raise LookupError(f"there is no decision {decision_id} in this study")
    return DecisionRecord(**dict(row))


def random_draws(store: Store) -> set[str]:
    """Ids of the cases last handed out by an audit slot: at random within a subgroup."""
    rows = store.read().execute(
        """SELECT case_id FROM plan_rows JOIN (
            SELECT case_id, plan_id, position, max(decision_id) FROM decisions GROUP BY case_id
        ) USING (case_id, plan_id, position) WHERE reason = ?""",
        (AUDIT,),
    )
    return {row["case_id"] for row in rows}
