"""ADNI: two cognitive scores from a T1-weighted scan, each with its variance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from fair_strategy.data.cohort import CohortError
from fair_strategy.data.grids import to_ras
from fair_strategy.data.volumes import read_image
from fair_strategy.learning.residual import ResidualArguments, ValueNetwork, value_loss
from fair_strategy.learning.uncertainty import Sampling, sampled_values
from fair_strategy.workflows.tasks.cases import Case, LeftOut, Reading
from fair_strategy.workflows.tasks.csv_files import numbers, read_csv
from fair_strategy.workflows.tasks.isic import age_name
from fair_strategy.workflows.tasks.recipe import Row, device_of
from fair_strategy.workflows.tasks.settings import AdniSettings

TARGETS = ("ADAS13", "MMSE")
_COLUMNS = ("RID", "PTID", "VISCODE", "AGE", *TARGETS)
_BATCH = 4
_SHIFT = 2


@dataclass(frozen=True, eq=False)
class Adni:
    """See Recipe.

    Attributes:
        mean, sd: of the scores of the training cases.
    """

    settings: AdniSettings
    mean: tuple[float, ...] = (0.0, 0.0)
    sd: tuple[float, ...] = (1.0, 1.0)
    kind = "regression"
    regions = ""
    features = ("age_group",)

    def read(self, data: Path) -> Reading:
        """Subjects with a scan and a row of the chosen visit that has age and both scores."""
        path, own = data / self.settings.table, self.settings
        table = read_csv(path, (*_COLUMNS, *([own.stage] if own.stage else ())))
        rows = table[table["VISCODE"].str.casefold() == own.visit.casefold()]
        if rows.empty:
            shown = ", ".join(sorted(set(table["VISCODE"]))[:8])
            raise CohortError(f"{path}: no row with VISCODE {own.visit!r}; there are: {shown}")
        twice = rows.index[rows["PTID"].duplicated()]
        if len(twice):
            raise CohortError(
                f"{path.name} line {twice[0]}: PTID {rows['PTID'][twice[0]]} has two rows with "
                f"VISCODE {own.visit}; keep one"
            )
        scans = _scans(data / own.images)
        unknown = sorted(set(scans) - set(rows["PTID"]))
        if unknown:
            raise CohortError(
                f"{data / own.images}: no row with VISCODE {own.visit} in {path.name} for "
                f"{', '.join(unknown[:3])} ({len(unknown)} of {len(scans)}); add it, or remove "
                "the scan"
            )
        return _reading(path, rows, scans, own)

    def fitted(self, training: Sequence[Case]) -> "Adni":
        """With the mean and standard deviation of the scores."""
        values = np.array([case.target for case in training])
        sd = values.std(axis=0)
        scale = np.where(sd > 0, sd, 1.0)
        return replace(self, mean=tuple(values.mean(axis=0)), sd=tuple(scale))

    def network(self) -> nn.Module:
        """A 3D residual network with a mean and a log variance for each score."""
        own = self.settings.network
        arguments = ResidualArguments(
            3,
            1,
            channels=own.channels,
            blocks=own.blocks,
            dropout=own.dropout,
            norm=own.norm,
            pool=False,
        )
        return ValueNetwork(arguments, len(TARGETS))

    def row(self, case: Case, rng: np.random.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
        """A scan, in training mirrored and shifted; and its scores, standardised."""
        array = _on_grid(case.files[0], self.settings.shape, self.settings.spacing_mm)
        if rng is not None:
            array = array[::-1] if rng.integers(2) else array
            array = np.roll(array, rng.integers(-_SHIFT, _SHIFT + 1, 3), axis=(0, 1, 2))
        target = (np.array(case.target) - self.mean) / self.sd
        inputs = torch.from_numpy(np.ascontiguousarray(array[None]))
        return inputs, torch.from_numpy(target.astype(np.float32))

    def loss(self, epoch: int) -> Callable[[Any, Any], torch.Tensor]:
        """Gaussian negative log likelihood of the standardised scores."""
        return value_loss

    def predict(
        self, networks: Sequence[nn.Module], cases: Sequence[Case], sampling: Sampling, out: Path
    ) -> list[Row]:
        """A row a subject and score: prediction and total variance, in the score's own units."""
        rows: list[Row] = []
        mean, sd = np.array(self.mean), np.array(self.sd)
        for first in range(0, len(cases), _BATCH):
            batch = cases[first : first + _BATCH]
            inputs = torch.stack([self.row(case, None)[0] for case in batch])
            names = [case.case_id for case in batch]
            found = sampled_values(
                networks, inputs.to(device_of(networks)), cases=names, sampling=sampling
            )
            for number, case in enumerate(batch):
                predicted = found.mean[number] * sd + mean
                variance = found.variance[number] * sd**2
                for place, target in enumerate(TARGETS):
                    rows.append(
                        {
                            "case": case.case_id,
                            "subject": case.subject_id,
                            "target": target,
                            "reference": float(case.target[place]),
                            "prediction": float(predicted[place]),
                            "variance": float(variance[place]),
                            "uncertainty": float(variance[place]),
                        }
                    )
        return rows


def _reading(
    path: Path, rows: pd.DataFrame, scans: dict[str, Path], settings: AdniSettings
) -> Reading:
    values = {name: numbers(path, rows, name) for name in ("AGE", *TARGETS)}
    cases, left_out = [], []
    for line in rows.index:
        person = rows["PTID"][line]
        lacking = [name for name, column in values.items() if np.isnan(column[line])]
        if person not in scans:
            left_out.append(LeftOut(person, "has no scan"))
        elif lacking:
            left_out.append(LeftOut(person, f"has no {', '.join(lacking)} in {path.name}"))
        else:
            group = age_name(values["AGE"][line], settings.age_edge)
            stage = rows[settings.stage][line] if settings.stage else ""
            target = tuple(float(values[name][line]) for name in TARGETS)
            features = {"age_group": group}
            cases.append(Case(person, person, group, stage, features, (scans[person],), target))
    if not cases:
        raise CohortError(f"{path}: no subject with a scan, an age and both scores")
    return Reading(tuple(sorted(cases, key=lambda case: case.case_id)), tuple(left_out))


def _scans(folder: Path) -> dict[str, Path]:
    """PTID -> its scan: in the order of the folders, which begin with the date, the first one."""
    if not folder.is_dir():
        raise CohortError(f"{folder}: no such folder; expected one folder a PTID with its scan")
    found: dict[str, Path] = {}
    for person in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = [path for path in person.rglob("*") if path.name.endswith((".nii", ".nii.gz"))]
        if not files:
            raise CohortError(
                f"{person}: no .nii or .nii.gz; convert the scan, or remove the folder"
            )
        found[person.name] = min(files, key=lambda path: (path.parts[-3:], path.name))
    return found


def _on_grid(path: Path, shape: tuple[int, ...], spacing_mm: float) -> NDArray[np.float32]:
    """A scan on the network's grid around its middle, foreground at mean 0 and SD 1."""
    volume = read_image(path)
    array, affine, _ = to_ras(volume.array, volume.affine)
    step = spacing_mm / np.abs(np.diag(affine)[:3])
    start = (np.array(array.shape) - 1) / 2 - step * (np.array(shape) - 1) / 2
    if np.allclose(step, 1) and array.shape == tuple(shape):
        drawn = array
    else:
        drawn = ndimage.affine_transform(array, step, offset=start, output_shape=shape, order=1)
    inside = drawn[drawn > 0]
    if inside.size < 2:
        raise CohortError(f"{path}: nothing of the scan is in the grid of {shape} voxels")
    scaled = (drawn - inside.mean()) / max(float(inside.std()), 1e-6)
    return scaled.astype(np.float32)
