"""What a damaged database still tells, taken over into the copy that was put in its place."""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from fair_strategy.store.database import Store
from fair_strategy.store.open_rows import refresh_open
from fair_strategy.store.readings import is_reading_tag

# Parents first. Left out: what is made again from the folder or by the next start.
_TABLES = (
    "settings", "cases", "splits", "models", "scores", "comparisons", "plan_inputs", "plans",
    "plan_rows", "decisions", "labels", "readings", "agreements", "label_work", "reveals",
    "seen_models", "leases", "archive_series", "archive_segmentations", "sent_labels",
)  # fmt: skip

# Rows that change after they were added; every other one is taken if its key is new.
_NEWER_LABEL = """INSERT INTO labels ({names}) VALUES ({marks})
    ON CONFLICT (case_id, tag) DO UPDATE SET path = excluded.path, info = excluded.info,
    client_id = excluded.client_id, created_at = excluded.created_at, digest = excluded.digest,
    seen_model = excluded.seen_model WHERE excluded.created_at >= labels.created_at"""
# Not without its label: it would count as read, and the final label be made of the others alone.
_NEWER_READING = """INSERT INTO readings (case_id, client_id, tag, settled)
    SELECT :case_id, :client_id, :tag, :settled
    WHERE EXISTS (SELECT 1 FROM labels WHERE case_id = :case_id AND tag = :tag)
    ON CONFLICT (case_id, client_id) DO UPDATE SET settled = excluded.settled
    WHERE settled != excluded.settled"""
# A final label that is older than a reading, or lost, was not made of it.
_UNSETTLED = """UPDATE readings SET settled = 0 WHERE settled = 1 AND NOT EXISTS (
    SELECT 1 FROM labels own JOIN labels final USING (case_id)
    WHERE own.case_id = readings.case_id AND own.tag = readings.tag AND final.tag = 'final'
    AND final.created_at >= own.created_at)"""
_EXCLUDED = "UPDATE cases SET excluded = ?, excluded_by = ?, info = ? WHERE case_id = ?"


def salvage(store: Store, bad_file: Path) -> dict[str, int]:
    """Add the rows of a damaged database that can be read and that the store does not have.

    Rows of which a parent is missing are left out. Nobody vouches for what is in the rows: compare
    labels with their masks afterwards.

    Args:
        store: restored from an older copy.
        bad_file: as `Recovery` names it; its write-ahead log beside it is read as well. Both stay
            as they are.
    Returns:
        Number of rows taken by table; tables that gave none are not in it.
    """
    with tempfile.TemporaryDirectory(prefix="salvage-") as folder:
        copy = Path(folder) / bad_file.name
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(f"{bad_file}{suffix}", f"{copy}{suffix}")
        with closing(sqlite3.connect(copy)) as damaged:
            damaged.row_factory = sqlite3.Row
            if _version(damaged) != _version(store.read()):
                return {}
            taken = {table: _take(store, table, list(_rows(damaged, table))) for table in _TABLES}
            _mend_readings(store)
            _take_exclusions(store, list(_rows(damaged, "cases")))
    return {table: count for table, count in taken.items() if count}


def _version(connection: sqlite3.Connection) -> int | None:
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.DatabaseError:
        return None


def _rows(damaged: sqlite3.Connection, table: str) -> Iterator[sqlite3.Row]:
    """The rows up to the first page that cannot be read, then those from the other end."""
    first: set[tuple[object, ...]] = set()
    with suppress(sqlite3.DatabaseError):
        for row in damaged.execute(f"SELECT * FROM {table}"):
            first.add(tuple(row))
            yield row
        return
    if table == "plan_rows":  # has no row numbers
        return
    with suppress(sqlite3.DatabaseError):
        for row in damaged.execute(f"SELECT * FROM {table} ORDER BY rowid DESC"):
            if tuple(row) not in first:
                yield row


def _take(store: Store, table: str, rows: list[sqlite3.Row]) -> int:
    if not rows:
        return 0
    names = rows[0].keys()
    marks = ", ".join("?" * len(names))
    insert = f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({marks})"
    if table == "labels":
        insert = _NEWER_LABEL.format(names=", ".join(names), marks=marks)
    elif table == "readings":
        insert = _NEWER_READING
    taken = 0
    with store.transaction() as connection:
        for row in rows:
            values = dict(row)
            if table == "models":
                values["current"] = 0  # publishing is for who can load it
            with suppress(sqlite3.IntegrityError):
                given = values if table == "readings" else tuple(values.values())
                taken += connection.execute(insert, given).rowcount
        if table in ("labels", "readings"):
            refresh_open(connection, [row["case_id"] for row in rows])
    return taken


def _mend_readings(store: Store) -> None:
    """A reading for each reader's label, settled only by a final label that is not older."""
    with store.transaction() as connection:
        labels = connection.execute("SELECT case_id, client_id, tag FROM labels").fetchall()
        own = [tuple(row) for row in labels if is_reading_tag(row["tag"])]
        connection.executemany(
            "INSERT OR IGNORE INTO readings (case_id, client_id, tag) VALUES (?, ?, ?)", own
        )
        connection.execute(_UNSETTLED)
        refresh_open(connection, {case_id for case_id, _, _ in own})


def _take_exclusions(store: Store, rows: list[sqlite3.Row]) -> None:
    with store.transaction() as connection:
        for row in rows:
            told = (row["excluded"], row["excluded_by"], row["info"], row["case_id"])
            connection.execute(_EXCLUDED, told)
        refresh_open(connection, [row["case_id"] for row in rows])
