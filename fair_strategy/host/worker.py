"""One piece of background work in its own process: ``python -m fair_strategy.host.worker``.

The server starts at most one. It needs no MONAI Label, runs niced, ends when the server does, and
may be killed at any moment: all it does is idempotent and committed step by step. What it prints
are ids and counts; the last line is for the server's log: JSON, or what went wrong.
"""

import argparse
import gc
import json
import logging
import os
import resource
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from fair_strategy.host.sentences import EXPECTED, sentence
from fair_strategy.store.faults import storage_fault
from fair_strategy.workflows.attempts import in_hand
from fair_strategy.workflows.exclusive import exclusive
from fair_strategy.workflows.machine import memory_bytes, spare_cores
from fair_strategy.workflows.pacs.keeping import scans_stay
from fair_strategy.workflows.study import Study, open_study

log = logging.getLogger(__name__)

NICENESS = 10
STUCK_S = 3600.0
"""For each pass of the network over a volume; the slowest takes minutes."""


def work_of(verb: str) -> Callable[[Study], dict[str, Any]]:
    """The function behind a verb.

    Raises:
        KeyError: for an unknown verb.
    """
    return {"score": score, "train": train, "compare": compare, "plan": plan}[verb]


def score(study: Study) -> dict[str, Any]:
    """Score what the current model has not scored; then compare labels and make plans."""
    import torch

    from fair_strategy.workflows.upkeep import score_and_plan

    # Threads of one forward pass wait for each other: where readers and a training have the cores,
    # two take ten times the CPU time of one. Scans side by side do not, see pace.pace_on.
    on_cpu = (study.device or "cpu") == "cpu"
    torch.set_num_threads(spare_cores() if on_cpu and study.settings.passes == 1 else 1)
    with exclusive(study.state_dir, "score"):
        return score_and_plan(study)


def compare(study: Study) -> dict[str, Any]:
    """Make the final labels that are due of several readers', then compare labels."""
    from fair_strategy.workflows.double_reading import settle_all
    from fair_strategy.workflows.performance import compare_labels

    settled = settle_all(study)
    return {"compared": compare_labels(study), "settled": settled}


def plan(study: Study) -> dict[str, Any]:
    """Write new plans from the scores that are there."""
    from fair_strategy.workflows.planning import make_plans

    return {"plans": len(make_plans(study))}


def train(study: Study, *, steps: int | None = None) -> dict[str, Any]:
    """Train one round, publish the model and audit it; group figures stay in the state directory.

    A round whose model is published has succeeded: no audit makes it fail.
    """
    from fair_strategy.workflows.rounds import train_round
    from fair_strategy.workflows.study_audit import audit_current_model

    # The audit needs what the training has just had.
    with exclusive(study.state_dir, "train"), scans_stay(study):
        statistics = train_round(study, steps=steps)
        try:
            audit_current_model(study)
        except (*EXPECTED, OSError) as error:
            log.error("the model was not audited: %s", sentence(error))
    return {key: statistics[key] for key in ("best_metric", "training_cases") if key in statistics}


def step_back_beside_a_server() -> None:
    """Readers come first: a process that MONAI Label started for its own training is niced, too."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name == "monailabel.interfaces.utils.app":
        os.nice(NICENESS)


def spare_collector() -> None:
    """Load torch and what needs it, and keep all that out of garbage collection.

    It stays until the process ends. To look through its half a million objects takes 0.3 to 0.7 s
    each time: the thousands of rows of the plans that end a scoring provoke that, and in a server
    all readers wait for it.
    """
    from fair_strategy.workflows import upkeep  # noqa: F401

    gc.collect()
    gc.freeze()


def arguments_for(study: Study, verb: str) -> list[str]:
    """The command line from which `main` opens the same study; settings come from its store."""
    return [
        verb,
        *("--images", study.location),
        *("--state", str(study.state_dir)),
        *("--model", str(study.shipped_model)),
        *(("--device", study.device) if study.device else ()),
        *(("--pacs-timeout", str(study.pacs.timeout_s)) if study.pacs else ()),
        *(("--pacs-keep-gb", str(study.pacs.keep_gb)) if study.pacs else ()),
    ]


def main(argv: list[str] | None = None) -> None:
    """Do one piece of work and print what was done.

    Raises:
        SystemExit: with 1, after one sentence, if the study or its data do not allow the work.
    """
    parser = argparse.ArgumentParser(prog="python -m fair_strategy.host.worker")
    parser.add_argument("verb", choices=("score", "train", "compare", "plan"))
    parser.add_argument("--images", required=True, help="a folder, or the address of a PACS")
    for name in ("--state", "--model"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--device", help="see Study")
    parser.add_argument("--pacs-timeout", type=float, default=20.0)
    parser.add_argument("--pacs-keep-gb", type=float, default=0.0)
    parser.add_argument("--with-parent", action="store_true", help="end when stdin is closed")
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if given.with_parent:
        threading.Thread(target=_end_with_parent, args=(given.state,), daemon=True).start()
        signal.signal(signal.SIGTERM, lambda *_: _end(given.state))
        if given.verb == "score":
            bound_memory()
    os.nice(NICENESS)
    try:
        study = open_study(
            given.images,
            state_dir=given.state,
            shipped_model=given.model,
            pacs_timeout_s=given.pacs_timeout,
            pacs_keep_gb=given.pacs_keep_gb,
            device=given.device,
        )
        if given.verb == "score":  # planning and comparing load no torch
            spare_collector()
            if given.with_parent:
                patience = STUCK_S * study.settings.passes
                watch = (given.state, patience)
                threading.Thread(target=end_if_stuck, args=watch, daemon=True).start()
        done = work_of(given.verb)(study)
    except EXPECTED as error:
        _give_up(sentence(error))
    except (sqlite3.Error, OSError) as error:
        if told := storage_fault(error):
            _give_up(told)
        raise
    sys.stdout.write(json.dumps(done) + "\n")


def _give_up(told: str) -> NoReturn:
    sys.stderr.write(told + "\n")
    sys.exit(1)


def bound_memory(limit: int | None = None) -> None:
    """Let what does not fit into the memory fail here, where a volume can be blamed for it.

    Without a bound the system kills the process, or another one.

    Args:
        limit: bytes; None for the memory of the machine or of the container.
    """
    limit = memory_bytes() if limit is None else limit
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most == resource.RLIM_INFINITY or limit <= most:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def _end_with_parent(state_dir: Path | None = None) -> None:
    # The pipe closes however the server ended, kill -9 included.
    while os.read(sys.stdin.fileno(), 1):
        pass
    _end(state_dir)


def end_if_stuck(state_dir: Path, within_s: float = STUCK_S) -> None:
    """End the process when the same volumes have been in hand for so long; returns never.

    A library that finds no memory may wait for it without end. The next process takes them one by
    one, as after any death.
    """
    before, since = None, time.monotonic()
    while True:
        time.sleep(within_s / 60)
        now = in_hand(state_dir)
        if now is None or now != before:
            before, since = now, time.monotonic()
        elif time.monotonic() - since > within_s:
            try:
                sys.stdout.write(f"no volume was done in {within_s / 60:.0f} minutes: ended\n")
                sys.stdout.flush()
            finally:
                os._exit(1)


def _end(state_dir: Path | None) -> NoReturn:
    from fair_strategy.workflows.attempts import excuse

    if state_dir is not None:
        excuse(state_dir)
    os._exit(1)


if __name__ == "__main__":
    main()
