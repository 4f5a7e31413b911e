"""One suite that every scoring method of the application passes."""

import json
from types import SimpleNamespace

import pytest
from fastapi import HTTPException

from fair_strategy.config import StudySettings
from fair_strategy.host.app import FairAppMixin
from fair_strategy.store import plans, scores
from fair_strategy.workflows.intake import prepare
from fair_strategy.workflows.study import open_study
from tests.helpers import write_cohort, write_model

NAMES = ("weighted_entropy", "entropy", "group_performance")
every_method = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def study(tmp_path):
    opened = open_study(
        write_cohort(tmp_path / "images", "AABB", labelled=1),
        StudySettings(validation_per_group=0, estimator="labelled"),
        state_dir=tmp_path / "state",
        shipped_model=write_model(tmp_path / "model" / "shipped.pt"),
    )
    prepare(opened)
    return opened


@pytest.fixture
def methods(study):
    return FairAppMixin.init_scoring_methods(SimpleNamespace(study=study))


def test_the_application_offers_these_and_no_others(methods):
    assert tuple(methods) == NAMES


@every_method
def test_what_it_answers_are_counts_that_json_can_hold(methods, name):
    answer = methods[name]({}, None)
    assert json.loads(json.dumps(answer)) == answer
    assert all(isinstance(value, int | float) for value in answer.values())


@every_method
def test_a_second_run_finds_nothing_left_to_do(methods, name):
    methods[name]({}, None)
    again = methods[name]({}, None)
    assert again.get("scored", 0) == again["compared"] == again.get("plans", 0) == 0


@every_method
def test_a_request_cannot_change_the_study(methods, name):
    with pytest.raises(HTTPException) as refused:
        methods[name]({"rule": "softmax"}, None)
    assert refused.value.status_code == 422
    assert "rule" in refused.value.detail


@every_method
def test_it_says_what_it_does(methods, name):
    assert len(methods[name].info()["description"]) > 10


@pytest.mark.parametrize("name", ["weighted_entropy", "entropy"])
def test_scoring_leaves_scores_of_the_current_model_and_a_plan(methods, study, name):
    answer = methods[name]({}, None)
    model = scores.current_model(study.store).checksum
    assert answer["scored"] == len(scores.scores(study.store, model, study.settings_hash)) == 4
    assert plans.latest_plan(study.store, "weighted_entropy").model == model
