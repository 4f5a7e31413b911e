import sqlite3

import pytest

from fair_strategy.workflows.tracking import tracked_run

# mlflow 3.11 and the packages that it drags in warn of their own and each other's future.
pytestmark = pytest.mark.filterwarnings("ignore")


def metrics_of(state_dir):
    with sqlite3.connect(state_dir / "mlflow.db") as connection:
        return connection.execute(
            "SELECT key, step, value FROM metrics ORDER BY key, step"
        ).fetchall()


def test_metrics_of_a_run_are_in_the_sqlite_file_of_the_state_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tracked_run(tmp_path, "caudate", {"steps": 2}) as log_metrics:
        log_metrics(1, {"loss": 0.5})
        log_metrics(2, {"loss": 0.25})
    with pytest.raises(RuntimeError, match="broken"), tracked_run(tmp_path, "caudate", {}):
        raise RuntimeError("broken")
    assert metrics_of(tmp_path) == [("loss", 1, 0.5), ("loss", 2, 0.25)]
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        states = connection.execute("SELECT status FROM runs ORDER BY start_time").fetchall()
        assert states == [("FINISHED",), ("FAILED",)]
        assert connection.execute(
            "SELECT count(*) FROM experiments WHERE name = 'caudate'"
        ).fetchone() == (1,)
    assert not (tmp_path / "mlruns").exists()


def half_made(path):
    with sqlite3.connect(path) as connection:
        # As a kill leaves it in the midst of the migrations: a table, and no word of a version.
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER)")
    connection.close()


@pytest.mark.parametrize("spoil", [half_made, lambda path: path.write_bytes(b"\xa5" * 9000)])
def test_a_database_that_mlflow_cannot_use_is_put_aside_and_made_anew(tmp_path, caplog, spoil):
    spoil(tmp_path / "mlflow.db")
    with tracked_run(tmp_path, "caudate", {"steps": 2}) as log_metrics:
        log_metrics(1, {"loss": 0.5})
    assert metrics_of(tmp_path) == [("loss", 1, 0.5)]
    assert len(list(tmp_path.glob("mlflow.db.damaged-*"))) == 1
    assert "it is kept as" in caplog.text


def test_what_mlflow_cannot_do_is_said_and_stops_no_training(tmp_path, caplog):
    (tmp_path / "mlflow.db").mkdir()
    trained = []
    with tracked_run(tmp_path, "caudate", {"steps": 2}) as log_metrics:
        log_metrics(1, {"loss": 0.5})
        trained.append("to the end")
    assert trained == ["to the end"]
    assert "the run is not tracked" in caplog.text
