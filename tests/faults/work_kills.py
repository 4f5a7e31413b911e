"""kill -9 of scorer and trainer while a reader submits: is every score there, every model?"""

import time
from collections import Counter
from pathlib import Path

import numpy as np

from fair_strategy.config import StudySettings
from fair_strategy.data.volumes import write_mask
from fair_strategy.host.worker import arguments_for
from fair_strategy.learning.checkpoint import ModelError, load_model
from fair_strategy.store import Store, cases, predictions, scores
from fair_strategy.workflows import desk
from fair_strategy.workflows.intake import prepare, refresh
from fair_strategy.workflows.models import publish
from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.study import Study, open_study
from tests.app import cohorts
from tests.faults.nursery import Nursery, is_alive, kill, wait_until_gone
from tests.faults.tally import Kills, Tally

MODULES = (
    "fair_strategy.host.worker", "fair_strategy.workflows.upkeep", "fair_strategy.workflows.rounds",
    "fair_strategy.workflows.study_audit", "mlflow",
)  # fmt: skip
LONGEST_S = {"score": 1.5, "train": 6.0}
READER = "reader"
FINISHES_WITHIN_S = 240.0
DIED = "scoring processes died"


def kill_workers(nursery: Nursery, work: Path, tally: Tally, kills: Kills, *, verb: str) -> None:
    """Kill the worker at a random moment of its work, look, start it again; so many times.

    At the end it is left to finish: what it then says must be what it did.

    Args:
        nursery: has imported `MODULES`.
        work: an empty folder.
        tally: counts.
        kills: how many; one that came too late, after the worker's end, does not count.
        verb: "score" or "train".
    """
    study = _study(work)
    rng = np.random.default_rng(kills.seed)
    while tally.kills < kills.most and not kills.over():
        _see_that_there_is_work(study, work, verb, tally.kills)
        known = committed(study.store)
        pid = _begin(nursery, study, verb, work / "worker.log")
        submitted = _read_until(study, work, time.monotonic() + rng.uniform(0, LONGEST_S[verb]))
        before = committed(study.store)
        if not is_alive(pid):
            continue
        kill(pid)
        answered = Counter({"score": len(before - known), "label": submitted})
        answered["scan left out after three kills, and tried again"] = _as_told(study)
        tally.add(answered, [*lost(study, before), *unsound(study)])
    _see_that_there_is_work(study, work, verb, tally.kills)
    pid = _begin(nursery, study, verb, work / "last.log")
    wait_until_gone(pid, within_s=FINISHES_WITHIN_S)
    last = (work / "last.log").read_text(errors="replace").strip().rpartition("\n")[2]
    if not last.startswith("{"):
        tally.missing.append(f"the last {verb} did not finish: {last[:300]}")
    tally.missing += unsound(study)


def _study(work: Path) -> Study:
    cohorts.write_cohort(work / "studies", per_group=12, labelled=2)
    cohorts.write_model(work / "shipped.pt")
    study = open_study(
        work / "studies",
        StudySettings(train_steps=110, validation_per_group=2),
        state_dir=work / "state",
        shipped_model=work / "shipped.pt",
    )
    prepare(study)
    make_plans(study)
    return study


def _begin(nursery: Nursery, study: Study, verb: str, log: Path) -> int:
    return nursery.start("fair_strategy.host.worker:main", arguments_for(study, verb), output=log)


def _see_that_there_is_work(study: Study, work: Path, verb: str, number: int) -> None:
    current = scores.current_model(study.store)
    assert current is not None
    if verb == "score" and not scores.unscored(study.store, current.checksum, study.settings_hash):
        path = work / "published" / f"{number}.pt"
        checksum = cohorts.write_model(path, number + 1)
        publish(study, path, checksum, origin="uploaded", statistics={})


def _read_until(study: Study, work: Path, end: float) -> int:
    """Take and submit scans; once all are labelled, submit some again. How many were submitted."""
    submitted = 0
    rng = np.random.default_rng(int(end * 1000))
    while time.monotonic() < end:
        handed = desk.next_case(study, "balanced_random", READER)
        case_id = handed.case_id if handed else str(rng.choice(cases.labelled_ids(study.store)))
        path = work / "submitted.nii.gz"
        write_mask(path, rng.random(cohorts.SHAPE) > 0.5, cohorts.AFFINE)
        desk.submit(study, case_id, path, client_id=READER)
        submitted += 1
        time.sleep(0.2)
    return submitted


def _as_told(study: Study) -> int:
    """Touch each scan that was left out because three scorers died at it; how many there were.

    Kills that meet the same scan three times look like a scan that kills. The lead is told to touch
    it, and then it is to be scored.
    """
    out = [c for c in cases.cases(study.store) if DIED in (c.unreadable or "")]
    for case in out:
        case.path.touch()
    if out:
        refresh(study)
    return len(out)


Key = tuple[str, str, str, str]


def committed(store: Store) -> set[Key]:
    """The keys of all scores: model, settings, case, file."""
    rows = store.read().execute("SELECT model, settings_hash, case_id, fingerprint FROM scores")
    return {tuple(row) for row in rows}


def lost(study: Study, before: set[Key]) -> list[str]:
    """Scores that are gone, or whose prediction cannot be read; scans that were left out."""
    now = committed(study.store)
    found = [f"score {key}" for key in before - now]
    kept = {path.parent.name for path in study.state_dir.glob("predictions/*/*.npz")}
    for model, _, case_id, fingerprint in now:
        # Those of all but the last models are removed on purpose.
        if model in kept and not predictions.read_prediction(
            study.state_dir, model, case_id, fingerprint
        ):
            found.append(f"prediction {case_id} of {model[:12]}")
    return found + [
        f"{c.case_id}: {c.unreadable}" for c in cases.cases(study.store) if c.unreadable
    ]


def unsound(study: Study) -> list[str]:
    """Model files that are no models, and models of the store without their file."""
    found = []
    for path in (study.state_dir / "models").glob("*.pt"):
        try:
            if load_model(path).checksum != path.stem:
                found.append(f"{path.name} holds another model")
        except ModelError as error:
            found.append(str(error))
    for record in scores.models(study.store):
        if not record.path.exists() or load_model(record.path).checksum != record.checksum:
            found.append(f"model {record.checksum[:12]} is not at {record.path}")
    return found
