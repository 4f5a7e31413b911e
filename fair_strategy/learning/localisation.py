"""Where in a volume the structure is: the low-resolution network and the trust it earns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fair_strategy.learning.grids import Grid, apply_affine, covering_grid, draw
from fair_strategy.learning.network import NetworkArguments
from fair_strategy.learning.transforms import normalise

OVERVIEW_MM = 4.0
WHOLE_HEAD_MM = (95.0, 120.0, 85.0)
"""A field of view whose content reaches less far than this along R, A, S shows no whole brain:
adult brains measure some 115 to 155, 145 to 190, 110 to 150 mm."""
_NEAR_MM = 28.0
_FAINT = 0.1
_EXPECTED_MM3 = 2000.0


@dataclass(frozen=True, slots=True, eq=False)
class Overview:
    """A volume at low resolution on a grid along the world's axes.

    Attributes:
        image: (1, I, J, K), in the scan's own units.
        low_mm, high_mm: (3,) corners of what is not zero; of the whole grid if all is.
        head_centre_mm: (3,) mean position of what is not zero; None if that is no whole head.
    """

    image: torch.Tensor
    grid: Grid
    low_mm: NDArray[np.float64]
    high_mm: NDArray[np.float64]
    head_centre_mm: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True, eq=False)
class Location:
    """Where the structure's middle is, RAS mm, and how far to trust it, in [0, 1]."""

    centre_mm: NDArray[np.float64]
    trust: float


def overview(
    array: NDArray[np.number],
    affine: NDArray[np.float64],
    *,
    spacing_mm: float = OVERVIEW_MM,
    multiple: int = 1,
) -> Overview:
    """The volume (I, J, K) at `spacing_mm`, every side a multiple of `multiple` voxels."""
    i, j, k = array.shape
    corners = Grid((i, j, k), affine).corners_mm
    grid = covering_grid(corners.min(0), corners.max(0), spacing_mm, multiple=multiple)
    image = draw(array, affine, grid)
    filled = _layer_counts(image[0] != 0)
    if not filled[0].any():
        return Overview(image, grid, corners.min(0), corners.max(0), None)
    used = [np.flatnonzero(counts) for counts in filled]
    middle = [np.average(np.arange(len(counts)), weights=counts) for counts in filled]
    first, last = [u[0] for u in used], [u[-1] for u in used]
    low, high, centre_mm = apply_affine(grid.affine, np.array([first, last, middle]))
    low, high = low - spacing_mm / 2, high + spacing_mm / 2
    centre = None
    if (high - low >= WHOLE_HEAD_MM).all():
        centre = (float(centre_mm[0]), float(centre_mm[1]), float(centre_mm[2]))
    return Overview(image, grid, low, high, centre)


def _layer_counts(mask: torch.Tensor) -> list[NDArray[np.int64]]:
    """How many voxels of a mask lie in each layer across each axis."""
    ones = mask.float()  # exact below 2^24
    planes, columns = ones.sum(0), ones.sum(2)
    counts = (columns.sum(1), columns.sum(0), planes.sum(0))
    return [layers.cpu().numpy().astype(np.int64) for layers in counts]


def locate(seen: Overview, localiser: nn.Module) -> Location:
    """The structure's middle by the localiser's probability map.

    Trust is the highest probability, times the share of the probability mass within 28 mm of
    the middle (two candidates share it), times the mass against a small structure's (a speck is
    not trusted). So 1 is one compact, certain region, 0 is none.
    """
    logits = localiser(normalise(seen.image)[None])
    return heaviest(foreground(logits)[0, 0].cpu().numpy(), seen.grid)


def foreground(logits: torch.Tensor) -> torch.Tensor:
    """Softmax of two classes (N, 2, I, J, K), the second one's probability: (N, 1, I, J, K)."""
    return torch.sigmoid(logits[:, 1:].float() - logits[:, :1].float())


def heaviest(probability: NDArray[np.floating], grid: Grid) -> Location:
    """The middle of the region that holds a coarse probability map's peak, and its trust."""
    # Faint probability over a large volume would outweigh the structure itself.
    heavy = probability >= _FAINT
    peak = np.unravel_index(int(probability.argmax()), probability.shape)
    centre = apply_affine(grid.affine, np.array([peak], dtype=np.float64))[0]
    if not heavy[peak]:
        return Location(centre, 0.0)
    voxels = np.flatnonzero(heavy)
    weights = probability.reshape(-1)[voxels].astype(np.float64)
    points = np.stack(np.unravel_index(voxels, heavy.shape), axis=1).astype(np.float64)
    points = apply_affine(grid.affine, points)
    for _ in range(2):  # mean shift from the peak: the middle of the region that holds it
        near = np.linalg.norm(points - centre, axis=1) <= _NEAR_MM
        centre = np.average(points[near], axis=0, weights=weights[near])
    compact = weights[near].sum() / weights.sum()
    voxel_mm3 = abs(np.linalg.det(grid.affine[:3, :3]))
    amount = min(1.0, weights[near].sum() * voxel_mm3 / _EXPECTED_MM3)
    return Location(centre, float(probability[peak] * compact * amount))


def overview_multiple(arguments: NetworkArguments | None) -> int:
    """What every side of an overview must be a multiple of for this localiser."""
    return arguments.multiple if arguments is not None else 1
