"""What a simulation is made of: cohort, starts, budget, training, arms, stages; checked."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from fair_strategy.acquisition.strategies import STRATEGIES
from fair_strategy.config import SettingsError, StudySettings, parse_settings
from fair_strategy.config_file import Block, known_or_error, read_yaml, validated
from fair_strategy.data.synthetic.subject import EFFECT_MM, MAJORITY, MINORITY
from fair_strategy.workflows.planning import refusal
from fair_strategy.workflows.simulation.checks import (
    check_network,
    check_start,
    check_study_settings,
)

WHOLE_POOL = "whole_pool"
"""The strategy of the arm that is trained once on every scan of the pool: the floor of the gap."""

BRAIN = "brain"
"""Field of view of whole volumes; the other one is a box around the structure."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Seed = Annotated[int, Field(ge=0)]
Triple = tuple[int, int, int]


def _seeds(value: Any) -> Any:
    if isinstance(value, int) and value < 1:
        raise ValueError(f"expected a number of seeds, 1 or more, or a list of seeds; got {value}")
    return tuple(range(value)) if isinstance(value, int) else value


class CohortBlock(Block):
    """The synthetic pool and test set.

    Attributes:
        pool, test: scans of each group.
        pool_seed, test_seed: of the generator; never the same, and others for development than
            for a final run.
    """

    voxel_mm: float = Field(default=1.5, ge=0.25, le=8)
    pool: dict[Name, int] = Field(default={MAJORITY: 60, MINORITY: 40})
    test: dict[Name, int] = Field(default={MAJORITY: 100, MINORITY: 100})
    pool_seed: int = Field(default=1, ge=0)
    test_seed: int = Field(default=2, ge=0)

    @model_validator(mode="after")
    def _possible(self) -> "CohortBlock":
        for name, sizes in (("pool", self.pool), ("test", self.test)):
            known_or_error(sizes, (MAJORITY, MINORITY), f"group of {name}")
            if set(sizes) != {MAJORITY, MINORITY} or min(sizes.values()) < 1:
                raise ValueError(f"{name}: expected scans of both {MAJORITY} and {MINORITY}")
        if self.pool_seed == self.test_seed:
            raise ValueError("pool_seed and test_seed are the same: the test set would be known")
        return self


class TrainingBlock(Block):
    """The network and how each round trains it, from random weights.

    Attributes:
        window: voxels that the network sees at once; boxes that fit into it need one forward pass.
        localiser: checkpoint whose localiser is used, for whole brains; a relative path is
            relative to the configuration file.
    """

    steps: int = Field(default=250, ge=1)
    batch_size: int = Field(default=2, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-5, ge=0)
    augment: float = Field(default=1.0, ge=0, le=1)
    context_mm: float = Field(default=6.0, ge=0)
    shift_mm: float = Field(default=4.0, ge=0)
    far_mm: float = Field(default=0.0, ge=0)
    spacing_mm: float = Field(default=1.5, gt=0)
    window: Triple = (32, 44, 32)
    channels: tuple[int, ...] = (8, 16, 32)
    strides: tuple[int, ...] = (2, 2)
    residual_units: int = Field(default=0, ge=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    localiser: Path | None = None

    @model_validator(mode="after")
    def _network_exists(self) -> "TrainingBlock":
        check_network(self.channels, self.strides, self.window)
        return self


class AnnotatorBlock(Block):
    """Who annotates.

    Attributes:
        kind: `perfect` submits the true mask; `anchoring` corrects what the model shows.
        corrected: share of the wrong voxels that an anchoring annotator puts right.
    """

    kind: Literal["perfect", "anchoring"] = "perfect"
    corrected: float = Field(default=0.5, ge=0, le=1)


class ArmBlock(Block):
    """One way to run a study.

    Attributes:
        strategy: one of the server's, or `whole_pool`.
        settings: of the study, over those of the whole simulation.
        by_bias: the same for one bias only, over `settings`.
        carry_over: train on from the last round's model instead of from random weights.
        field_of_view: `caudate` (a box of 48 x 64 x 48 mm) or `brain`, of pool and test set.
    """

    strategy: str
    settings: dict[str, Any] = Field(default={})
    by_bias: dict[str, dict[str, Any]] = Field(default={})
    carry_over: bool = False
    field_of_view: Literal["caudate", "brain"] = "caudate"
    annotator: AnnotatorBlock = AnnotatorBlock()

    @model_validator(mode="after")
    def _known(self) -> "ArmBlock":
        known_or_error([self.strategy], [*STRATEGIES, WHOLE_POOL], "strategy")
        known_or_error(self.by_bias, EFFECT_MM, "bias")
        if self.strategy == WHOLE_POOL and (self.carry_over or self.annotator != AnnotatorBlock()):
            raise ValueError(
                f"strategy {WHOLE_POOL!r} is trained once on the true masks: annotator and "
                "carry_over do nothing there; leave them out"
            )
        return self


class StageBlock(Block):
    """Runs that belong together; stages are run one after another, seed by seed."""

    name: Name
    biases: tuple[str, ...] = Field(min_length=1)
    starts: tuple[str, ...] = Field(min_length=1)
    arms: tuple[str, ...] = Field(min_length=1)
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(_seeds)] = Field(min_length=1)


class SimulationSettings(Block):
    """A whole simulation.

    Attributes:
        starts: name -> scans of each group that are labelled at the beginning (drawn by each seed),
            or the case ids.
        budget: scans annotated a round.
        rounds: how often that happens; the first model is round 0.
        streams: `by_round` gives each round of each run random streams of its own; `by_run` is how
            a server does it, whose study has one seed: its rounds share weights and jitter.
        settings: study settings of every arm.
    """

    cohort: CohortBlock = CohortBlock()
    starts: dict[Name, dict[str, int] | tuple[str, ...]] = Field(min_length=1)
    budget: int = Field(default=4, ge=1)
    rounds: int = Field(default=6, ge=1)
    streams: Literal["by_round", "by_run"] = "by_round"
    training: TrainingBlock = TrainingBlock()
    settings: dict[str, Any] = Field(default={})
    arms: dict[Name, ArmBlock] = Field(min_length=1)
    stages: tuple[StageBlock, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_together(self) -> "SimulationSettings":
        self._check_stages()
        for name, start in self.starts.items():
            self._check_budget(name, check_start(name, start, self.cohort.pool))
        for name, arm in self.arms.items():
            self._check_arm(name, arm)
        return self

    def _check_stages(self) -> None:
        for stage in self.stages:
            known_or_error(stage.biases, EFFECT_MM, "bias")
            known_or_error(stage.starts, self.starts, "start")
            known_or_error(stage.arms, self.arms, "arm")
        counted = Counter(stage.name for stage in self.stages)
        twice = [name for name, number in counted.items() if number > 1]
        if twice:
            raise ValueError(f"stages: expected a name once, got {', '.join(twice)} again")

    def _check_arm(self, name: str, arm: ArmBlock) -> None:
        for bias in EFFECT_MM:
            settings = study_settings(self, arm, bias=bias, seed=0)
            reason = "" if arm.strategy == WHOLE_POOL else refusal(arm.strategy, settings)
            if reason:
                raise ValueError(reason)
            try:
                check_study_settings(settings, self.cohort.pool)
            except ValueError as error:
                raise ValueError(f"arm {name!r}: {error}") from None

    def _check_budget(self, start: str, labelled: int) -> None:
        there, asked = sum(self.cohort.pool.values()), labelled + self.budget * self.rounds
        if asked > there:
            raise ValueError(
                f"start {start!r}: its {labelled} scans and {self.rounds} rounds of {self.budget} "
                f"ask for {asked}, the pool has {there}; take a larger pool or fewer rounds"
            )


def study_settings(
    simulation: SimulationSettings, arm: ArmBlock, *, bias: str, seed: int
) -> StudySettings:
    """Settings of an arm's study: the simulation's, the arm's over them, the bias's over both.

    Without a word on it there is no frozen validation set (its labels would be a gift that only
    one estimator uses), a batch of the quotas is a round, and `skip_minutes` is 0, so that asking
    twice gives the same scan twice.

    Raises:
        SettingsError: for an unknown setting or a bad value.
    """
    chosen: dict[str, Any] = {
        "validation_per_group": 0,
        "quota_batch": simulation.budget,
        "skip_minutes": 0,
        **simulation.settings,
        **arm.settings,
        **arm.by_bias.get(bias, {}),
    }
    for name in ("seed", "train_steps"):
        if name in chosen:
            raise SettingsError(f"option {name!r}: a simulation sets it itself; leave it out")
    if chosen.get("readers_per_case", 1) != 1:
        raise SettingsError(
            "option 'readers_per_case': a simulated study has one reader; leave it out"
        )
    own = {"seed": seed, "train_steps": simulation.training.steps}
    return parse_settings(StudySettings, chosen | own)


def read_simulation(path: Path) -> SimulationSettings:
    """The simulation in a YAML file.

    Raises:
        SettingsError: for no YAML, an unknown option, strategy, rule or name (the good ones are
            listed), a bad value or a localiser that is not there.
    """
    found = validated(SimulationSettings, read_yaml(path), source=path.name)
    return _with_paths(found, path)


def _with_paths(found: SimulationSettings, source: Path) -> SimulationSettings:
    localiser = found.training.localiser
    if localiser is None:
        return found
    path = (source.parent / localiser).resolve()
    if not path.is_file():
        raise SettingsError(
            f"{source.name}: training.localiser: expected a checkpoint, there is no file {path}"
        )
    training = found.training.model_copy(update={"localiser": path})
    return found.model_copy(update={"training": training})
