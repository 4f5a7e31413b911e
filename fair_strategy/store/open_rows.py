"""`plan_rows.open`: whether a plan's case may still be handed out, kept by those who change it."""

import sqlite3
from collections.abc import Iterable

# An older plan is history; only the newest of each strategy hands out cases.
_NEWEST_PLANS = "SELECT max(plan_id) FROM plans GROUP BY strategy"


def refresh_open(connection: sqlite3.Connection, case_ids: Iterable[str]) -> None:
    """Recompute `open` of these cases in the newest plan of each strategy."""
    connection.executemany(
        "UPDATE plan_rows SET open = EXISTS (SELECT 1 FROM open_cases "
        "WHERE open_cases.case_id = plan_rows.case_id) "
        f"WHERE case_id = ? AND plan_id IN ({_NEWEST_PLANS})",
        ((case_id,) for case_id in case_ids),
    )


def refresh_plan(connection: sqlite3.Connection, plan_id: int) -> None:
    """Recompute `open` of every row of a plan, whose inputs may have aged while it was made."""
    connection.execute(
        "UPDATE plan_rows SET open = 0 WHERE plan_id = ? "
        "AND case_id NOT IN (SELECT case_id FROM open_cases)",
        (plan_id,),
    )
