"""ISIC-2019: the kind of a skin lesion from a photograph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import nn

from fair_strategy.data.cohort import CohortError
from fair_strategy.learning.residual import (
    ResidualArguments,
    ResidualNetwork,
    load_torchvision_weights,
)
from fair_strategy.learning.uncertainty import Sampling, sampled_probabilities
from fair_strategy.workflows.tasks.cases import Case, LeftOut, Reading
from fair_strategy.workflows.tasks.csv_files import MISSING, numbers, read_csv, refuse_twice
from fair_strategy.workflows.tasks.recipe import Row, device_of
from fair_strategy.workflows.tasks.settings import IsicSettings

TRUTH = "ISIC_2019_Training_GroundTruth.csv"
METADATA = "ISIC_2019_Training_Metadata.csv"
IMAGES = "ISIC_2019_Training_Input"
CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
OTHER = "UNK"
_COLUMNS = ("image", "age_approx", "anatom_site_general", "lesion_id", "sex")
# Of ImageNet's photographs, by which torchvision's weights were trained.
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_SD = np.array([0.229, 0.224, 0.225], np.float32)
_BATCH = 32


@dataclass(frozen=True, eq=False)
class Isic:
    """See Recipe."""

    settings: IsicSettings
    kind = "classification"
    regions = ""
    features = ("age_group", "sex")

    def read(self, data: Path) -> Reading:
        """The cases of which class, and the feature that splits go by, are known."""
        truth = _truth(data / TRUTH)
        metadata = read_csv(data / METADATA, _COLUMNS)
        refuse_twice(data / METADATA, metadata, "image")
        _same_images(truth, metadata)
        people = _people(data / METADATA, metadata, self.settings.age_edge)
        folder = data / IMAGES if (data / IMAGES).is_dir() else data
        cases, left_out = [], []
        for image, name in zip(truth["image"], truth["class"], strict=True):
            lesion, features = people[image]
            if name == OTHER:
                left_out.append(
                    LeftOut(image, f"is of class {OTHER}, which no image is trained on")
                )
            elif features[self.settings.feature] == "n/a":
                left_out.append(LeftOut(image, f"has no {self.settings.feature} in {METADATA}"))
            else:
                group, target = features[self.settings.feature], CLASSES.index(name)
                files = (folder / f"{image}.jpg",)
                cases.append(Case(image, lesion, group, name, features, files, target))
        _refuse_absent([case.files[0] for case in cases])
        return Reading(tuple(sorted(cases, key=lambda case: case.case_id)), tuple(left_out))

    def fitted(self, training: Sequence[Case]) -> "Isic":
        """Nothing is taken from the training cases."""
        return self

    def network(self) -> nn.Module:
        """ResNet-18, by default."""
        own = self.settings.network
        network = ResidualNetwork(
            ResidualArguments(
                channels=own.channels, blocks=own.blocks, dropout=own.dropout, norm=own.norm
            ),
            len(CLASSES),
        )
        if self.settings.weights is not None:
            load_torchvision_weights(network, self.settings.weights)
        return network

    def row(self, case: Case, rng: np.random.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
        """A photograph, in training cut, turned and mirrored; and its class."""
        pixels = _pixels(case.files[0], self.settings.image_size, rng)
        return torch.from_numpy(pixels), torch.tensor(case.target)

    def loss(self, epoch: int) -> Callable[[Any, Any], torch.Tensor]:
        """Cross entropy."""
        return nn.functional.cross_entropy

    def predict(
        self, networks: Sequence[nn.Module], cases: Sequence[Case], sampling: Sampling, out: Path
    ) -> list[Row]:
        """A row an image: class, probabilities, entropy of the mean probability."""
        rows: list[Row] = []
        for first in range(0, len(cases), _BATCH):
            batch = cases[first : first + _BATCH]
            inputs = torch.stack([self.row(case, None)[0] for case in batch])
            found = sampled_probabilities(
                networks,
                inputs.to(device_of(networks)),
                cases=[case.case_id for case in batch],
                sampling=sampling,
            )
            for case, mean, entropy in zip(
                batch, found.mean, found.predictive_entropy, strict=True
            ):
                row: Row = {"case": case.case_id, "subject": case.subject_id}
                row["reference"] = CLASSES[case.target]
                row |= {f"p_{name}": float(p) for name, p in zip(CLASSES, mean, strict=True)}
                rows.append(row | {"uncertainty": float(entropy)})
        return rows


def _truth(path: Path) -> pd.DataFrame:
    table = read_csv(path, ("image", *CLASSES))
    unknown = [name for name in table.columns if name not in ("image", *CLASSES, OTHER)]
    if unknown:
        raise CohortError(
            f"{path}: unknown class {', '.join(map(repr, unknown))}; "
            f"the classes are {', '.join((*CLASSES, OTHER))}"
        )
    refuse_twice(path, table, "image")
    names = [name for name in table.columns if name != "image"]
    marks = np.stack([numbers(path, table, name).to_numpy() for name in names], axis=1)
    wrong = np.flatnonzero(~(np.isin(marks, (0, 1)).all(axis=1) & (marks.sum(axis=1) == 1)))
    if wrong.size:
        line, image = table.index[wrong[0]], table["image"].iloc[wrong[0]]
        raise CohortError(
            f"{path.name} line {line}: {image}: expected one class with 1 and 0 elsewhere, "
            f"got {', '.join(f'{v:g}' for v in marks[wrong[0]])}"
        )
    classes = [names[place] for place in marks.argmax(axis=1)]
    return pd.DataFrame({"image": table["image"], "class": classes})


def _same_images(truth: pd.DataFrame, metadata: pd.DataFrame) -> None:
    apart = sorted(set(truth["image"]) ^ set(metadata["image"]))
    if apart:
        raise CohortError(
            f"{TRUTH} and {METADATA} name different images, such as {', '.join(apart[:3])} "
            f"({len(apart)} in one only); give both a row for each"
        )


def _people(
    path: Path, metadata: pd.DataFrame, edge: float
) -> dict[str, tuple[str, dict[str, str]]]:
    """Image -> lesion and its features, each from the first image of the lesion that has it."""
    ages = numbers(path, metadata, "age_approx")
    found: dict[str, dict[str, str]] = {}
    lesion_of = {}
    for line in metadata.sort_values("image").index:
        image, lesion = metadata["image"][line], metadata["lesion_id"][line]
        lesion_of[image] = lesion = image if lesion.casefold() in MISSING else lesion
        age, sex = ages[line], metadata["sex"][line].casefold()
        own = {
            "age_group": "n/a" if np.isnan(age) else age_name(age, edge),
            "sex": "n/a" if sex in MISSING else sex,
        }
        known = found.setdefault(lesion, own)
        found[lesion] = {name: own[name] if v == "n/a" else v for name, v in known.items()}
    return {image: (lesion, found[lesion]) for image, lesion in lesion_of.items()}


def age_name(age: float, edge: float) -> str:
    """The subgroup of an age in years."""
    return f"{edge:g} and over" if age >= edge else f"under {edge:g}"


def _refuse_absent(files: Sequence[Path]) -> None:
    absent = [path for path in files if not path.is_file()]
    if absent:
        raise CohortError(
            f"{absent[0].parent}: {len(absent)} of {len(files)} images are missing, such as "
            f"{', '.join(path.name for path in absent[:3])}; complete the folder, or take them "
            "out of both tables"
        )


def _pixels(path: Path, size: int, rng: np.random.Generator | None) -> NDArray[np.float32]:
    """(3, size, size)."""
    try:
        with Image.open(path) as image:
            coloured = image.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise CohortError(f"{path}: cannot be read as an image ({error}); get it again") from None
    box = (0.0, 0.0, float(coloured.width), float(coloured.height))
    if rng is not None:
        share = float(rng.uniform(0.8, 1.0))
        left = float(rng.uniform(0, 1 - share)) * box[2]
        top = float(rng.uniform(0, 1 - share)) * box[3]
        box = (left, top, left + share * box[2], top + share * box[3])
    resized = coloured.resize((size, size), Image.Resampling.BILINEAR, box=box)
    array = (np.asarray(resized, np.float32) / 255 - _MEAN) / _SD
    if rng is not None:
        array = np.rot90(array, int(rng.integers(4)))
        array = array[:, ::-1] if rng.integers(2) else array
    return np.ascontiguousarray(array.transpose(2, 0, 1))
