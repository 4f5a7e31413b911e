"""run.json: what a simulation is, on what it ran, how long, and how far it is."""

import json
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from fair_strategy.learning.checkpoint import write_atomically
from fair_strategy.workflows.machine import cores
from fair_strategy.workflows.simulation.environment import (
    device_kind,
    differences,
    environment,
    going_on_in,
)
from fair_strategy.workflows.simulation.first_models import Workspace
from fair_strategy.workflows.simulation.plan import Run
from fair_strategy.workflows.simulation.settings import SimulationSettings
from fair_strategy.workflows.simulation.shards import read_shard, shard_path
from fair_strategy.workflows.simulation.tables import TIMING

PACKAGES = ("fair-strategy", "torch", "monai", "numpy", "scipy")
NAME = "run.json"


def write_description(
    simulation: SimulationSettings,
    workspace: Workspace,
    known: Sequence[Run],
    *,
    todo: Sequence[Run] = (),
    seconds: float = 0.0,
) -> list[str]:
    """Write run.json beside the tables, over the one of an earlier call; its notes.

    Its `wall_seconds` is the time of the calls that ended, and is missing before the first did;
    `process_hours` the hours that the rounds in the shards took to train (the shared first models
    apart) and to score, summed over the processes; `notes` what a reader of the results must know.

    Args:
        known: every run of the simulation.
        todo: those that are going to be played now, in the present environment.
        seconds: how long this call took, once it ends.
    """
    path = workspace.out / NAME
    shards = {run.name: read_shard(workspace.out, run) for run in known if _begun(workspace, run)}
    hours = _process_hours(shards.values())
    for run in todo:
        shard = shards.get(run.name) or read_shard(workspace.out, run)
        shards[run.name] = going_on_in(shard, environment(workspace, run))
    notes = differences(shards.values())
    wall = _wall_seconds(path) + seconds
    described = {
        "configuration": _configuration(simulation),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
        "hardware": {
            "device": workspace.device,
            "kind": device_kind(workspace.device),
            "cores": cores(),
        },
        **({"wall_seconds": round(wall, 1)} if wall else {}),
        "process_hours": round(hours, 6),
        "seeds": sorted({run.seed for run in known}),
        "notes": notes,
    }
    write_atomically(path, (json.dumps(described, indent=2) + "\n").encode())
    return notes


def _begun(workspace: Workspace, run: Run) -> bool:
    return shard_path(workspace.out, run).exists()


def _process_hours(shards: Any) -> float:
    rounds = [done for shard in shards for done in shard["rounds"]]
    return sum(float(done[name]) for done in rounds for name in TIMING) / 3600


def _wall_seconds(path: Path) -> float:
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return float(before.get("wall_seconds", 0.0))


def _configuration(simulation: SimulationSettings) -> dict[str, Any]:
    configuration = simulation.model_dump(mode="json")
    localiser = simulation.training.localiser
    configuration["training"]["localiser"] = localiser.name if localiser else None
    return configuration
