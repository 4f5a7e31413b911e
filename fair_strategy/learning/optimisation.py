"""The optimisation loop: one network, an endless row of samples, a state file to resume from."""

from __future__ import annotations

import io
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import nn
from torch.utils.data import DataLoader

from fair_strategy.learning.checkpoint import write_atomically
from fair_strategy.learning.objectives import Objective, ObjectiveSettings, Selection
from fair_strategy.learning.replicas import Replicas

_STEPS_AHEAD = 2


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How to train.

    Attributes:
        steps: optimisation steps.
        batch_size: windows a step on each device; with the objective group_dro, windows a
            forward pass, and a step has at least one of each subgroup.
        learning_rate: at the first step; it falls to 0 as (1 - step / steps) ** 0.9.
        weight_decay: of AdamW.
        seed: of every random draw.
        evaluate_every: steps between two validations; the last step is always validated.
        save_every: steps between two writings of the state file.
        workers: processes that prepare samples; 0 is a thread of this one. No effect on the
            result.
        context_mm: how much of the scan around a label is kept in memory, each way, besides
            the window itself.
        augment: strength of the random transforms, 0 to 1.
        shift_mm: the structure's usual distance from the window's middle, each way.
        far_mm: the same for one window in six; none lies further away if it is not above
            shift_mm.
        device: "cpu", "cuda", "cuda:1"...; several with commas train together, a process each;
            "auto" for every GPU that torch sees, or the CPU without one.
        objective: what is minimised over which cases.
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
    # not in the repr: `optimise` itself tells states of other objectives apart
    objective: ObjectiveSettings = field(default=ObjectiveSettings(), repr=False)

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


class GroupedSamples(Protocol):
    """What `optimise` trains on: a map-style dataset that knows its objective."""

    @property
    def objective(self) -> Objective:
        """What is minimised; its `rows` tell which case stands at an index."""
        ...

    def __getitem__(self, index: int) -> tuple[Any, Any, int]:
        """(inputs, targets, group number) of one row; tensors, or tuples or mappings of them."""
        ...


def segmentation_loss() -> nn.Module:
    """Dice + cross entropy of (N, 2, I, J, K) logits and (N, 1, I, J, K) labels.

    Dice over the batch: windows without the structure are then no special case.
    """
    return DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)


@dataclass(frozen=True, slots=True)
class Steps:
    """How steps are taken; the defaults are those of the segmenter.

    Attributes:
        loss: (outputs, targets) of some rows -> their mean loss.
        optimiser: from parameters; None for AdamW with the settings' weight decay.
        rate: learning rate of a step, from its number; None for the settings' polynomial.
    """

    loss: Callable[[Any, Any], torch.Tensor] = field(default_factory=segmentation_loss)
    optimiser: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None
    rate: Callable[[int], float] | None = None


def optimise(
    network: nn.Module,
    samples: GroupedSamples,
    *,
    settings: TrainingSettings,
    state_file: Path,
    identity: str,
    after_step: Callable[[Progress], None],
    steps: Steps | None = None,
) -> Progress:
    """Train the network in place by its samples' objective, from the state file if there is one.

    Dropout of a step is seeded by (seed, step) and its samples are functions of (seed, index),
    so on a CPU a resumed run ends with the weights of an uninterrupted one. Every
    `evaluate_every` steps, and after the last, `progress.notes["objective"]` gets a row: step,
    mean loss of each subgroup since the last row, and q of group_dro.

    Where several train together (the objective's `replicas`), each takes its own rows of a step,
    the gradient is the mean of theirs, and the first alone writes the state file; all read it.

    Args:
        network: on its device.
        samples: `settings.steps` times their objective's `rows_per_step` of them, times the
            number of replicas.
        state_file: written every `save_every` steps; the caller removes it when all is done.
        identity: a state of another identity (other data or settings) or of another objective
            is ignored.
        after_step: called after each step, before the state is saved; may write to
            `progress.notes`.
        steps: loss, optimiser and learning rate; None for the segmenter's.
    """
    run = _Run(network, settings, samples.objective, steps or Steps())
    rank = run.replicas.rank
    progress = run.restore(state_file, identity)
    devices = [run.device] if run.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        for parts in _steps(samples, settings, first=progress.step):
            torch.manual_seed(_seed(settings.seed, progress.step, rank))
            progress.losses.append(run.step(parts, progress.step))
            progress.step += 1
            if progress.step % settings.evaluate_every == 0 or progress.step == settings.steps:
                row = {"step": progress.step, **samples.objective.report()}
                progress.notes.setdefault("objective", []).append(row)
            after_step(progress)
            due = progress.step % settings.save_every == 0 or progress.step == settings.steps
            if due and rank == 0:
                run.save(state_file, identity, progress)
    return progress


Part = tuple[Any, Any, torch.Tensor]
"""Inputs, targets and group numbers of the rows of one forward pass."""


class _Run:
    """Network, optimiser, objective and loss scaling of one run."""

    def __init__(
        self, network: nn.Module, settings: TrainingSettings, objective: Objective, steps: Steps
    ) -> None:
        self.network = network
        self.settings = settings
        self.objective = objective
        self.replicas: Replicas = objective.replicas
        self.steps = steps
        self.device = next(network.parameters()).device
        self.mixed = self.device.type == "cuda"
        self.optimiser = (steps.optimiser or self._adamw)(network.parameters())
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.mixed)

    def step(self, parts: list[Part], step: int) -> float:
        rate = self.steps.rate or self._polynomial
        for group in self.optimiser.param_groups:
            group["lr"] = rate(step)
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        value = sum(self._differentiate(part) for part in parts)
        factor = self.objective.end_step()
        if factor != 1.0:
            for parameter in self.network.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)
        self.replicas.average_gradients(self.network)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return self.replicas.mean(value * factor)

    def _differentiate(self, part: Part) -> float:
        inputs, targets, groups = part
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.mixed):
            outputs = self.network(_each(inputs, lambda tensor: tensor.to(self.device)))
        outputs = _each(outputs, torch.Tensor.float)
        targets = _each(targets, lambda tensor: tensor.to(self.device))

        def loss_of(rows: Selection) -> torch.Tensor:
            chosen = (_each(tree, lambda tensor: tensor[rows]) for tree in (outputs, targets))
            return self.steps.loss(*chosen)

        loss = self.objective.loss(loss_of, groups.tolist())
        self.scaler.scale(loss).backward()
        return float(loss.detach())

    def _adamw(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            parameters, self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )

    def _polynomial(self, step: int) -> float:
        return self.settings.learning_rate * (1 - step / self.settings.steps) ** 0.9

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
            "objective": {"identity": self.objective.identity(), **self.objective.state()},
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
        if state.get("identity") != identity or not self._same_objective(state):
            return Progress()
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        if "objective" in state:
            self.objective.restore(state["objective"])
        return Progress(state["step"], state["losses"], state["notes"])

    def _same_objective(self, state: Mapping[str, Any]) -> bool:
        if "objective" not in state:  # written when erm was the only one
            return self.objective.settings.name == "erm"
        return bool(state["objective"]["identity"] == self.objective.identity())


def _steps(
    samples: GroupedSamples, settings: TrainingSettings, *, first: int
) -> Iterator[list[Part]]:
    """The parts of each step: as many as its rows need at `batch_size` a forward pass."""
    rows, size = samples.objective.rows_per_step(settings.batch_size), settings.batch_size
    replicas = samples.objective.replicas
    starts = range(0, rows, size)
    batches = [
        list(range(share * rows + start, share * rows + min(start + size, rows)))
        for step in range(first, settings.steps)
        for share in (step * replicas.count + replicas.rank,)
        for start in starts
    ]
    if not batches:
        return
    loaded = iter(
        DataLoader(
            samples,  # type: ignore[arg-type]
            batch_sampler=batches,
            num_workers=settings.workers,
            pin_memory=False,
        )
    )
    yield from _ahead(lambda: list(islice(loaded, len(starts))))


def _ahead(make: Callable[[], list[Part]]) -> Iterator[list[Part]]:
    """What `make` makes until that is empty, each while the one before is in use.

    It runs in one thread, so its calls follow each other; what it raises is raised in its turn.
    """
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="samples")
    try:
        waiting = deque(pool.submit(make) for _ in range(_STEPS_AHEAD))
        while parts := waiting.popleft().result():
            waiting.append(pool.submit(make))
            yield parts
    finally:
        pool.shutdown(cancel_futures=True)


def _each(tree: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same tensor, tuple, list or mapping with each tensor changed."""
    if isinstance(tree, torch.Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return {name: _each(inner, change) for name, inner in tree.items()}
    return tuple(_each(inner, change) for inner in tree)


def _seed(seed: int, step: int, rank: int) -> int:
    key = [seed, step, 2, rank] if rank else [seed, step, 2]
    return int(np.random.default_rng(key).integers(2**31))
