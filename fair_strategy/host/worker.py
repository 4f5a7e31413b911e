"""One piece of background work in its own process: ``python -m fair_strategy.host.worker``.

The server starts at most one. It needs no MONAI Label, runs niced, ends when the server does, and
may be killed at any moment: all it does is idempotent and committed step by step. What it prints
are ids and counts; the last line is for the server's log: JSON, or what went wrong.
"""

import argparse
import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fair_strategy.host.sentences import EXPECTED, sentence
from fair_strategy.workflows.exclusive import exclusive
from fair_strategy.workflows.study import Study, open_study

log = logging.getLogger(__name__)

NICENESS = 10


def work_of(verb: str) -> Callable[[Study], dict[str, Any]]:
    """The function behind a verb.

    Raises:
        KeyError: for an unknown verb.
    """
    return {"score": score, "train": train, "compare": compare, "plan": plan}[verb]


def score(study: Study) -> dict[str, Any]:
    """Score what the current model has not scored; then compare labels and make plans."""
    from fair_strategy.workflows.upkeep import score_and_plan

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

    with exclusive(study.state_dir, "train"):
        statistics = train_round(study, steps=steps)
        try:
            audit_current_model(study)
        except (*EXPECTED, OSError) as error:
            log.error("the model was not audited: %s", sentence(error))
    return {key: statistics[key] for key in ("best_metric", "training_cases") if key in statistics}


def arguments_for(study: Study, verb: str) -> list[str]:
    """The command line from which `main` opens the same study; settings come from its store."""
    return [
        verb,
        *("--images", study.location),
        *("--state", str(study.state_dir)),
        *("--model", str(study.shipped_model)),
        *(("--pacs-timeout", str(study.pacs.timeout_s)) if study.pacs else ()),
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
    parser.add_argument("--pacs-timeout", type=float, default=20.0)
    parser.add_argument("--with-parent", action="store_true", help="end when stdin is closed")
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if given.with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(NICENESS)
    try:
        study = open_study(
            given.images,
            state_dir=given.state,
            shipped_model=given.model,
            pacs_timeout_s=given.pacs_timeout,
        )
        done = work_of(given.verb)(study)
    except EXPECTED as error:
        sys.stderr.write(sentence(error) + "\n")
        sys.exit(1)
    sys.stdout.write(json.dumps(done) + "\n")


def _end_with_parent() -> None:
    # The pipe closes however the server ended, kill -9 included.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
