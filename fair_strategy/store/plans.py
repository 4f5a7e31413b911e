"""Plans: the order in which a strategy hands out cases, with everything it was made from."""

import hashlib
import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fair_strategy.store.database import Store
from fair_strategy.store.encoding import null_to_nan, to_json
from fair_strategy.store.handouts import (  # noqa: F401 - found here by callers
    AUDIT,
    Handout,
    handout,
    percentile_of,
    take_again,
)
from fair_strategy.store.leases import (  # noqa: F401 - found here by callers
    DecisionRecord,
    LeaseRecord,
    Taken,
    decision,
    decisions,
    held_by,
    lease_of,
    leases,
    likely_next,
    models_in_use,
    random_draws,
    release,
    renew,
    renew_all,
    take_next,
)
from fair_strategy.store.open_rows import refresh_plan
from fair_strategy.store.reveals import (  # noqa: F401 - found here by callers
    holder_saw,
    reveal,
    revealed,
    set_seen_model,
)

KEPT_PLANS = 3
_ROWS_AT_ONCE = 2000
_UNFINISHED = ""
"""Strategy of a plan that is being written, or that a killed process left so."""
_LEFT_AFTER_S = 3600.0
"""An hour is longer than any plan is written."""


@dataclass(frozen=True)
class PlanRecord:
    """What a plan was made from; enough to make it again.

    Attributes:
        plan_id: given by `add_plan`; None before.
        model: checksum; None for a strategy that needs no scores.
        weights: by subgroup. performance: the snapshot behind them.
        inputs: the candidates and whatever else the ranking was called with.
        created_at: seconds since 1970.
    """

    plan_id: int | None
    strategy: str
    model: str | None
    settings_version: int
    seed: int
    weights: Mapping[str, Any]
    performance: Mapping[str, Any]
    inputs: Mapping[str, Any]
    created_at: float
    note: str = ""


class PlanRow(NamedTuple):
    """One place in a plan: score in nats, utility, percentile in [0, 100]; NaN if unscored."""

    position: int
    case_id: str
    subgroup: str
    score: float
    utility: float
    percentile: float
    reason: str


@dataclass(frozen=True)
class PlanHead:
    """What tells whether a plan is stale, without its snapshot."""

    plan_id: int
    strategy: str
    model: str | None
    settings_version: int
    created_at: float
    note: str


def add_plan(
    store: Store, record: PlanRecord, plan_rows: Sequence[PlanRow], *, keep: int = KEPT_PLANS
) -> int:
    """Store a plan, which Next Sample follows from now on, and return its id.

    Cases that were labelled, lost or excluded while the plan was made are closed at once. Of the
    strategy's older plans, those beyond the newest `keep` from which nothing was taken are
    deleted; a plan with a decision stays for ever, to be replayed.

    A large plan is written, and deleted, some rows at a time: between two transactions a reader
    who waits for Next Sample gets it. Until its last row is there nobody sees the plan.
    """
    inputs = to_json(record.inputs)
    digest = hashlib.sha256(inputs.encode()).hexdigest()
    columns = (
        _UNFINISHED,
        record.model,
        int(record.settings_version),
        int(record.seed),
        to_json(record.weights),
        to_json(record.performance),
        float(record.created_at),
        record.note,
        digest,
    )
    with store.transaction(wait_for_disk=False) as connection:
        # Plans over one pool share its snapshot.
        connection.execute("INSERT OR IGNORE INTO plan_inputs VALUES (?, ?)", (digest, inputs))
        plan_id = _insert_plan(connection, columns)
        _insert_rows(connection, plan_id, plan_rows[:_ROWS_AT_ONCE])
        if len(plan_rows) <= _ROWS_AT_ONCE:
            _finish(connection, plan_id, record.strategy)
    for start in range(_ROWS_AT_ONCE, len(plan_rows), _ROWS_AT_ONCE):
        with store.transaction(wait_for_disk=False) as connection:
            _insert_rows(connection, plan_id, plan_rows[start : start + _ROWS_AT_ONCE])
            if start + _ROWS_AT_ONCE >= len(plan_rows):
                _finish(connection, plan_id, record.strategy)
    _prune(store, record.strategy, keep)
    return plan_id


def _insert_rows(
    connection: sqlite3.Connection, plan_id: int, plan_rows: Sequence[PlanRow]
) -> None:
    def values(row: PlanRow) -> tuple[object, ...]:
        # SQLite stores NaN as NULL, and a float32 of NumPy's as bytes.
        numbers = float(row.score), float(row.utility), float(row.percentile)
        return (plan_id, int(row.position), row.case_id, row.subgroup, *numbers, row.reason)

    connection.executemany(
        """INSERT INTO plan_rows (plan_id, position, case_id, subgroup, score, utility,
        percentile, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        map(values, plan_rows),
    )


def _finish(connection: sqlite3.Connection, plan_id: int, strategy: str) -> None:
    connection.execute("UPDATE plans SET strategy = ? WHERE plan_id = ?", (strategy, plan_id))
    refresh_plan(connection, plan_id)


def _insert_plan(connection: sqlite3.Connection, columns: tuple[object, ...]) -> int:
    row = connection.execute(
        """INSERT INTO plans (strategy, model, settings_version, seed, weights, performance,
        created_at, note, inputs_digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING plan_id""",
        columns,
    ).fetchone()
    return int(row["plan_id"])


def _prune(store: Store, strategy: str, keep: int) -> None:
    found = store.read().execute(
        """SELECT plan_id FROM plans WHERE (strategy = :strategy
            AND plan_id NOT IN (SELECT plan_id FROM plans WHERE strategy = :strategy
                ORDER BY plan_id DESC LIMIT :keep)
            OR strategy = :unfinished AND created_at < :left)
        AND NOT EXISTS (SELECT 1 FROM decisions WHERE decisions.plan_id = plans.plan_id)""",
        {
            "strategy": strategy,
            "keep": max(keep, 1),
            "unfinished": _UNFINISHED,
            "left": time.time() - _LEFT_AFTER_S,
        },
    )
    for (plan_id,) in found.fetchall():
        while not _deleted(store, plan_id):
            pass


def _deleted(store: Store, plan_id: int) -> bool:
    """Delete some rows of a plan; with the last of them, the plan: whether it is gone."""
    with store.transaction(wait_for_disk=False) as connection:
        rows = connection.execute(
            """DELETE FROM plan_rows WHERE plan_id = :plan AND position IN (
                SELECT position FROM plan_rows WHERE plan_id = :plan LIMIT :some)""",
            {"plan": plan_id, "some": _ROWS_AT_ONCE},
        ).rowcount
        if rows < _ROWS_AT_ONCE:
            connection.execute("DELETE FROM plans WHERE plan_id = ?", (plan_id,))
            connection.execute(
                """DELETE FROM plan_inputs WHERE NOT EXISTS
                (SELECT 1 FROM plans WHERE inputs_digest = digest)"""
            )
    return rows < _ROWS_AT_ONCE


def plan_head(store: Store, strategy: str, *, note: str | None = None) -> PlanHead | None:
    """Head of the strategy's newest plan, or of its newest with that note; None if there is none.

    Cheap at any pool size.
    """
    row = (
        store.read()
        .execute(
            """SELECT plan_id, strategy, model, settings_version, created_at, note FROM plans
            WHERE strategy = ? AND note = coalesce(?, note) ORDER BY plan_id DESC LIMIT 1""",
            (strategy, note),
        )
        .fetchone()
    )
    return None if row is None else PlanHead(**dict(row))


def followed(store: Store) -> set[str]:
    """Strategies from a plan of which a case was handed out."""
    rows = store.read().execute(
        """SELECT DISTINCT strategy FROM plans
        WHERE EXISTS (SELECT 1 FROM decisions WHERE decisions.plan_id = plans.plan_id)"""
    )
    return {strategy for (strategy,) in rows}


def latest_plan(store: Store, strategy: str) -> PlanRecord | None:
    """The strategy's newest plan with its snapshot; None before the first."""
    head = plan_head(store, strategy)
    return None if head is None else plan(store, head.plan_id)


_PLAN = """SELECT plan_id, strategy, model, settings_version, seed, weights, performance, inputs,
    created_at, note FROM plans JOIN plan_inputs ON digest = inputs_digest WHERE plan_id = ?"""


def plan(store: Store, plan_id: int) -> PlanRecord:
    """The plan of that id; LookupError if there is none (never was, or pruned)."""
    row = store.read().execute(_PLAN, (plan_id,)).fetchone()
    if row is None:
        raise LookupError(f"there is no plan {plan_id} in this study")
    fields = dict(row)
    decoded = {key: json.loads(fields[key]) for key in ("weights", "performance", "inputs")}
    return PlanRecord(**fields | decoded)


def rows(store: Store, plan_id: int) -> list[PlanRow]:
    """The rows of a plan by position, whether still open or not."""
    found = store.read().execute(
        """SELECT position, case_id, subgroup, score, utility, percentile, reason
        FROM plan_rows WHERE plan_id = ? ORDER BY position""",
        (plan_id,),
    )
    return [_record(row) for row in found]


def _record(row: sqlite3.Row) -> PlanRow:
    fields = dict(row)
    numbers = {key: null_to_nan(fields[key]) for key in ("score", "utility", "percentile")}
    return PlanRow(**fields | numbers)
