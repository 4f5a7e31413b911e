import pytest

from fair_strategy.data.lookalikes import make_lookalike


@pytest.fixture(scope="session")
def lookalikes(tmp_path_factory):
    """A small look-alike of each task, made once; tests that change one copy it."""
    folder = tmp_path_factory.mktemp("lookalikes")
    counts = {"isic": 64, "brats": 24, "adni": 40}
    return {name: make_lookalike(name, folder / name, cases=n) for name, n in counts.items()}
