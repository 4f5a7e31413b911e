"""kill -9 of processes that only write to the store: is what they had said still there?"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fair_strategy.store import Store, cases, plans, predictions, scores
from tests.faults import writer
from tests.faults.nursery import Nursery, kill
from tests.faults.tally import Kills, Tally

MODULES = ("tests.faults.writer",)
_NUMBERS_EACH = 1_000_000
_LONGEST_S = 0.25


def kill_writers(nursery: Nursery, work: Path, tally: Tally, kills: Kills) -> None:
    """Kill one of two writers at a random moment, look, start it again; so many times.

    The other writes on: a kill comes while the database is in use.

    Args:
        nursery: has imported `MODULES`.
        work: an empty folder.
        tally: counts.
        kills: how many, and of which seed.
    """
    state = work / "state"
    Store.open(state).close()
    rng = np.random.default_rng(kills.seed)
    books: list[writer.Said] = []
    slots = {what: _begin(nursery, work, what, 0, kills.seed) for what in ("score", "read")}
    for number in kills.numbers():
        what = ("score", "read")[int(rng.integers(2))]
        pid, said = slots[what]
        _wait_for_a_word(said)
        time.sleep(float(rng.uniform(0, _LONGEST_S)))
        kill(pid)
        heard = read(said)
        books += heard
        tally.add(Counter(s["what"] for s in heard), missing(state, heard))
        slots[what] = _begin(nursery, work, what, number + 1, kills.seed)
    kill(*(pid for pid, _ in slots.values()))
    tally.missing += [f"at the end: {m}" for m in missing(state, books)]
    tally.missing += incoherent(state)


def _begin(nursery: Nursery, work: Path, what: str, number: int, seed: int) -> tuple[int, Path]:
    said = work / f"said-{number}-{what}.jsonl"
    said.touch()
    first = _NUMBERS_EACH * (2 * number + (what == "read"))
    arguments = (work / "state", what, first, [seed, number])
    return nursery.start("tests.faults.writer:write_for_ever", *arguments, output=said), said


def _wait_for_a_word(said: Path, within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while not said.stat().st_size:
        if time.monotonic() > end:
            raise TimeoutError(f"{said}: no write within {within_s} s")
        time.sleep(0.002)


def read(said: Path) -> list[writer.Said]:
    """The lines of a writer; the last may be cut short by the kill, and was then not said."""
    lines = said.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def missing(state: Path, said: list[writer.Said]) -> list[str]:
    """What was said to be written and is not there, or not as it was written."""
    store = Store.open(state)
    found = [] if store.recovery is None else [f"restored: {store.recovery.problem}"]
    there = _Shelves(store)
    found += [json.dumps(s) for s in said if not there.has(s)]
    store.close()
    return found


class _Shelves:
    """All that a store holds, read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._scans = {c.case_id for c in cases.cases(store)}
        self._labels = {r.case_id: r for r in cases.labels(store)}
        self._decisions = {d.decision_id: d for d in plans.decisions(store, limit=10**9)}
        self._leases = {lease.case_id: lease for lease in plans.leases(store, 0.0)}
        self._reasons = {r.reason for r in cases.skip_reasons(store)}
        self._models = {m.checksum for m in scores.models(store)}
        self._works = {w.label_digest for w in cases.work(store)}
        self._scores = {
            checksum: scores.scores(store, checksum, "settings") for checksum in _checksums(store)
        }

    def has(self, said: writer.Said) -> bool:
        return bool(getattr(self, "_" + said["what"].replace(" ", "_"))(said))

    def _scan(self, said: writer.Said) -> bool:
        return said["case"] in self._scans

    def _label(self, said: writer.Said) -> bool:
        kept, wanted = self._labels.get(said["case"]), writer.label(said["case"], said["number"])
        if kept is None or wanted.digest not in self._works or said["case"] in self._leases:
            return False
        info = {k: v for k, v in kept.info.items() if k != "later"}
        return (kept.digest, kept.client_id, info) == (wanted.digest, wanted.client_id, wanted.info)

    def _label_info(self, said: writer.Said) -> bool:
        kept = self._labels.get(said["case"])
        return kept is not None and kept.info.get("later") == said["number"]

    def _decision(self, said: writer.Said) -> bool:
        kept = self._decisions.get(said["id"])
        return kept is not None and (kept.case_id, kept.client_id) == (said["case"], said["client"])

    def _reason(self, said: writer.Said) -> bool:
        return said["reason"] in self._reasons

    def _score(self, said: writer.Said) -> bool:
        wanted, _ = writer.score(said["case"], said["number"])
        return self._scores.get(wanted.model, {}).get(said["case"]) == wanted

    def _prediction(self, said: writer.Said) -> bool:
        record, _ = writer.score(said["case"], said["number"])
        kept = predictions.read_prediction(
            self._store.state_dir, record.model, record.case_id, record.fingerprint
        )
        wanted = writer.prediction(record, said["number"])
        return kept is not None and bool(np.array_equal(kept.mask, wanted.mask))

    def _model(self, said: writer.Said) -> bool:
        return said["checksum"] in self._models

    def _plan(self, said: writer.Said) -> bool:
        newest = plans.plan_head(self._store, writer.STRATEGY)
        return newest is not None and newest.plan_id >= said["plan"]

    def _backup(self, said: writer.Said) -> bool:
        return any((self._store.state_dir / "backups").glob("state-*.sqlite3"))


def _checksums(store: Store) -> list[str]:
    rows = store.read().execute("SELECT DISTINCT model FROM scores")
    return [row["model"] for row in rows]


def incoherent(state: Path) -> list[str]:
    """Half-done things: a lease without its decision, a plan without some of its rows."""
    store = Store.open(state)
    found = [f"foreign key: {tuple(r)}" for r in store.read().execute("PRAGMA foreign_key_check")]
    found += [f"plan {p}" for p in _cut_plans(store)]
    found += [f"open though labelled: {c}" for c in _open_though_labelled(store)]
    store.close()
    return found


def _cut_plans(store: Store) -> Iterator[int]:
    for (plan_id,) in store.read().execute("SELECT plan_id FROM plans"):
        wanted = plans.plan(store, plan_id).inputs["candidates"]
        if [r.case_id for r in plans.rows(store, plan_id)] != wanted:
            yield plan_id


def _open_though_labelled(store: Store) -> list[str]:
    rows = store.read().execute(
        """SELECT case_id FROM plan_rows WHERE open = 1
        AND plan_id = (SELECT max(plan_id) FROM plans)
        AND case_id IN (SELECT case_id FROM labels WHERE tag = 'final')"""
    )
    return [row["case_id"] for row in rows]
