"""The result of one run as a file that grows by a round at a time."""

import json
import math
from pathlib import Path
from typing import Any

from fair_strategy.learning.checkpoint import write_atomically
from fair_strategy.workflows.simulation.plan import Run


def shard_path(out: Path, run: Run) -> Path:
    """Where the result of a run lies."""
    return out / "shards" / f"{run.name}.json"


def read_shard(out: Path, run: Run) -> dict[str, Any]:
    """What a run has got so far; a new one for a run that was not begun.

    Raises:
        ValueError: if the file belongs to other settings.
    """
    path = shard_path(out, run)
    if not path.exists():
        return {
            "bias": run.bias,
            "start": run.start,
            "arm": run.arm,
            "seed": run.seed,
            "digest": run.digest(),
            "rounds": [],
        }
    shard: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if shard["digest"] != run.digest():
        raise ValueError(
            f"{path}: was made with another configuration; choose another --out, or move it away"
        )
    return shard


def write_shard(out: Path, run: Run, shard: dict[str, Any]) -> None:
    """Replace a run's file, whole or not at all."""
    text = json.dumps(rounded(shard), separators=(",", ":")) + "\n"
    write_atomically(shard_path(out, run), text.encode())


def is_finished(out: Path, run: Run) -> bool:
    """Whether every round of a run is there."""
    return shard_path(out, run).exists() and len(read_shard(out, run)["rounds"]) == run.rounds


def rounded(value: Any) -> Any:
    """Numbers with six digits, so that a shard stays small; NaN as null."""
    if isinstance(value, float):
        return None if not math.isfinite(value) else float(f"{value:.6g}")
    if isinstance(value, dict):
        return {str(name): rounded(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return value
