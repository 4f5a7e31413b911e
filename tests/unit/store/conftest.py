"""A store with a handful of cases, and short ways to write records."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fair_strategy.store import Store, cases, database, plans
from fair_strategy.store.cases import LabelRecord
from fair_strategy.store.plans import PlanRecord, PlanRow
from fair_strategy.store.statedir import prepare_directory


@dataclass(frozen=True)
class Scan:
    case_id: str
    subject_id: str
    path: Path
    fingerprint: str


class Study:
    """What the tests do with a store, in few words."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def scans(self, *case_ids: str, fingerprint: str = "10-1") -> list[Scan]:
        return [Scan(c, f"sub-{c}", Path(f"/images/{c}.nii"), fingerprint) for c in case_ids]

    def sync(self, *case_ids: str, fingerprint: str = "10-1") -> cases.Changes:
        return cases.sync(self.store, self.scans(*case_ids, fingerprint=fingerprint))

    def label(self, case_id: str, tag: str = "final", **changes: Any) -> LabelRecord:
        fields: dict[str, Any] = {
            "case_id": case_id,
            "tag": tag,
            "path": Path(f"/masks/{case_id}.nii.gz"),
            "info": {"comment": f"of {case_id}"},
            "client_id": "reader",
            "created_at": 1.5,
            "digest": f"digest of {case_id}",
            "seen_model": None,
        }
        return LabelRecord(**fields | changes)

    def save(self, case_id: str, tag: str = "final", **changes: Any) -> LabelRecord:
        record = self.label(case_id, tag, **changes)
        cases.save_label(self.store, record)
        return record

    def plan(self, *case_ids: str, strategy: str = "weighted_entropy", **changes: Any) -> int:
        fields: dict[str, Any] = {
            "plan_id": None,
            "strategy": strategy,
            "model": "model-a",
            "settings_version": 1,
            "seed": 7,
            "weights": {"a": 1.25, "b": 0.75},
            "performance": {"a": 0.8, "b": 0.9},
            "inputs": {"candidates": [[c, "a", 0.5, []] for c in case_ids]},
            "created_at": 3.0,
        }
        rows = [
            PlanRow(n, c, "a", 0.5, 0.6, 100.0 - n, {1: "quota", 2: "audit"}.get(n, ""))
            for n, c in enumerate(case_ids)
        ]
        return plans.add_plan(self.store, PlanRecord(**fields | changes), rows)

    def take(self, client_id: str, *, now: float = 0.0, **changes: Any) -> str | None:
        """The id of the case that Next Sample hands out."""
        taken = self.taken(client_id, now=now, **changes)
        return None if taken is None else taken.case_id

    def taken(self, client_id: str, *, now: float = 0.0, **changes: Any) -> plans.Taken | None:
        fields: dict[str, Any] = {
            "strategy": "weighted_entropy",
            "lease_s": 60.0,
            "skip_s": 30.0,
            "shared_client": client_id == "user-xyz",
        }
        fields |= changes
        return plans.take_next(self.store, fields.pop("strategy"), client_id, now=now, **fields)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def study(state_dir: Path) -> Study:
    """A study with cases c0 to c5 in a plan of that order."""
    study = Study(Store.open(state_dir))
    ids = [f"c{n}" for n in range(6)]
    study.sync(*ids)
    study.plan(*ids)
    return study


@pytest.fixture
def empty(state_dir: Path) -> Study:
    """A study without cases."""
    return Study(Store.open(state_dir))


@pytest.fixture
def reopened(state_dir: Path) -> Callable[[], Study]:
    """The same state directory opened again, as after a restart."""
    return lambda: Study(Store.open(state_dir))


@pytest.fixture
def of_release(state_dir: Path) -> Callable[[int, str], Store]:
    """Store of a database of that version with some rows, opened by the code of today."""

    def opened(version: int, rows: str) -> Store:
        path = prepare_directory(state_dir) / database.DATABASE_NAME
        with closing(sqlite3.connect(path)) as old:
            for migration in database.MIGRATIONS[:version]:
                for statement in migration:
                    old.execute(statement)
            old.executescript(f"{rows}; PRAGMA user_version = {version}")
            old.commit()
        store = Store.open(state_dir)
        assert store.read().execute("PRAGMA user_version").fetchone()[0] == database.SCHEMA_VERSION
        return store

    return opened
