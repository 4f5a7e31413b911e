"""The one adapter to MLflow: runs in an SQLite file of the state directory, never in ./mlruns."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

LogMetrics = Callable[[int, Mapping[str, float]], None]


@contextmanager
def tracked_run(
    state_dir: Path, experiment: str, parameters: Mapping[str, object]
) -> Iterator[LogMetrics]:
    """A run of an experiment; yields the function that logs (step, name -> value).

    The run ends as FINISHED, or as FAILED if the block raises. Read it with
    ``mlflow ui --backend-store-uri sqlite:///STATE_DIR/mlflow.db``.
    """
    # Some seconds to import: only who trains pays for it.
    from mlflow import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    client = MlflowClient(tracking_uri=f"sqlite:///{state_dir / 'mlflow.db'}")
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

    def log_metrics(step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            client.log_metric(run_id, name, value, step=step)

    try:
        yield log_metrics
    except BaseException:
        client.set_terminated(run_id, status="FAILED")
        raise
    client.set_terminated(run_id)
