"""``fair-strategy synth``: arguments, answers, exit codes."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from fair_strategy.cli.main import app
from fair_strategy.data.synthetic import cohort

SMALL = ["--field-of-view", "caudate", "--voxel-mm", "4", "--processes", "1"]


def synth(*arguments: object):
    return CliRunner().invoke(app, ["synth", *map(str, arguments)])


def test_a_cohort_is_written_and_the_answer_is_json(tmp_path):
    out = tmp_path / "cohort"
    result = synth("--out", out, "--subjects", 2, "--minority-fraction", 0.5, *SMALL, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "out": str(out),
        "written": 2,
        "kept": 0,
        "labelled": 0,
        "groups": {"A": 1, "B": 1},
    }
    assert len(list(out.glob("sub-*/anat/*_T1w.nii.gz"))) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--subjects", "2"],
        ["--out", "x"],
        ["--out", "x", "--subjects", "0"],
        ["--out", "x", "--subjects", "two"],
        ["--out", "x", "--subjects", "2", "--bias", "huge"],
        ["--out", "x", "--subjects", "2", "--minority-fraction", "1.2"],
        ["--out", "x", "--subjects", "2", "--minority-fraction", "nan"],
        ["--out", "x", "--subjects", "2", "--seed", "-1"],
        ["--out", "x", "--subjects", "2", "--contrast", "random"],
        ["--out", "x", "--subjects", "2", "--voxel-mm", "0"],
        ["--out", "x", "--subjects", "2", "--field-of-view", "neck"],
        ["--out", "x", "--subjects", "2", "--labelled", "3"],
        ["--out", "x", "--subjects", "2", "--processes", "0"],
    ],
    ids=" ".join,
)
def test_bad_arguments_end_with_2_and_write_nothing(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert synth(*arguments).exit_code == 2
    assert not list(tmp_path.iterdir())


def test_a_folder_with_other_things_ends_with_2_and_says_why(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    result = synth("--out", tmp_path, "--subjects", 2, *SMALL)
    assert result.exit_code == 2
    assert "not empty" in result.stderr


def test_an_interruption_ends_with_1_and_says_how_to_go_on(tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cohort, "_write_subject", interrupted)
    result = synth("--out", tmp_path / "cohort", "--subjects", 2, *SMALL)
    assert result.exit_code == 1
    assert "interrupted" in result.stderr


def test_a_full_disk_ends_with_1_and_the_reason(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cohort, "_write_subject", full)
    result = synth("--out", tmp_path / "cohort", "--subjects", 2, *SMALL)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from fair_strategy.cli.main import app\n"
        "try: app(['synth', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'monai', 'nilearn', 'scipy', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--minority-fraction" in done.stdout
