"""Training of the networks of a task's ensemble; a killed run goes on where it stopped."""

import hashlib
import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from fair_strategy.learning.checkpoint import write_atomically
from fair_strategy.learning.objectives import (
    Objective,
    ObjectiveSettings,
    balanced_subset,
    make_objective,
)
from fair_strategy.learning.optimisation import Progress, Steps, TrainingSettings, optimise
from fair_strategy.workflows.tasks.cases import Case
from fair_strategy.workflows.tasks.recipe import Recipe

Move = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Parts:
    """Cases of one split; `number` tells it from other folds."""

    number: int
    training: tuple[Case, ...]
    validation: tuple[Case, ...]


@dataclass(frozen=True, eq=False)
class Member:
    """A trained network of the ensemble, and plain values about its training."""

    network: nn.Module
    statistics: dict[str, Any]


class TaskRows(Dataset):
    """Rows of training: a pure function of seed and index."""

    def __init__(
        self, recipe: Recipe, cases: Sequence[Case], objective: Objective, seed: int
    ) -> None:
        self.recipe = recipe
        self.cases = cases
        self.objective = objective
        self.seed = seed

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Any, int]:
        case = self.objective.rows.case(index)
        rng = np.random.default_rng([self.seed, index, 11])
        inputs, targets = self.recipe.row(self.cases[case], rng)
        return inputs, targets, self.objective.group_of[case]


def chosen_for(objective: str, cases: Sequence[Case], *, seed: int) -> tuple[Case, ...]:
    """The cases of `objective`: for `balanced` one subsample, the same for every network."""
    if objective != "balanced":
        return tuple(cases)
    groups, strata = [case.subgroup for case in cases], [case.stratum for case in cases]
    return tuple(cases[i] for i in balanced_subset(groups, strata=strata, seed=seed))


def train_member(
    recipe: Recipe,
    parts: Parts,
    *,
    objective: str,
    member: int,
    folder: Path,
    device: str,
    move: Move,
) -> Member:
    """One network of the ensemble, from its file if it was trained before.

    Args:
        recipe: fitted to the training cases.
        parts: of the split.
        objective: one of OBJECTIVES.
        member: its number; seeds of weights, order, augmentation and dropout follow from it.
        folder: gets `fold-<n>-network-<m>.pt`, and a state file meanwhile.
        device: "cpu" or "cuda".
        move: called with (step, steps).
    """
    path = folder / f"fold-{parts.number}-network-{member}.pt"
    identity = _identity(recipe, parts, objective, member)
    seed = int(np.random.default_rng([recipe.settings.seed, parts.number, member]).integers(2**31))
    network = _new_network(recipe, seed).to(device)
    if (found := _finished(path, identity)) is not None:
        network.load_state_dict(found["network"])
        return Member(network.eval(), found["statistics"])
    training = _Training(recipe, parts, network, objective, seed)
    progress = training.run(path.with_suffix(".state"), identity, device, move)
    if "weights" in progress.notes:
        network.load_state_dict(progress.notes["weights"])
    statistics = {"fold": parts.number, "network": member, **training.statistics(progress)}
    _save(path, identity, network, statistics)
    path.with_suffix(".state").unlink(missing_ok=True)
    return Member(network.eval(), statistics)


class _Training:
    """One network of one objective: its rows, its steps, and what is told of them."""

    def __init__(
        self, recipe: Recipe, parts: Parts, network: nn.Module, objective: str, seed: int
    ) -> None:
        own = recipe.settings
        cases = chosen_for(objective, parts.training, seed=own.seed)
        self.recipe = recipe
        self.network = network
        self.validation = parts.validation
        self.seed = seed
        self.objective = make_objective(
            ObjectiveSettings(objective, own.objective.eta, own.objective.adjustment),
            [case.subgroup for case in cases],
            strata=[case.stratum for case in cases],
            seed=seed,
        )
        self.rows = TaskRows(recipe, cases, self.objective, seed)
        rows = self.objective.rows_per_step(own.training.batch_size)
        self.per_epoch = max(1, len(cases) // rows)
        self.steps = own.training.epochs * self.per_epoch

    def run(self, state_file: Path, identity: str, device: str, move: Move) -> Progress:
        """Train, from the state file if a killed run left one."""
        clock = _Clock(self.recipe, self.per_epoch)
        return optimise(
            self.network,
            self.rows,
            settings=self._settings(device),
            state_file=state_file,
            identity=identity,
            after_step=_Watch(self.recipe, self.validation, self.network, clock, move),
            steps=Steps(loss=clock.loss, optimiser=clock.optimiser, rate=clock.rate),
        )

    def statistics(self, progress: Progress) -> dict[str, Any]:
        """Plain values: steps, cases, losses by subgroup and q over time, the epoch kept."""
        return {
            "steps": self.steps,
            **self.objective.summary(),
            "history": progress.notes.get("objective", []),
            "validation": progress.notes.get("validation", []),
            "kept_epoch": progress.notes.get("kept_epoch", self.recipe.settings.training.epochs),
        }

    def _settings(self, device: str) -> TrainingSettings:
        own = self.recipe.settings.training
        return TrainingSettings(
            steps=self.steps,
            batch_size=own.batch_size,
            learning_rate=own.learning_rate,
            weight_decay=own.weight_decay,
            seed=self.seed,
            evaluate_every=self.per_epoch * own.evaluate_every,
            save_every=max(self.per_epoch, 20),
            workers=own.workers,
            device=device,
            objective=self.objective.settings,
        )


class _Clock:
    """The loss and the rate of an epoch. `optimise` asks for a step's rate before its loss."""

    def __init__(self, recipe: Recipe, per_epoch: int) -> None:
        self.recipe = recipe
        self.per_epoch = per_epoch
        self._loss = recipe.loss(0)

    def rate(self, step: int) -> float:
        epoch = step // self.per_epoch
        self._loss = self.recipe.loss(epoch)
        training = self.recipe.settings.training
        return training.learning_rate * training.rate_decay**epoch

    def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
        return self._loss(outputs, targets)

    def optimiser(self, parameters: Any) -> torch.optim.Optimizer:
        training = self.recipe.settings.training
        return torch.optim.Adam(
            parameters, training.learning_rate, weight_decay=training.weight_decay
        )


class _Watch:
    """After a step: the bar moves; after some epochs: the losses of the validation set."""

    def __init__(
        self,
        recipe: Recipe,
        validation: Sequence[Case],
        network: nn.Module,
        clock: _Clock,
        move: Move,
    ) -> None:
        self.recipe = recipe
        self.validation = validation
        self.network = network
        self.clock = clock
        self.move = move
        training = recipe.settings.training
        self.steps = training.epochs * clock.per_epoch
        self.every = training.evaluate_every * clock.per_epoch

    def __call__(self, progress: Progress) -> None:
        self.move(progress.step, self.steps)
        due = progress.step % self.every == 0 or progress.step == self.steps
        if not (due and self.validation):
            return
        by_group = self._losses()
        keep = self.recipe.settings.training.keep
        sums = [sum(own) for own in by_group.values()]
        overall = sum(sums) / len(self.validation)
        worst = max(total / len(own) for total, own in zip(sums, by_group.values(), strict=True))
        epoch = progress.step // self.clock.per_epoch
        row = {
            "epoch": epoch,
            "loss": overall,
            "by_group": {name: sum(own) / len(own) for name, own in by_group.items()},
        }
        progress.notes.setdefault("validation", []).append(row)
        value = worst if keep == "worst_group" else overall
        if keep != "last" and value < progress.notes.get("lowest", inf):
            progress.notes["lowest"] = value
            progress.notes["kept_epoch"] = epoch
            progress.notes["weights"] = {
                name: tensor.detach().cpu().clone()
                for name, tensor in self.network.state_dict().items()
            }

    def _losses(self) -> dict[str, list[float]]:
        self.network.eval()
        # The loss of the last epoch: were it the present one's, epochs could not be compared.
        loss = self.recipe.loss(self.recipe.settings.training.epochs - 1)
        device = next(self.network.parameters()).device
        found: dict[str, list[float]] = {}
        with torch.inference_mode():
            for case in self.validation:
                inputs, targets = self.recipe.row(case, None)
                outputs = self.network(inputs[None].to(device))
                value = float(loss(outputs, targets[None].to(device)))
                found.setdefault(case.subgroup, []).append(value)
        return dict(sorted(found.items()))


def _new_network(recipe: Recipe, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return recipe.network()


def _identity(recipe: Recipe, parts: Parts, objective: str, member: int) -> str:
    """Equal where a network, or the state of a training, can be used again."""
    shared = recipe.settings.model_dump(mode="json", exclude={"ensemble", "audit", "split"})
    shared["training"].pop("workers")
    told = [
        (c.case_id, c.subgroup, c.stratum, _size(c)) for c in (*parts.training, *parts.validation)
    ]
    text = repr((type(recipe).__name__, shared, objective, member, parts.number, told))
    return hashlib.sha256(text.encode()).hexdigest()


def _size(case: Case) -> tuple[Any, ...]:
    label = case.target.stat().st_size if isinstance(case.target, Path) else case.target
    return (*(path.stat().st_size for path in case.files), label)


def _finished(path: Path, identity: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        return None  # not ours; it is trained anew and replaced
    return found if isinstance(found, dict) and found.get("identity") == identity else None


def _save(path: Path, identity: str, network: nn.Module, statistics: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    tensors = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    torch.save({"identity": identity, "network": tensors, "statistics": statistics}, buffer)
    write_atomically(path, buffer.getvalue())
