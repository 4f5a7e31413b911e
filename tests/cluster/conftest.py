"""One Dask cluster of two worker processes of this machine for all tests of this folder."""

import pytest

from fair_strategy.workflows.executors import workers
from tests.cluster.noted import Watched


@pytest.fixture(scope="session")
def two_workers():
    """Workers of ``local:2``; a volume is suspected when two workers ended with it."""
    dask = pytest.importorskip("dask", reason="needs the extra cluster")
    pytest.importorskip("distributed", reason="needs the extra cluster")
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), workers("local:2") as made:
        yield made


@pytest.fixture
def watched(two_workers, tmp_path):
    """The two workers, with a note of each prediction that is made."""
    return Watched(two_workers, tmp_path / "notes")


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    from tests.helpers import write_model  # torch: not for the tests of SLURM

    return write_model(tmp_path_factory.mktemp("model") / "model.pt")


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Nine scans."""
    from tests.helpers import write_cohort

    return write_cohort(tmp_path_factory.mktemp("cohort") / "images", "ABABABABA")
