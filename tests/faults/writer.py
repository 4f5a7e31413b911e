"""A process that does nothing but the store's writes, and says each one once it is done.

Everything that it writes is a function of a number, so that what it said can be looked for exactly.
"""

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fair_strategy.store import Store, cases, plans, predictions, scores
from fair_strategy.store.cases import LabelRecord
from fair_strategy.store.database import backup
from fair_strategy.store.plans import PlanRecord, PlanRow
from fair_strategy.store.predictions import StoredPrediction
from fair_strategy.store.scores import ModelRecord, ScoreRecord

STRATEGY = "weighted_entropy"
FINGERPRINT = "10-1"
PER_PLAN = 30
Said = dict[str, Any]


@dataclass(frozen=True)
class Scan:
    case_id: str
    subject_id: str
    path: Path
    fingerprint: str


def scan(number: int) -> Scan:
    name = f"c{number}"
    return Scan(name, f"sub-{number}", Path(f"/images/{name}.nii.gz"), FINGERPRINT)


def label(case_id: str, number: int) -> LabelRecord:
    return LabelRecord(
        case_id=case_id,
        tag=cases.FINAL,
        path=Path(f"/masks/{case_id}.nii.gz"),
        info={"number": number, "comment": "x" * (number % 700)},
        client_id=f"reader-{number % 3}",
        created_at=float(number),
        digest=f"digest-{number}",
        seen_model=None,
    )


def score(case_id: str, number: int) -> tuple[ScoreRecord, np.ndarray]:
    rng = np.random.default_rng(number)
    record = ScoreRecord(
        case_id=case_id,
        fingerprint=FINGERPRINT,
        model=model(number).checksum,
        settings_hash="settings",
        entropies={"entropy": float(rng.random()), "masked_mean": float(rng.random())},
        volume_mm3=float(number),
        flags=("volume",),
        created_at=float(number),
    )
    return record, rng.random(32).astype(np.float16)


def prediction(record: ScoreRecord, number: int) -> StoredPrediction:
    rng = np.random.default_rng(number)
    return StoredPrediction(
        case_id=record.case_id,
        model=record.model,
        shape=(12, 12, 12),
        affine=np.eye(4),
        box=np.array([[2, 10]] * 3),
        mask=rng.random((8, 8, 8)) > 0.5,
        entropy=rng.random((8, 8, 8)).astype(np.float16),
        peaks=(((1.0, 2.0, 3.0), 0.5),),
        flags=(),
        route="slide",
        trust=1.0,
        fingerprint=FINGERPRINT,
    )


def model(number: int) -> ModelRecord:
    generation = number // 5000
    return ModelRecord(
        f"model-{generation}", Path(f"/models/{generation}.pt"), "trained", float(number), {}
    )


def plan(case_ids: list[str], number: int) -> tuple[PlanRecord, list[PlanRow]]:
    record = PlanRecord(
        plan_id=None,
        strategy=STRATEGY,
        model=model(number).checksum,
        settings_version=1,
        seed=number,
        weights={"a": 1.25, "b": 0.75},
        performance={"a": {"mean": 0.8}},
        inputs={"candidates": case_ids},
        created_at=float(number),
    )
    rows = [PlanRow(n, c, "a", 0.5, 0.6, 50.0, "") for n, c in enumerate(case_ids)]
    return record, rows


def write_for_ever(state_dir: str, what: str, first: int, seed: list[int]) -> None:
    """Write until killed, numbering from `first`; `what` is "read" or "score".

    Each line on standard output is one write whose function has returned.
    """
    store = Store.open(Path(state_dir), busy_timeout_s=60.0)
    steps = {"read": _reads, "score": _scores}[what](store, np.random.default_rng(seed))
    for number in itertools.count(first):
        for said in next(steps)(number):
            os.write(1, (json.dumps(said) + "\n").encode())


Step = Callable[[int], Iterator[Said]]


def _scores(store: Store, rng: np.random.Generator) -> Iterator[Step]:
    """As the server's start, its worker and its trainer do: scans, models, scores, plans."""

    def one(number: int) -> Iterator[Said]:
        cases.add(store, scan(number))
        yield {"what": "scan", "case": f"c{number}"}
        record, features = score(f"c{number}", number)
        predictions.write_prediction(store.state_dir, prediction(record, number))
        yield {"what": "prediction", "case": record.case_id, "number": number}
        scores.add_score(store, record, features=features)
        yield {"what": "score", "case": record.case_id, "number": number}
        chance = rng.random()
        if chance < 0.25:
            opened = sorted(cases.unlabelled_ids(store), key=lambda c: -int(c[1:]))[:PER_PLAN]
            made, rows = plan(opened, number)
            yield {"what": "plan", "plan": plans.add_plan(store, made, rows), "number": number}
        elif chance < 0.3:
            scores.add_model(store, model(number))
            scores.publish(store, model(number).checksum)
            yield {"what": "model", "checksum": model(number).checksum}
        elif chance < 0.33:
            backup(store)
            yield {"what": "backup"}

    return itertools.repeat(one)


def _reads(store: Store, rng: np.random.Generator) -> Iterator[Step]:
    """As readers do: take, give back with a reason, label, add to a label's info."""

    def one(number: int) -> Iterator[Said]:
        client = f"reader-{number % 3}"
        taken = plans.take_next(
            store, STRATEGY, client, now=time.monotonic(), lease_s=3600.0, skip_s=0.0,
            shared_client=False,
        )  # fmt: skip
        if taken is None:
            time.sleep(0.02)
            return
        yield {
            "what": "decision", "id": taken.decision_id, "case": taken.case_id, "client": client,
        }  # fmt: skip
        if rng.random() < 0.2:
            now = time.monotonic()
            if plans.release(
                store, taken.case_id, client, now=now, cool_down_s=1.0, reason=f"why {number}"
            ):
                yield {"what": "reason", "reason": f"why {number}"}
            return
        cases.save_label(store, label(taken.case_id, number), by_reader=True, edited_mm3=1.0)
        yield {"what": "label", "case": taken.case_id, "number": number}
        cases.update_label_info(store, taken.case_id, cases.FINAL, {"later": number})
        yield {"what": "label info", "case": taken.case_id, "number": number}

    return itertools.repeat(one)
