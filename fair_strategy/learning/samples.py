"""Training cases after the deterministic part, and the endless row of samples drawn from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms import Compose
from numpy.typing import NDArray
from torch.utils.data import Dataset

from fair_strategy.data.cohort import UNKNOWN
from fair_strategy.data.volumes import Mask, Volume
from fair_strategy.learning.grids import Grid, apply_affine, resample, window_grid
from fair_strategy.learning.objectives import Objective, ObjectiveSettings, make_objective
from fair_strategy.learning.transforms import normalise


@dataclass(frozen=True, slots=True, eq=False)
class PreparedCase:
    """A case on the model's grid: `image` (1, I, J, K) float16, `label` (1, I, J, K) uint8."""

    image: torch.Tensor
    label: torch.Tensor
    subgroup: str = UNKNOWN


def prepare_case(
    image: Volume,
    label: Mask,
    *,
    spacing_mm: float,
    shape: Sequence[int],
    subgroup: str = UNKNOWN,
) -> PreparedCase:
    """The region around a case's label, on the world's axes, drawn out where the scan ends.

    Args:
        image: any grid.
        label: any grid; where it is empty the region lies in the middle of the image.
        spacing_mm: edge of the region's voxels.
        shape: of the region.
        subgroup: of the person.
    Returns:
        The image divided by the region's 99.5th percentile (so that 16 bits hold it) and the
        label, 1 where at least half of a voxel is foreground.
    """
    grid = window_grid(_middle_mm(image, label), shape, spacing_mm)
    affine = np.asarray(image.affine, dtype=np.float64)
    region = resample(_tensor(image.array), affine, grid, pool=True, outside="border")
    own = resample(_tensor(label.array), np.asarray(label.affine), grid, pool=True)
    scale = float(np.percentile(np.abs(region.numpy()), 99.5)) or 1.0
    return PreparedCase((region / scale).half(), (own >= 0.5).byte(), subgroup)


def fingerprint(cases: Sequence[PreparedCase], *context: object) -> str:
    """SHA-256 over the cases' voxels and whatever else a run depends on (by its repr)."""
    digest = hashlib.sha256(repr(context).encode())
    for case in cases:
        digest.update(case.image.numpy().tobytes())
        digest.update(case.label.numpy().tobytes())
    return digest.hexdigest()


class Samples(Dataset):
    """Sample `index` of a run: a pure function of seed and index.

    So a run that was killed goes on with the samples it would have seen, whatever the number of
    workers. Which case comes when is the objective's; without one, all in shuffled rounds.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        transforms: Compose,
        *,
        seed: int,
        count: int,
        objective: Objective | None = None,
    ) -> None:
        self.cases = cases
        self.transforms = transforms
        self.seed = seed
        self.count = count
        self.objective = objective or make_objective(
            ObjectiveSettings(), [case.subgroup for case in cases], seed=seed
        )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        """(image, label, group number) of one window.

        Image and label are (1, I, J, K), float32 and normalised, and int64.
        """
        number = self.objective.rows.case(index)
        case = self.cases[number]
        draw = np.random.default_rng([self.seed, index, 1])
        self.transforms.set_random_state(seed=int(draw.integers(2**31)))
        drawn = self.transforms({"both": torch.cat([case.image.float(), case.label.float()])})
        image = normalise(torch.as_tensor(drawn["image"]).contiguous())
        label = _plain(torch.as_tensor(drawn["label"]) >= 0.5).long()
        return _plain(image), label, self.objective.group_of[number]


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Without MONAI's metadata, which would travel along through every operation."""
    return tensor.as_subclass(torch.Tensor)


def _tensor(array: NDArray[np.generic]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None]


def _middle_mm(image: Volume, label: Mask) -> NDArray[np.float64]:
    voxels = np.argwhere(label.array)
    if len(voxels):
        return apply_affine(np.asarray(label.affine), voxels.mean(0, keepdims=True))[0]
    i, j, k = image.array.shape
    return Grid((i, j, k), np.asarray(image.affine)).corners_mm.mean(0)
