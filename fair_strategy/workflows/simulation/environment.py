"""What rounds were computed on: a simulation that went on elsewhere is no longer of one piece."""

import hashlib
import platform
import re
from collections import Counter
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from fair_strategy.workflows.simulation.first_models import Workspace
from fair_strategy.workflows.simulation.plan import Run
from fair_strategy.workflows.simulation.settings import BRAIN

NOT_RECORDED = "not recorded"
"""Of rounds that were played before shards told their environment."""
_WHICH = ("cpu family", "model")

Environment = dict[str, str | None]


def environment(workspace: Workspace, run: Run) -> Environment:
    """Device, its kind, versions of torch and MONAI, SHA-256 of the localiser that a run uses.

    The localiser is None where the run's volumes need none.
    """
    localiser = run.simulation.training.localiser
    used = localiser if run.block.field_of_view == BRAIN else None
    return {
        "device": workspace.device,
        "kind": device_kind(workspace.device),
        "torch": metadata.version("torch"),
        "monai": metadata.version("monai"),
        "localiser": _sha256(used) if used else None,
    }


def device_kind(device: str) -> str:
    """Name of the GPU, or the processor's architecture and which one it is.

    Which one matters: the same training with the same seed ends .001 to .01 of Dice elsewhere on
    another processor, since libraries choose other instructions, and so other sums, there.
    """
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:  # not Linux
        told = ""
    found = [re.search(rf"^{name}\s*:\s*(\d+)", told, re.MULTILINE) for name in _WHICH]
    named = [f"{name} {match[1]}" for name, match in zip(_WHICH, found, strict=True) if match]
    return ", ".join([platform.machine(), *named])


def going_on_in(shard: dict[str, Any], present: Environment) -> dict[str, Any]:
    """A shard that tells in `environments` where its next rounds are played, and where the others.

    An entry holds from its `first_round` on. Rounds before the first entry are of an earlier
    version, which told nothing.
    """
    number = len(shard["rounds"])
    kept = [e for e in shard.get("environments", []) if e["first_round"] < number]
    if not kept or _without_round(kept[-1]) != present:
        kept = [*kept, {"first_round": number, **present}]
    return {**shard, "environments": kept}


def differences(shards: Iterable[dict[str, Any]]) -> list[str]:
    """A sentence where runs were computed on different things, another for different localisers."""
    made: Counter[str] = Counter()
    localisers: Counter[str] = Counter()
    for shard in shards:
        found = _environments(shard)
        made.update({_named(e) for e in found})
        localisers.update({str(e["localiser"]) for e in found if e and e["localiser"]})
    sentences = []
    if len(made) > 1:
        sentences.append(
            "Not all runs were computed alike, so they may differ by more than their arm: "
            f"{_counted(made)}."
        )
    if len(localisers) > 1:
        short = Counter({digest[:12]: number for digest, number in localisers.items()})
        sentences.append(f"Not all runs on whole brains had the same localiser: {_counted(short)}.")
    return sentences


def _environments(shard: dict[str, Any]) -> list[Environment | None]:
    """Of the rounds of a shard; None stands for those that tell nothing."""
    told = shard.get("environments", [])
    unknown = bool(shard["rounds"]) and (not told or told[0]["first_round"] > 0)
    return [*([None] if unknown else []), *map(_without_round, told)]


def _without_round(entry: dict[str, Any]) -> Environment:
    return {name: value for name, value in entry.items() if name != "first_round"}


def _named(made: Environment | None) -> str:
    if made is None:
        return NOT_RECORDED
    return f"{made['device']} {made['kind']}, torch {made['torch']}, monai {made['monai']}"


def _counted(numbers: Counter[str]) -> str:
    """The most frequent first; what was not recorded last."""
    order = sorted(numbers, key=lambda name: (name == NOT_RECORDED, -numbers[name], name))
    return "; ".join(f"{name}: {numbers[name]}" for name in order)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
