"""The commands `simulate` and `report` on the tiny cohort, to their end."""

import json
import shutil
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from typer.testing import CliRunner

from fair_strategy.cli.main import app
from tests.unit.workflows.simulation.conftest import TINY, written

CHANGED = {
    "rounds": 1,
    "arms": {
        "weighted_entropy": {"strategy": "weighted_entropy"},
        "entropy": {"strategy": "entropy"},
        "whole_pool": {"strategy": "whole_pool"},
    },
    "stages": [{**TINY["stages"][0], "arms": ["weighted_entropy", "entropy", "whole_pool"]}],
}


def run(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), result.stderr


def test_a_simulation_ends_with_a_report_that_can_be_rendered_anew(tmp_path, tiny_cohorts):
    out = tmp_path / "out"
    shutil.copytree(tiny_cohorts / "cohorts", out / "cohorts")
    config = written(tmp_path / "config.yaml", **CHANGED)
    told, said = run("simulate", config, "--out", out, "--device", "cpu")
    assert (told["runs"], told["rounds"]) == (3, 2 + 2 + 1)
    assert told["report"] == str(out / "report.html")
    assert "5 of 5 rounds" in said
    first = (out / "report.html").read_bytes()
    assert b"weighted entropy" in first

    (out / "report.html").unlink()
    told, _ = run("report", out)
    assert told["html"] == str(out / "report.html")
    assert (out / "report.html").read_bytes() == first
    (row,) = told["headline"]
    # 3 first scans and 2 of the only round
    assert (row["arm"], row["seeds"], row["n_labelled"]) == ("weighted_entropy", 1, 5)
    assert any("one seed only" in note for note in told["notes"])

    # Nothing is left to do: the same tables, and no training.
    tables = {path.name: path.read_bytes() for path in out.glob("*.csv")}
    run("simulate", config, "--out", out, "--device", "cpu", "--resume")
    assert {path.name: path.read_bytes() for path in out.glob("*.csv")} == tables


@contextmanager
def answering(replies):
    """An HTTP server with these JSON replies; yields its URL and what was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(f"{self.command} {self.path}")
            reply = replies.get(self.path)
            self.send_response(404 if reply is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(reply).encode())

        do_POST = do_PUT = do_DELETE = do_GET

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def test_an_annotator_only_reads_from_a_server_that_is_not_the_runs(tmp_path, tiny_cohorts):
    out = tmp_path / "out"
    shutil.copytree(tiny_cohorts / "cohorts", out / "cohorts")
    changed = {
        "streams": "by_run",
        "rounds": 1,
        "budget": 1,
        "arms": {"weighted": {"strategy": "random"}},
    }
    config = written(tmp_path / "config.yaml", **changed)

    def via(url):
        arguments = ["simulate", config, "--out", out, "--device", "cpu", "--via-rest", url]
        return CliRunner().invoke(app, list(map(str, arguments)))

    with answering({}) as (url, asked):
        other = via(url)
    assert other.exit_code == 1, other.output
    assert f"{url}: no server of MONAI Label answers" in other.stderr
    assert "start one with: OMP_NUM_THREADS=1 monailabel start_server" in other.stderr
    assert asked == ["GET /info/"]
    gone = via(url)
    assert (gone.exit_code, "no server of MONAI Label answers" in gone.stderr) == (1, True)

    scans = {f"sub-{n:02d}_T1w": {"image": {}, "labels": {}} for n in range(1, 10)}
    patients = {
        "/info/": {
            **{kind: {"caudate": {}} for kind in ("models", "trainers")},
            "strategies": {"random": {}},
        },
        "/datastore/?output=all": {"objects": scans},
    }
    with answering(patients) as (url, asked):
        study = via(url)
    assert study.exit_code == 2, study.output
    assert "are not the 9 of run strong_imbalanced_weighted_seed0" in study.stderr
    assert {question.split()[0] for question in asked} == {"GET"}


def test_what_no_server_does_is_refused_before_anything_is_played(tmp_path):
    config = written(tmp_path / "config.yaml")  # random streams for each round
    out = tmp_path / "out"
    arguments = ["simulate", config, "--out", out, "--via-rest", "http://127.0.0.1:9"]
    refused = CliRunner().invoke(app, list(map(str, arguments)))
    assert refused.exit_code == 2
    assert "one seed for all its rounds; set `streams: by_run`" in refused.stderr
    assert not (out / "shards").exists()
