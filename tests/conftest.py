"""What every test gets: no writing into the user's folders, one thread, a seeded generator."""

import atexit
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

# Before torch or NumPy start their pools: tiny arrays are slower on many threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")


_status = int(pytest.ExitCode.INTERNAL_ERROR)


def _leave() -> None:
    """End with pytest's status before the interpreter takes its modules apart.

    ITK 5.4, which MONAI Label imports, crashes there once a process has done as much as this one
    (the capsule of `_ITKPyBasePython` makes an object of a type that is gone): it ended by signal
    11 with every test passed. What registered a handler after this file was imported has run.
    """
    # An error of pytest itself leaves a `last_type`; so may a last test that failed: red anyway.
    if "itk" in sys.modules and not hasattr(sys, "last_type"):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_status)


atexit.register(_leave)  # first in, last out


def pytest_sessionfinish(exitstatus: int) -> None:
    """Keep the status for the very end."""
    global _status
    _status = int(exitstatus)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--new-pictures`: see tests/pictures.py."""
    parser.addoption(
        "--new-pictures",
        action="store_true",
        help="write what pages look like now in place of the committed pictures",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu are skipped, with the reason, where torch sees no CUDA device."""
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if not wanting:
        return
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            return
    for item in wanting:
        item.add_marker(pytest.mark.skip(reason="no CUDA device; the CPU twin runs"))


@pytest.fixture(autouse=True)
def own_user_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """State, data and cache folders of the user stand in a temporary folder."""
    home: Path = tmp_path_factory.mktemp("user")
    for variable in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(home / variable.lower()))


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed."""
    return np.random.default_rng(20260521)
