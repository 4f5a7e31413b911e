from pathlib import Path

import pytest

from fair_strategy.config import StudySettings
from fair_strategy.workflows.intake import prepare
from fair_strategy.workflows.study import Study, open_study
from tests.helpers import write_cohort, write_model
from tests.unit.workflows.readers import ready


@pytest.fixture(scope="session")
def model_file(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "shipped.pt")


@pytest.fixture
def make_study(tmp_path, model_file):
    """A prepared study of blobs: ``make_study("AABB", labelled=1, rule="softmax")``."""

    def make(groups: str, *, labelled: int = 0, **settings) -> Study:
        images = write_cohort(tmp_path / "images", groups, labelled=labelled)
        study = open_study(
            images,
            StudySettings(**{"validation_per_group": 0, **settings}),
            state_dir=tmp_path / "state",
            shipped_model=model_file,
        )
        prepare(study)
        return study

    return make


@pytest.fixture
def study(make_study) -> Study:
    """Ready, and no scan is an audit slot; a module whose study is another has its own fixture."""
    return ready(make_study("AABB", estimator="prequential", audit_every=0))


@pytest.fixture
def audited(make_study) -> Study:
    """Ready, and every scan is an audit slot."""
    return ready(make_study("AABB", estimator="prequential", audit_every=1, quota_batch=0))
