"""A study, its datastore, and one running server that all tests of this folder share."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

with warnings.catch_warnings():
    # MONAI Label's own imports warn (distutils, pkg_resources); ours must not.
    warnings.simplefilter("ignore")
    import monailabel.app
    import monailabel.datastore.local  # noqa: F401

from fair_strategy.config import StudySettings
from fair_strategy.workflows.intake import prepare
from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.study import Study, open_study
from tests.app import cohorts, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[serving.Server]:
    root = tmp_path_factory.mktemp("server")
    cohorts.write_cohort(root / "studies", per_group=8)
    serving.application(root)
    with serving.serve(root, "--conf", "validation_per_group", "2") as running:
        yield running


@pytest.fixture(scope="session")
def scored(server: serving.Server) -> serving.Server:
    """The same server, once its background has scored every scan and planned."""
    client = server.client("probe")

    def done():
        stats = client.info()["datastore"]
        return stats["label_tags"].get("original") == stats["total"]

    serving.wait_for(done, what="scoring in the background")
    serving.wait_for(lambda: "score done" in server.log, what="end of the scoring run")
    return server


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A prepared study without a server; two scans are labelled."""
    cohorts.write_cohort(tmp_path / "studies")
    cohorts.write_model(tmp_path / "pretrained.pt")
    opened = open_study(
        tmp_path / "studies",
        StudySettings(),
        state_dir=tmp_path / "state",
        shipped_model=tmp_path / "pretrained.pt",
    )
    prepare(opened)
    make_plans(opened)
    return opened
