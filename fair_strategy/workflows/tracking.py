"""The one adapter to MLflow: runs in an SQLite file of the state directory, never in ./mlruns."""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from fair_strategy.data.sentences import first_line

log = logging.getLogger(__name__)

DATABASE = "mlflow.db"

# No such table, no database at all, damaged.
_UNUSABLE = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)

LogMetrics = Callable[[int, Mapping[str, float]], None]


@contextmanager
def tracked_run(
    state_dir: Path, experiment: str, parameters: Mapping[str, object]
) -> Iterator[LogMetrics]:
    """A run of an experiment; yields the function that logs (step, name -> value).

    The run ends as FINISHED, or as FAILED if the block raises. Read it with
    ``mlflow ui --backend-store-uri sqlite:///STATE_DIR/mlflow.db``. What MLflow cannot do (a kill
    has left its database half made, the disk is full) is said in the log, and stops no training.
    """
    started: list[tuple[Any, str]] = []
    with _said("the run is not tracked"):
        _put_aside_if_empty_or_damaged(state_dir / DATABASE)
        started.append(_start(state_dir, experiment, parameters))

    def log_metrics(step: int, metrics: Mapping[str, float]) -> None:
        for client, run_id in started:
            with _said("not tracked: step %s", step):
                for name, value in metrics.items():
                    client.log_metric(run_id, name, value, step=step)

    status = "FAILED"
    try:
        yield log_metrics
        status = "FINISHED"
    finally:
        for client, run_id in started:
            with _said("the end of the run is not tracked"):
                client.set_terminated(run_id, status=status)


def _put_aside_if_empty_or_damaged(path: Path) -> None:
    """Make room for a new database where MLflow could do nothing with the one that is there.

    It makes its tables in many steps: a kill in between leaves some, which it then makes again, and
    fails. One that holds no run yet is no loss.
    """
    if not path.exists() or _holds_runs(path):
        return
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    path.replace(aside)
    log.warning("%s could not be used, or held no run; it is kept as %s", path.name, aside.name)


def _holds_runs(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        try:
            found = connection.execute("SELECT 1 FROM runs LIMIT 1").fetchone()
        except sqlite3.DatabaseError as error:
            # Locked, or a disk that fails: not a word about what is in it.
            return error.sqlite_errorcode & 0xFF not in _UNUSABLE
    return found is not None


def _start(state_dir: Path, experiment: str, parameters: Mapping[str, object]) -> tuple[Any, str]:
    # Some seconds to import: only who trains pays for it.
    from mlflow import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    client = MlflowClient(tracking_uri=f"sqlite:///{state_dir / DATABASE}")
    found = client.get_experiment_by_name(experiment)
    experiment_id = (
        found.experiment_id
        if found
        else client.create_experiment(
            experiment, artifact_location=(state_dir / "mlflow-artifacts").as_uri()
        )
    )
    run_id = client.create_run(experiment_id).info.run_id
    for name, value in parameters.items():
        client.log_param(run_id, name, value)
    return client, run_id


@contextmanager
def _said(what: str, *values: object) -> Iterator[None]:
    # MLflow raises its own errors, those of SQLAlchemy and of alembic: none is worth a model.
    try:
        yield
    except Exception as error:
        log.error(f"{what}: %s", *values, first_line(error))
