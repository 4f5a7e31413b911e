"""The optimisation loop: one network, an endless row of samples, a state file to resume from."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import nn
from torch.utils.data import DataLoader

from fair_strategy.learning.checkpoint import write_atomically
from fair_strategy.learning.samples import Samples


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How to train.

    Attributes:
        steps: optimisation steps.
        batch_size: windows a step.
        learning_rate: at the first step; it falls to 0 as (1 - step / steps) ** 0.9.
        weight_decay: of AdamW.
        seed: of every random draw.
        evaluate_every: steps between two validations; the last step is always validated.
        save_every: steps between two writings of the state file.
        workers: processes that prepare samples; 0 is this one. No effect on the result.
        context_mm: how much of the scan around a label is kept in memory, each way, besides
            the window itself.
        augment: strength of the random transforms, 0 to 1.
        shift_mm: the structure's usual distance from the window's middle, each way.
        far_mm: the same for one window in six; none lies further away if it is not above
            shift_mm.
        device: "cpu", "cuda", or "auto" for a GPU if there is one.
    """

    steps: int = 300
    batch_size: int = 2
    learning_rate: float = 5e-4
    weight_decay: float = 1e-5
    seed: int = 0
    evaluate_every: int = 100
    save_every: int = 50
    workers: int = 0
    context_mm: float = 20.0
    augment: float = 1.0
    shift_mm: float = 12.0
    far_mm: float = 40.0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "evaluate_every", "save_every", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")


@dataclass(slots=True)
class Progress:
    """What survives a kill besides weights and optimiser: plain values and tensors."""

    step: int = 0
    losses: list[float] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


def optimise(
    network: nn.Module,
    samples: Samples,
    *,
    settings: TrainingSettings,
    state_file: Path,
    identity: str,
    after_step: Callable[[Progress], None],
) -> Progress:
    """Train the network in place by Dice + cross entropy, from the state file if there is one.

    Dropout of a step is seeded by (seed, step) and its samples are functions of (seed, index),
    so on a CPU a resumed run ends with the weights of an uninterrupted one.

    Args:
        network: on its device.
        samples: `settings.steps * settings.batch_size` of them.
        state_file: written every `save_every` steps; the caller removes it when all is done.
        identity: a state of another identity (other data or settings) is ignored.
        after_step: called after each step, before the state is saved; may write to
            `progress.notes`.
    """
    run = _Run(network, settings)
    progress = run.restore(state_file, identity)
    devices = [run.device] if run.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        for images, labels in _batches(samples, settings, first=progress.step):
            torch.manual_seed(_seed(settings.seed, progress.step))
            progress.losses.append(run.step(images, labels, progress.step))
            progress.step += 1
            after_step(progress)
            if progress.step % settings.save_every == 0 or progress.step == settings.steps:
                run.save(state_file, identity, progress)
    return progress


class _Run:
    """Network, optimiser and loss scaling of one run."""

    def __init__(self, network: nn.Module, settings: TrainingSettings) -> None:
        self.network = network
        self.settings = settings
        self.device = next(network.parameters()).device
        self.mixed = self.device.type == "cuda"
        self.optimiser = torch.optim.AdamW(
            network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.mixed)
        # Dice over the batch: windows without the structure are then no special case
        self.loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)

    def step(self, images: torch.Tensor, labels: torch.Tensor, step: int) -> float:
        rate = self.settings.learning_rate * (1 - step / self.settings.steps) ** 0.9
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.mixed):
            logits = self.network(images.to(self.device))
        loss = self.loss(logits.float(), labels.to(self.device))
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return float(loss.detach())

    def save(self, path: Path, identity: str, progress: Progress) -> None:
        buffer = io.BytesIO()
        state = {
            "identity": identity,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": progress.step,
            "losses": progress.losses,
            "notes": progress.notes,
        }
        torch.save(state, buffer)
        write_atomically(path, buffer.getvalue())

    def restore(self, path: Path, identity: str) -> Progress:
        if not path.exists():
            return Progress()
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError):
            return Progress()  # not ours; the run starts anew and replaces it
        if state.get("identity") != identity:
            return Progress()
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        return Progress(state["step"], state["losses"], state["notes"])


def _batches(
    samples: Samples, settings: TrainingSettings, *, first: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    indices = range(first * settings.batch_size, settings.steps * settings.batch_size)
    if not indices:
        return
    yield from DataLoader(
        samples,
        batch_size=settings.batch_size,
        sampler=indices,
        num_workers=settings.workers,
        pin_memory=False,
    )


def _seed(seed: int, step: int) -> int:
    return int(np.random.default_rng([seed, step, 2]).integers(2**31))
