"""The command line of the simulation: what it refuses, and how."""

import json

import pytest
import torch
import yaml
from typer.testing import CliRunner

from fair_strategy.cli.main import app
from fair_strategy.workflows.simulation.settings import read_simulation
from tests.unit.test_documentation import ROOT
from tests.unit.workflows.simulation.conftest import TINY, written

TINY_FILE = ROOT / "experiments" / "tiny.yaml"


def run(*arguments):
    return CliRunner().invoke(app, ["simulate", *map(str, arguments)])


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"rundes": 3}, "unknown option 'rundes'; expected one of arms, budget, cohort"),
        ({"arms": {"weighted": {"strategy": "entropi"}}}, "unknown strategy 'entropi'"),
        (
            {"arms": {"weighted": {"strategy": "entropy", "settings": {"rule": "maximum"}}}},
            "'uniform', 'error_proportional'",
        ),
    ],
    ids=["option", "strategy", "rule"],
)
def test_a_wrong_configuration_ends_with_a_sentence_and_code_2(tmp_path, changed, sentence):
    result = run(written(tmp_path / "wrong.yaml", **changed), "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_no_file_an_unknown_stage_and_a_missing_gpu_are_bad_input(tmp_path, monkeypatch):
    missing = run(tmp_path / "none.yaml")
    assert (missing.exit_code, "none.yaml" in missing.stderr) == (2, True)
    stage = run(TINY_FILE, "--out", tmp_path, "--device", "cpu", "--stage", "third")
    assert stage.exit_code == 2
    assert "unknown stage 'third'; expected one of primary, rest" in stage.stderr
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu = run(TINY_FILE, "--out", tmp_path, "--device", "cuda")
    assert (gpu.exit_code, "there is no GPU" in gpu.stderr) == (2, True)


def test_results_of_another_configuration_are_not_touched(tmp_path):
    config = written(tmp_path / "config.yaml")
    shards = tmp_path / "out" / "shards"
    shards.mkdir(parents=True)
    kept = shards / "strong_imbalanced_weighted_seed0.json"
    kept.write_text(json.dumps({"digest": "other", "rounds": []}))
    fresh = run(config, "--out", tmp_path / "out", "--device", "cpu")
    assert (fresh.exit_code, "go on with them by --resume" in fresh.stderr) == (2, True)
    resumed = run(config, "--out", tmp_path / "out", "--device", "cpu", "--resume")
    assert resumed.exit_code == 2
    assert "was made with another configuration" in resumed.stderr
    assert json.loads(kept.read_text())["digest"] == "other"


def test_the_configuration_of_the_tests_is_the_one_that_they_write(tmp_path):
    path = written(tmp_path / "tiny.yaml")
    assert yaml.safe_load(path.read_text()) == TINY
    assert read_simulation(path).budget == TINY["budget"]
