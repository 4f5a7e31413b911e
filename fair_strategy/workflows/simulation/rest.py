"""The same annotator against a running server: what it is given must be what the run picked."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fair_strategy.config import StudySettings
from fair_strategy.data import bids
from fair_strategy.workflows.simulation.annotator import annotate
from fair_strategy.workflows.simulation.cohorts import KnownCohort, first_labelled
from fair_strategy.workflows.simulation.first_models import Workspace, pool_of, random_weights
from fair_strategy.workflows.simulation.plan import Run

MODEL = "caudate"
FINAL, ORIGINAL = "final", "original"
"""Tags of what a reader submitted and of what the model says."""
TRAINING_ENDED = ("DONE", "ERROR", "REVOKED", "CANCELED")

MAIN = '''"""The study of a simulation, behind MONAI Label."""

from monailabel.interfaces.app import MONAILabelApp

from fair_strategy.host.app import FairAppMixin


class Simulated(FairAppMixin, MONAILabelApp):
    """MONAI Label looks for a direct subclass of its app in this file."""
'''


class ReadersClient(Protocol):
    """What the stock Slicer plugin's client offers, as far as an annotator needs it."""

    def info(self) -> dict[str, Any]: ...

    def datastore(self) -> dict[str, Any]: ...

    def next_sample(self, strategy: str, params: dict[str, Any]) -> dict[str, Any]: ...

    def save_label(self, image_id: str, label_in: str, tag: str, params: dict[str, Any]) -> Any: ...

    def infer(self, model: str, image_id: str, params: dict[str, Any]) -> tuple[str, Any]: ...

    def train_start(self, model: str, params: dict[str, Any]) -> Any: ...

    def train_status(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class ServedFolder:
    """What a server needs to serve a run: app, scans with the first labels, state, options."""

    app: Path
    studies: Path
    state: Path
    conf: tuple[tuple[str, str], ...]

    def command(self) -> str:
        """How to start the server."""
        options = " ".join(f"--conf {name} {value}" for name, value in self.conf)
        return (
            "OMP_NUM_THREADS=1 monailabel start_server --host 127.0.0.1 "
            f"--app {self.app} --studies {self.studies} {options}"
        )


def served_folder(workspace: Workspace, run: Run) -> ServedFolder:
    """Write what a server needs to serve a run, or find it.

    The scans lie there without their truth; the first labelled ones have a mask, which the server
    imports. The model is the random weights from which the run's trainings start.

    Raises:
        ValueError: as `check_served`.
    """
    check_served(run)
    pool, root = pool_of(workspace, run), _root(workspace, run)
    folder = ServedFolder(
        app=root / "app",
        studies=root / "scans",
        state=root / "state",
        conf=(("state_dir", str(root / "state")), *conf_pairs(run.study_settings())),
    )
    if not folder.studies.exists():
        (folder.app / "model").mkdir(parents=True, exist_ok=True)
        (folder.app / "main.py").write_text(MAIN, encoding="utf-8")
        shutil.copy(random_weights(workspace, run, 0), folder.app / "model" / "pretrained.pt")
        _write_scans(pool, first_labelled(pool, _start(run), seed=run.stream(0)), folder.studies)
    return folder


def check_served(run: Run) -> None:
    """Whether a server can play a run.

    Raises:
        ValueError: for the arm `whole_pool`, for arms that carry weights over and where each round
            has random streams of its own: no server does that.
    """
    if run.is_floor or run.block.carry_over:
        raise ValueError(f"arm {run.arm!r}: no server trains so; choose another arm")
    if run.simulation.streams != "by_run":
        raise ValueError(
            "streams: a server's study has one seed for all its rounds; set `streams: by_run`"
        )


def conf_pairs(settings: StudySettings) -> list[tuple[str, str]]:
    """The ``--conf`` options that differ from the defaults."""
    plain = StudySettings()
    changed = [n for n in StudySettings.model_fields if getattr(settings, n) != getattr(plain, n)]
    return [(name, _text(getattr(settings, name))) for name in changed]


def play_via_rest(
    workspace: Workspace,
    run: Run,
    client: ReadersClient,
    *,
    patience_s: float = 3600.0,
    poll_s: float = 1.0,
) -> list[list[str]]:
    """Train, ask, annotate and submit through a server; the case ids of each round.

    Asks again and again until the scan comes from scores of the newest model, as a reader does
    who drinks a coffee while the server scores. That is exact where nothing but a new model
    changes a plan: estimators that learn from labels in between re-plan in the background.

    Args:
        client: of the stock plugin, connected to a server that was started on `served_folder`.
        patience_s: for one training, and for one scan.
    Raises:
        TimeoutError: if either takes longer.
        ValueError: if a training fails, or if the server serves something else (`check_server`).
    """
    check_server(workspace, run, client)
    pool, picked = pool_of(workspace, run), []
    for _ in range(run.simulation.rounds):
        _train(client, patience_s, poll_s)
        batch: list[str] = []
        for _ in range(run.simulation.budget):
            case_id = _next(client, run.block.strategy, patience_s, poll_s)
            if case_id is None:
                break
            _submit(client, workspace, run, pool, case_id)
            batch.append(case_id)
        picked.append(batch)
    return picked


def check_server(workspace: Workspace, run: Run, client: ReadersClient) -> None:
    """Refuse a server of anything but the run's scans with their first labels; only reads from it.

    A study of patients must neither be trained on in passing nor get synthetic masks.

    Raises:
        ValueError: if its app has not what is needed, or its datastore holds other scans than the
            run's pool or other labels than the first ones.
    """
    _check_app(run, client.info())
    pool = pool_of(workspace, run)
    objects = client.datastore().get("objects", {})
    if objects.keys() != pool.cases.keys():
        raise ValueError(
            f"the server's {len(objects)} scans are not the {len(pool.cases)} of run {run.name}, "
            "and nothing was sent to it: is the URL right?"
        )
    first = set(first_labelled(pool, _start(run), seed=run.stream(0)))
    labelled = {case_id for case_id, held in objects.items() if held["labels"].keys() - {ORIGINAL}}
    if labelled > first:
        raise ValueError(
            f"the state was used: the server has {len(labelled)} labels, of which the run starts "
            f"with {len(first)}; end it and delete {_root(workspace, run) / 'state'}, or give "
            "another --out"
        )
    if labelled != first:
        raise ValueError(
            f"the server's {len(labelled)} labels are not the {len(first)} that run {run.name} "
            "starts with, and nothing was sent to it: is it the server of another run?"
        )


def picked_offline(shard: dict[str, Any]) -> list[list[str]]:
    """The case ids of each round of a finished run."""
    return [[p["case_id"] for p in done["selected"]] for done in shard["rounds"][1:]]


def _submit(
    client: ReadersClient, workspace: Workspace, run: Run, pool: KnownCohort, case_id: str
) -> None:
    mask = annotate(
        run.block.annotator,
        pool.cases[case_id],
        shown=lambda: Path(client.infer(MODEL, case_id, {})[0]),
        seed=run.seed,
        folder=_root(workspace, run) / "annotated",
    )
    client.save_label(case_id, str(mask), FINAL, {})


def _train(client: ReadersClient, patience_s: float, poll_s: float) -> None:
    client.train_start(MODEL, {})

    def ended() -> str | None:
        status = str(client.train_status().get("status"))
        return status if status in TRAINING_ENDED else None

    status = _waited(ended, "training", patience_s, poll_s)
    if status != "DONE":
        raise ValueError(f"the server's training ended as {status}; its log says why")


def _next(client: ReadersClient, strategy: str, patience_s: float, poll_s: float) -> str | None:
    def handed() -> dict[str, Any] | None:
        sample = client.next_sample(strategy, {})
        fresh = not sample.get("stale") and sample.get("served_by") == strategy
        return sample if fresh or "id" not in sample else None

    return _waited(handed, "a scan by the newest model's scores", patience_s, poll_s).get("id")


def _waited(condition: Callable[[], Any], what: str, patience_s: float, poll_s: float) -> Any:
    end = time.monotonic() + patience_s
    while True:
        found = condition()
        if found is not None:
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {patience_s:.0f} s; see the server's log")
        time.sleep(poll_s)


def _check_app(run: Run, info: dict[str, Any]) -> None:
    for kind, name in (
        ("models", MODEL),
        ("trainers", MODEL),
        ("strategies", run.block.strategy),
    ):
        if name not in info.get(kind, {}):
            raise ValueError(
                f"the server offers no {name!r} among its {kind}, and nothing was sent to it: "
                "is the URL right?"
            )


def _root(workspace: Workspace, run: Run) -> Path:
    return workspace.out / "rest" / run.name


def _start(run: Run) -> Any:
    return run.simulation.starts[run.start]


def _write_scans(pool: KnownCohort, labelled: list[str], target: Path) -> None:
    """Copy scans and table, whole or not at all."""
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for case in pool.cases.values():
        image = partial / case.image.relative_to(pool.folder)
        image.parent.mkdir(parents=True)
        shutil.copy2(case.image, image)
    for case_id in labelled:
        mask = partial / "derivatives" / "labels" / bids.mask_name(case_id, "manual")
        mask.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pool.cases[case_id].truth, mask)
    for name in ("participants.tsv", "dataset_description.json"):
        shutil.copy(pool.folder / name, partial / name)
    os.replace(partial, target)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join("=".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in value)
    return str(value)
