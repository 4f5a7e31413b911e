"""Each task as a script runs it, on a tiny look-alike: trained, predicted, audited."""

import csv
import json

import pytest
from typer.testing import CliRunner

from fair_strategy.cli.main import app

TINY = {
    "isic": """
image_size: 32
network: {channels: [4, 4, 4, 4], blocks: [1, 1, 1, 1]}
split: {validation: 0.1, test: 0.5}
training: {epochs: 1, batch_size: 16}
""",
    "brats": """
patch: [16, 16, 16]
overlap: 0
network: {channels: [4, 8], strides: [2], residual_units: 0}
split: {validation: 1, test: 2}
training: {epochs: 1, batch_size: 4}
audit: {minimum: 2, draws: 20}
""",
    "adni": """
stage: ""
shape: [32, 32, 32]
spacing_mm: 6
network: {channels: [4, 4, 4, 4]}
split: {validation: 1, folds: 2}
training: {epochs: 1, batch_size: 8}
""",
}
COMMON = "ensemble: {networks: 2, passes: 2}\n"
DRAWS = "audit: {draws: 20}\n"
CASES = {"isic": 48, "brats": 20, "adni": 24}
OBJECTIVE = {"isic": "erm", "brats": "group_dro", "adni": "balanced"}


def run(*arguments):
    return CliRunner().invoke(app, ["task", *map(str, arguments)])


@pytest.mark.parametrize("name", ["isic", "brats", "adni"])
def test_a_task_runs_from_its_look_alike_to_its_audit(tmp_path, name):
    data, out, config = tmp_path / "data", tmp_path / "out", tmp_path / "task.yaml"
    made = run(name, "--make-lookalike", data, "--cases", CASES[name])
    assert made.exit_code == 0, made.output
    assert "no picture, person or score" in (data / "SYNTHETIC.txt").read_text()
    config.write_text(TINY[name] + COMMON + ("" if "audit:" in TINY[name] else DRAWS))
    done = run(
        name, "--data", data, "--out", out, "--config", config,
        "--objective", OBJECTIVE[name], "--device", "cpu", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["objective"] == OBJECTIVE[name]
    with (out / "splits.csv").open() as handle:
        tested = {row["case"] for row in csv.DictReader(handle) if row["part"] == "test"}
    assert predicted(name, out) == tested
    found = json.loads((out / "audit" / "audit.json").read_text())
    assert {m["name"] for m in found["models"][0]["measures"]} >= MEASURES[name]
    assert (out / "audit" / "report.html").is_file()
    told = json.loads((out / "run.json").read_text())
    assert told["task"] == name
    assert len(told["networks"]) == 2 * answer["folds"]
    assert all(network["name"] == OBJECTIVE[name] for network in told["networks"])
    if OBJECTIVE[name] == "balanced":
        assert len(set(told["networks"][0]["cases"].values())) == 1


MEASURES = {
    "isic": {"accuracy", "balanced_accuracy", "macro_auroc"},
    "brats": {"dice", "qu_brats", "surface_distance_mm"},
    "adni": {"rmse", "uce"},
}


def predicted(name, out):
    if name == "brats":
        return {path.name for path in (out / "predictions").iterdir()}
    with (out / "predictions.csv").open() as handle:
        return {row["case"] for row in csv.DictReader(handle)}


def test_what_does_not_go_together_is_refused(tmp_path):
    assert "give --data and --out" in run("isic").output
    both = run("isic", "--make-lookalike", tmp_path / "d", "--data", tmp_path)
    assert both.exit_code == 2
    assert "goes without --data" in both.output
    weights = run("adni", "--data", tmp_path, "--out", tmp_path / "o", "--weights", tmp_path)
    assert "ImageNet weights go with isic only" in weights.output
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    full = run("brats", "--make-lookalike", tmp_path / "full")
    assert full.exit_code == 2
    assert "holds something already" in full.output


def test_a_data_set_that_is_not_there_is_a_sentence_and_writes_nothing(tmp_path):
    done = run("brats", "--data", tmp_path / "no", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "no such folder" in done.output
    (tmp_path / "empty").mkdir()
    done = run("adni", "--data", tmp_path / "empty", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "ADNIMERGE.csv: no such table" in done.output
    assert not (tmp_path / "out").exists()
