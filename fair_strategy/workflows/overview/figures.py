"""The figures as plain, validated values: what is computed, kept and sent.

None where a number is suppressed or undefined; which of the two stands beside it.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

EvidenceName = Literal["validation", "audit", "estimator"]


class Figure(BaseModel):
    """Frozen; unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class GroupDice(Figure):
    """Mean Dice of one subgroup under one model."""

    subgroup: str
    n: int | None = Field(description="cases; null where suppressed")
    mean: float | None
    low: float | None = Field(description="95 % interval of the mean, Student's t")
    high: float | None
    suppressed: bool


class Gap(Figure):
    """Best minus worst subgroup's mean Dice, and what is left of it above the floor."""

    value: float
    low: float | None = Field(description="95 % interval of best minus worst, Welch's t")
    high: float | None
    excess: float | None = Field(description="gap minus floor; null where no floor is known")
    excess_low: float | None
    excess_high: float | None
    best_group: str
    worst_group: str


class Version(Figure):
    """One model version."""

    number: int = Field(description="1 is the first model of the study")
    model: str = Field(description="start of its checksum")
    origin: str
    created_at: datetime
    groups: tuple[GroupDice, ...]
    gap: Gap | None = Field(description="null where a subgroup is suppressed or has no case")
    note: str = Field(description="why something is missing; empty if nothing is")


class Series(Figure):
    """Dice over the model versions, on one kind of evidence."""

    evidence: EvidenceName
    title: str
    description: str
    versions: tuple[Version, ...]


class Floor(Figure):
    """The gap that would be left with everything labelled, as the settings give it."""

    value: float | None
    attainable: dict[str, float]
    sentence: str


class Refreshed(Figure):
    """When figures by subgroup were last made anew."""

    model: str | None = Field(description="start of the checksum of the model they go with")
    at: datetime | None
    current: bool = Field(description="whether they go with the newest model")
    sentence: str


class Performance(Figure):
    """Dice by subgroup over the model versions."""

    series: tuple[Series, ...]
    floor: Floor
    refreshed: Refreshed
    min_cell: int


class GroupCounts(Figure):
    """How many scans of one subgroup; null where suppressed."""

    subgroup: str
    labelled: int | None
    pool: int | None
    excluded: int | None


class Counts(Figure):
    """Labelled, pool and excluded (or unreadable) scans, by subgroup and in all."""

    groups: tuple[GroupCounts, ...]
    labelled: int
    pool: int
    excluded: int
    refreshed: Refreshed


class GroupWeight(Figure):
    """Weight of one subgroup; the mean over subgroups is 1."""

    subgroup: str
    weight: float


class Weights(Figure):
    """The weights that the plans follow."""

    rule: str
    estimator: str
    groups: tuple[GroupWeight, ...]
    refreshed: Refreshed
    note: str


class Spread(Figure):
    """Median and quartiles."""

    median: float
    low: float
    high: float


class GroupWork(Figure):
    """What one subgroup's labels cost; null where suppressed or where nothing is known."""

    subgroup: str
    timed: int | None = Field(description="labels whose time is known; null where suppressed")
    seconds: Spread | None
    edited: int | None = Field(description="labels that started from a prediction")
    edited_mm3: Spread | None


class Work(Figure):
    """Annotation time and edited volume by subgroup."""

    groups: tuple[GroupWork, ...]
    refreshed: Refreshed
    min_cell: int


class GroupAgreement(Figure):
    """How far the readers of one subgroup's scans agree; null where suppressed or not known."""

    subgroup: str
    n: int | None = Field(description="scans that several have read; null where suppressed")
    dice: Spread | None = Field(description="over scans, of the mean Dice of the pairs of readers")
    n_surface: int | None = Field(description="those of which no mask is empty")
    surface_distance_mm: Spread | None = Field(description="over scans, of the mean of the pairs")


class Agreement(Figure):
    """Agreement of several readers by subgroup."""

    readers_per_case: int
    consensus: str
    groups: tuple[GroupAgreement, ...]
    refreshed: Refreshed
    min_cell: int


class HeldScan(Figure):
    """A scan in a reader's hands."""

    image: str
    client_id: str
    seconds_left: float
    decision: int


class Leases(Figure):
    """All running leases."""

    leases: tuple[HeldScan, ...]


class Decision(Figure):
    """One scan handed to one reader."""

    decision: int
    plan: int
    position: int
    image: str
    client_id: str
    strategy: str
    model: str | None
    created_at: datetime


class Decisions(Figure):
    """The newest decisions first."""

    decisions: tuple[Decision, ...]


class Candidate(Figure):
    """One place of a plan: score x weight = utility."""

    position: int
    image: str
    score: float | None = Field(description="case entropy, nats; null without a score")
    weight: float | None
    utility: float | None
    reason: str
    chosen: bool


class DecisionRecord(Figure):
    """A decision with everything that it was taken from."""

    decision: Decision
    seed: int
    settings_version: int
    planned_at: datetime
    score: str = Field(description="which case entropy")
    quota_batch: int
    audit_every: int
    weights: tuple[GroupWeight, ...]
    total: int = Field(description="candidates of the plan")
    candidates: tuple[Candidate, ...]


class Replay(Figure):
    """A plan rebuilt from its stored inputs, compared with the stored one."""

    decision: int
    plan: int
    strategy: str
    position: int
    image: str
    replayed: str = Field(description="the scan that the rebuilt plan has at this place")
    same: bool = Field(description="every place of the plan came out as stored")


class TrainingProgress(Figure):
    """Training up to one step, by subgroup: mean loss since the last row, and q for group_dro."""

    step: int
    loss: dict[str, float | None]
    q: dict[str, float] | None


class TrainedModel(Figure):
    """One model of the study, and how its training went."""

    number: int
    model: str
    origin: str
    created_at: datetime
    current: bool
    training_cases: int | None
    steps: int | None
    best_step: int | None
    loss: float | None = Field(description="mean over the last tenth of the steps")
    dice: float | None = Field(description="mean over the select half at the best step")
    worst_group_dice: float | None
    objective: str | None
    progress: tuple[TrainingProgress, ...]
    note: str


class Training(Figure):
    """All models, oldest first."""

    models: tuple[TrainedModel, ...]


class Excluded(Figure):
    """A scan that was taken out, or that cannot be read, and why."""

    image: str
    reason: str
    by: str | None = Field(description="the reader who excluded it, where known")
    reopens: bool = Field(description="whether it can be put back from here")


class Summary(Figure):
    """The study at a glance."""

    study: str
    sensitive_feature: str
    subgroups: tuple[str, ...]
    rule: str
    estimator: str
    objective: str
    min_cell: int
    model: str | None
    model_number: int
    model_created_at: datetime | None
    labels_since: int = Field(description="labels submitted since the figures by subgroup")
    counts: Counts
    excluded: tuple[Excluded, ...]
    audit_report: bool = Field(description="whether GET /fairness/audit has one")
    note: str
