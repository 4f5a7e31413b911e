"""What a task can be told. The defaults are the published ones of Mehta, Shui and Arbel 2023."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from fair_strategy.config_file import Block, read_yaml, validated

Triple = tuple[int, int, int]
Four = tuple[int, int, int, int]
Sizes = float | dict[str, float]
"""Cases, from 1 on, or a share, below 1: of every subgroup, or by subgroup."""


class SplitBlock(Block):
    """Who is trained on and who is tested; all cases of a subject (a lesion) stay together.

    Attributes:
        validation: taken from what is not test.
        test: with `folds` above 1 it is not used: each fold is the test set once.
        folds: 1 for one split.
    """

    validation: Sizes = 0.1
    test: Sizes = 0.2
    folds: int = Field(default=1, ge=1, le=20)

    @model_validator(mode="after")
    def _possible(self) -> "SplitBlock":
        for name, sizes in (("validation", self.validation), ("test", self.test)):
            values = sizes.values() if isinstance(sizes, dict) else (sizes,)
            if any(value < 0 or (value > 1 and value != int(value)) for value in values):
                raise ValueError(f"{name}: expected numbers of cases, or shares below 1")
        return self


class TrainingBlock(Block):
    """How each network is trained, by Adam.

    Attributes:
        rate_decay: the learning rate is multiplied by it after each epoch.
        keep: which state is kept: the last one, or the one with the lowest mean validation loss
            (`overall`) or the lowest mean loss of the worst subgroup (`worst_group`).
        evaluate_every: epochs between two looks at the validation set.
        workers: processes that prepare cases; 0 is this one.
    """

    epochs: int = Field(default=100, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    rate_decay: float = Field(default=1.0, gt=0, le=1)
    weight_decay: float = Field(default=1e-5, ge=0)
    keep: Literal["last", "overall", "worst_group"] = "last"
    evaluate_every: int = Field(default=10, ge=1)
    workers: int = Field(default=0, ge=0)


class ObjectiveBlock(Block):
    """Of group_dro: how fast q moves, and C of C / sqrt(n)."""

    eta: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    adjustment: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class EnsembleBlock(Block):
    """EnsembleDropout: networks x passes; rows of one forward pass, of no effect on the result."""

    networks: int = Field(default=3, ge=1)
    passes: int = Field(default=20, ge=1)
    rows_at_once: int = Field(default=32, ge=1)


class AuditBlock(Block):
    """Resamples, and persons from which a subgroup is compared."""

    draws: int = Field(default=1000, ge=20)
    minimum: int = Field(default=5, ge=2)


class ResidualBlock(Block):
    """A residual network of four stages."""

    channels: Four = (64, 128, 256, 512)
    blocks: Four = (2, 2, 2, 2)
    dropout: float = Field(default=0.2, gt=0, lt=1)
    norm: Literal["batch", "instance"] = "batch"


class UNetBlock(Block):
    """A 3D U-Net with instance normalisation."""

    channels: tuple[int, ...] = (32, 64, 128, 256)
    strides: tuple[int, ...] = (2, 2, 2)
    residual_units: int = Field(default=2, ge=0)
    dropout: float = Field(default=0.2, gt=0, lt=1)


class TaskSettings(Block):
    """What the three tasks have in common."""

    seed: int = Field(default=0, ge=0)
    split: SplitBlock = SplitBlock()
    training: TrainingBlock = TrainingBlock()
    objective: ObjectiveBlock = ObjectiveBlock()
    ensemble: EnsembleBlock = EnsembleBlock()
    audit: AuditBlock = AuditBlock()


class IsicSettings(TaskSettings):
    """ISIC-2019.

    Attributes:
        feature: subgroups of splits and objectives; the audit looks at both.
        age_edge: the older subgroup begins here, in years.
        image_size: pixels of each side that the network sees.
        weights: state dict of torchvision's ResNet-18; None starts at random.
    """

    feature: Literal["age_group", "sex"] = "age_group"
    age_edge: float = Field(default=60, gt=0)
    image_size: int = Field(default=224, ge=32)
    weights: Path | None = None
    network: ResidualBlock = ResidualBlock()
    split: SplitBlock = SplitBlock(
        validation={"60 and over": 882, "under 60": 1212},
        test={"60 and over": 1985, "under 60": 1985},
    )
    training: TrainingBlock = TrainingBlock(rate_decay=0.995)


class BratsSettings(TaskSettings):
    """BraTS-2019.

    Attributes:
        feature: `enhancing_volume` or `centre`, the second part of a case's name.
        volume_edge_mm3: enhancing volumes above it make the first subgroup.
        patch: voxels that the network sees at once.
        overlap: of the patches of a prediction.
        class_weight_decay: class weights approach 1 by this factor an epoch.
    """

    feature: Literal["enhancing_volume", "centre"] = "enhancing_volume"
    volume_edge_mm3: float = Field(default=7000, ge=0)
    patch: Triple = (128, 128, 128)
    overlap: float = Field(default=0.5, ge=0, lt=1)
    class_weight_decay: float = Field(default=0.95, gt=0, le=1)
    network: UNetBlock = UNetBlock()
    split: SplitBlock = SplitBlock(
        validation={"above 7000 mm3": 18, "up to 7000 mm3": 4},
        test={"above 7000 mm3": 20, "up to 7000 mm3": 20},
    )
    training: TrainingBlock = TrainingBlock(epochs=240, batch_size=1, learning_rate=2e-4)
    ensemble: EnsembleBlock = EnsembleBlock(rows_at_once=4)

    @model_validator(mode="after")
    def _patch_fits(self) -> "BratsSettings":
        multiple = 1
        for stride in self.network.strides:
            multiple *= stride
        if any(side < 2 * multiple or side % multiple for side in self.patch):
            raise ValueError(f"patch: expected multiples of {multiple}, from {2 * multiple} on")
        return self


class AdniSettings(TaskSettings):
    """ADNI.

    Attributes:
        table: file name of the table in the data folder.
        images: folder of the images in it.
        visit: value of VISCODE.
        stage: column of the stage, within which `balanced` equalises the subgroups and splits keep
            their proportions; "" for none.
        age_edge: the older subgroup begins here, in years.
        shape, spacing_mm: the grid that the network sees.
    """

    table: str = "ADNIMERGE.csv"
    images: str = "ADNI"
    visit: str = "bl"
    stage: str = "DX_bl"
    age_edge: float = Field(default=70, gt=0)
    shape: Triple = (96, 112, 96)
    spacing_mm: float = Field(default=2.0, gt=0)
    network: ResidualBlock = ResidualBlock(
        channels=(16, 32, 64, 128), blocks=(1, 1, 1, 1), norm="instance"
    )
    split: SplitBlock = SplitBlock(
        validation={"under 70": 31, "70 and over": 101},
        test={"under 70": 65, "70 and over": 65},
        folds=5,
    )
    training: TrainingBlock = TrainingBlock(epochs=200, batch_size=4, learning_rate=2e-4)

    @model_validator(mode="after")
    def _large_enough(self) -> "AdniSettings":
        if min(self.shape) < 32:
            raise ValueError(f"shape: expected 32 voxels or more on each side, got {self.shape}")
        return self


SETTINGS: Mapping[str, type[TaskSettings]] = {
    "isic": IsicSettings,
    "brats": BratsSettings,
    "adni": AdniSettings,
}


def read_task_settings(name: str, path: Path | None) -> TaskSettings:
    """The settings of a task: the published ones, and over them those of a YAML file.

    A block that the file names in part keeps the task's defaults in the rest.

    Raises:
        SettingsError: for no YAML, an unknown option (the good ones are listed) or a bad value.
    """
    given = read_yaml(path) if path else {}
    kind = SETTINGS[name]
    found = validated(kind, _completed(kind, given), source=path.name if path else "")
    weights = getattr(found, "weights", None)
    if weights is None or path is None:
        return found
    return found.model_copy(update={"weights": (path.parent / weights).resolve()})


def _completed(kind: type[TaskSettings], given: Mapping[str, Any]) -> dict[str, Any]:
    complete = dict(given)
    for name, value in given.items():
        field = kind.model_fields.get(name)
        if (
            field is not None
            and isinstance(field.default, BaseModel)
            and isinstance(value, Mapping)
        ):
            complete[name] = {**field.default.model_dump(), **value}
    return complete
