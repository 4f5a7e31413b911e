"""``score-study``: a server's study, scored by other processes, as a script runs it."""

import json

import pytest
from typer.testing import CliRunner

from fair_strategy.cli.main import app
from fair_strategy.config import StudySettings
from fair_strategy.store import plans, scores
from fair_strategy.workflows.intake import prepare
from fair_strategy.workflows.study import open_study
from tests.helpers import write_cohort, write_model


@pytest.fixture
def started(tmp_path):
    """A study as a server leaves it that was started once, and has scored nothing yet."""
    images = write_cohort(tmp_path / "images", "AABB", labelled=2)
    study = open_study(
        images,
        StudySettings(validation_per_group=0, margin_mm=3),
        state_dir=tmp_path / "state",
        shipped_model=write_model(tmp_path / "model.pt"),
    )
    prepare(study)
    return study


def run(study, *more):
    arguments = ("--studies", study.images_dir, "--state-dir", study.state_dir, "--json", *more)
    return CliRunner().invoke(app, ["score-study", *(str(a) for a in arguments)])


def scored(study):
    current = scores.current_checksum(study.store)
    return sorted(scores.scores(study.store, current, study.settings_hash))


def test_two_processes_score_a_study_and_plans_follow(started):
    result = run(started, "--cluster", "processes:2")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["scored"], answer["unreadable"], answer["compared"]) == (4, 0, 2)
    assert len(scored(started)) == 4
    assert plans.plan_head(started.store, "weighted_entropy") is not None
    again = json.loads(run(started).stdout)
    assert (again["scored"], again["compared"], again["plans"]) == (0, 0, 0)


def test_a_scan_that_cannot_be_read_is_left_out_and_the_exit_code_says_so(started):
    scan = started.images_dir / "sub-03" / "anat" / "sub-03_T1w.nii.gz"
    scan.write_bytes(b"no volume")
    result = run(started)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["unreadable"] == 1
    assert scored(started) == ["sub-01_T1w", "sub-02_T1w", "sub-04_T1w"]


def test_without_a_study_a_sentence_says_what_to_give(tmp_path):
    (tmp_path / "images").mkdir()
    arguments = ["--studies", str(tmp_path / "images"), "--state-dir", str(tmp_path / "none")]
    result = CliRunner().invoke(app, ["score-study", *arguments])
    assert result.exit_code == 2
    assert "expected the state of a study, found none" in result.stderr
