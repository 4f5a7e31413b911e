"""One tiny simulation: its cohorts are made once, its results where each test wants them."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from fair_strategy.workflows.simulation.cohorts import POOL, TEST, make_cohort
from fair_strategy.workflows.simulation.first_models import Workspace
from fair_strategy.workflows.simulation.settings import SimulationSettings, read_simulation

TINY: dict[str, Any] = {
    "cohort": {
        "voxel_mm": 4,
        "pool": {"A": 5, "B": 4},
        "test": {"A": 1, "B": 1},
        "pool_seed": 11,
        "test_seed": 12,
    },
    "starts": {"imbalanced": {"A": 2, "B": 1}},
    "budget": 2,
    "rounds": 2,
    "training": {
        "steps": 3,
        "spacing_mm": 4,
        "window": [12, 16, 12],
        "channels": [4, 8],
        "strides": [2],
    },
    "settings": {"estimator": "labelled", "audit_every": 0},
    "arms": {"weighted": {"strategy": "weighted_entropy"}},
    "stages": [
        {
            "name": "only",
            "biases": ["strong"],
            "starts": ["imbalanced"],
            "arms": ["weighted"],
            "seeds": 1,
        }
    ],
}


def written(path: Path, **changed: Any) -> Path:
    """A configuration file: the tiny one with other top-level options."""
    path.write_text(yaml.safe_dump({**TINY, **changed}), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_cohorts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results that holds the scans, and nothing else yet."""
    root = tmp_path_factory.mktemp("tiny")
    simulation = read_simulation(written(root / "tiny.yaml"))
    for part in (POOL, TEST):
        make_cohort(root, simulation.cohort, part, bias="strong", field_of_view="caudate")
    return root


@pytest.fixture
def configured(tmp_path: Path, tiny_cohorts: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes (simulation, workspace): settings as given, in a folder that has the scans."""
    # A kill is not a power cut: how fast the disk is need not slow the tests down.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    def configure(name: str = "out", **changed: Any) -> tuple[SimulationSettings, Workspace]:
        out = tmp_path / name
        if not out.exists():
            shutil.copytree(tiny_cohorts / "cohorts", out / "cohorts")
        return read_simulation(written(tmp_path / f"{name}.yaml", **changed)), Workspace(out)

    return configure
