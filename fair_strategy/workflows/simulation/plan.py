"""The runs of a simulation, in the order in which they are done."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fair_strategy.config import StudySettings
from fair_strategy.config_file import known_or_error
from fair_strategy.workflows.simulation.settings import (
    WHOLE_POOL,
    ArmBlock,
    SimulationSettings,
    study_settings,
)

FORMAT = 1
"""Of the shards; in their digest, so that those of another format are not mixed in."""

WITHOUT_A_SAY = {"dicom_filter", "readers_per_case", "consensus"}
"""Settings of a study that came after the first shards and that no simulated scan can feel."""

FLOOR_ROUND = -1
"""Round number of the model that was trained on the whole pool."""

WEIGHTED = frozenset({"weighted_entropy"})
"""Strategies that follow the weights; of the others no rule is told."""


@dataclass(frozen=True)
class Run:
    """One study of the simulation: a bias, a start, an arm and a seed.

    Attributes:
        start: "" for the arm `whole_pool`, which has none.
    """

    simulation: SimulationSettings
    bias: str
    start: str
    arm: str
    seed: int

    @property
    def block(self) -> ArmBlock:
        """The arm's part of the configuration."""
        return self.simulation.arms[self.arm]

    @property
    def is_floor(self) -> bool:
        """Whether it is trained once on the whole pool."""
        return self.block.strategy == WHOLE_POOL

    @property
    def name(self) -> str:
        """Unique in a simulation; a file name."""
        return "_".join(filter(None, (self.bias, self.start, self.arm, f"seed{self.seed}")))

    @property
    def rounds(self) -> int:
        """Number of models that it trains or takes over."""
        return 1 if self.is_floor else self.simulation.rounds + 1

    @property
    def first_round(self) -> int:
        """Number of its first model."""
        return FLOOR_ROUND if self.is_floor else 0

    def stream(self, number: int) -> int:
        """Seed of what is drawn at random in a round.

        A child of the cohort's seed for each (seed, round): independent of other rounds and seeds,
        and the same for every arm.

        Args:
            number: the round's, `FLOOR_ROUND` for the whole pool.
        """
        if self.simulation.streams == "by_run":
            return self.seed
        child = np.random.SeedSequence(
            self.simulation.cohort.pool_seed, spawn_key=(self.seed, number - FLOOR_ROUND)
        )
        return int(child.generate_state(1)[0])

    def study_settings(self, number: int | None = None) -> StudySettings:
        """Settings of its study in a round; in its first without a word."""
        seed = self.stream(self.first_round if number is None else number)
        return study_settings(self.simulation, self.block, bias=self.bias, seed=seed)

    def digest(self) -> str:
        """Of everything that its result depends on, and of nothing else.

        So a finished run stays valid when another arm, seed or stage is added.
        """
        simulation = self.simulation
        start = None if self.is_floor else _plain(simulation.starts[self.start])
        parts: dict[str, Any] = {
            "format": FORMAT,
            "cohort": simulation.cohort.model_dump(mode="json"),
            "training": simulation.training.model_dump(mode="json", exclude={"localiser"}),
            "localiser": simulation.training.localiser is not None,
            "start": start,
            "arm": self.block.model_dump(mode="json", exclude={"settings", "by_bias"}),
            "settings": self.study_settings().model_dump(mode="json", exclude=WITHOUT_A_SAY),
            "bias": self.bias,
            "seed": self.seed,
            "rounds": None if self.is_floor else (simulation.budget, simulation.rounds),
        }
        if simulation.streams != "by_run":  # those of before this choice was there
            parts["streams"] = simulation.streams
        return short_digest(parts)


def runs(simulation: SimulationSettings, stage: str | None = None) -> list[Run]:
    """Every run once, stage by stage and in a stage seed by seed.

    Args:
        stage: only of this one.
    Raises:
        ValueError: for an unknown stage; the good ones are listed.
    """
    names = [s.name for s in simulation.stages]
    if stage is not None:
        known_or_error([stage], names, "stage")
    found: dict[str, Run] = {}
    for number, name in enumerate(names):
        if stage in (None, name):
            for run in _stage_runs(simulation, number):
                found.setdefault(run.name, run)
    return list(found.values())


def short_digest(parts: Any) -> str:
    """Sixteen hexadecimal digits that tell plain values from others."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _stage_runs(simulation: SimulationSettings, number: int) -> Iterator[Run]:
    stage = simulation.stages[number]
    for seed in stage.seeds:
        for bias in stage.biases:
            for start in stage.starts:
                for arm in stage.arms:
                    floor = simulation.arms[arm].strategy == WHOLE_POOL
                    yield Run(simulation, bias, "" if floor else start, arm, seed)


def _plain(start: Any) -> Any:
    return dict(start) if isinstance(start, dict) else list(start)
