"""A study's database as it was after each round, so that a killed run goes on from there."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from fair_strategy.store.database import DATABASE_NAME, Store


def take_snapshot(store: Store, number: int) -> None:
    """Copy the database as it is after round `number`; the copy before that stays."""
    target = _path(store.state_dir, number)
    target.parent.mkdir(exist_ok=True)
    part = target.with_suffix(".part")
    part.unlink(missing_ok=True)
    with closing(sqlite3.connect(part)) as copy:
        store.read().backup(copy)
    os.replace(part, target)
    _path(store.state_dir, number - 2).unlink(missing_ok=True)


def restore_snapshot(state_dir: Path, number: int) -> bool:
    """Set a state directory back to what it was after round `number`.

    Files that came since (masks, predictions, models) may stay: they are found by content, and
    written again where the next round needs them.

    Returns:
        False, and nothing done, if there is no such copy.
    """
    kept = _path(state_dir, number)
    if not kept.exists():
        return False
    for suffix in ("-wal", "-shm", ""):
        (state_dir / f"{DATABASE_NAME}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(kept, state_dir / DATABASE_NAME)
    return True


def _path(state_dir: Path, number: int) -> Path:
    return state_dir / "rounds" / f"{number}.sqlite3"
