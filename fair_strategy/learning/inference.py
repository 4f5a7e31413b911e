"""From a scan in any grid to foreground probability and entropy in that same grid.

Localise, then segment: an overview of the scan at 4 mm goes through the localiser; one window of
the segmenter at the place found does the rest. Without a localiser, without trust in what it
says, where that window does not show the structure after all, or where the content fills one
window or two anyway, the window slides over the content.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import nn

from fair_strategy.acquisition.entropy import binary_entropy, mutual_information
from fair_strategy.data.grids import Shape
from fair_strategy.data.volumes import Volume
from fair_strategy.learning.checkpoint import Model
from fair_strategy.learning.features import collected_features, mean_features
from fair_strategy.learning.grids import (
    Grid,
    box_around,
    box_grid,
    covering_grid,
    draw,
    resample,
    snapped,
    window_grid,
)
from fair_strategy.learning.localisation import (
    Location,
    Overview,
    foreground,
    heaviest,
    locate,
    overview,
    overview_multiple,
)
from fair_strategy.learning.network import stochastic_copy
from fair_strategy.learning.transforms import normalise

Route = Literal["localised", "sliding"]
Box = tuple[slice, slice, slice]

MINIMUM_TRUST = 0.5
# Of the structure in its window: the smallest caudate measures about 800 mm3, and localisers that
# were right erred by up to 14 mm.
LEAST_MM3, FARTHEST_MM = 400.0, 22.0
OVERLAP = 0.5
FEW_WINDOWS = 2
COARSE_MM = 4.0
_PASSES_AT_ONCE = 4
# Dropout draws from torch's global generator, which threads share.
_ONE_STOCHASTIC_RUN = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Foreground probability and entropy inside a box of the scan's own grid.

    Outside of the box the probability is 0. The background's probability is one minus the
    foreground's; the mask is probability >= 0.5.

    Attributes:
        shape, affine: the scan's grid.
        box: the part of it that the arrays cover.
        probability: float32, mean over the passes, in [0, 1].
        entropy: float32, entropy of `probability`, in nats: 0 to ln 2. It is computed after
            the probability was resampled onto the scan's grid, so the two always agree.
        mutual_information: float32, nats, entropy minus the passes' mean entropy; None for a
            single pass.
        route: "localised" (one window at the place found) or "sliding".
        trust: of the localiser, in [0, 1]; 1 where there was nothing to find because the
            content fills one or two windows, 0 without a localiser.
        head_centre_mm: RAS; None if the scan does not show a whole head.
        features: (C,) float32, the segmenter's deepest level, mean over voxels, windows and
            passes; None if the network does not report it.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    box: Box
    probability: NDArray[np.float32]
    entropy: NDArray[np.float32]
    mutual_information: NDArray[np.float32] | None
    route: Route
    trust: float
    head_centre_mm: tuple[float, float, float] | None
    features: NDArray[np.float32] | None = None

    def whole_mask(self) -> NDArray[np.bool_]:
        """The mask on the whole grid of the scan, `shape`; False outside of the box."""
        mask = np.zeros(self.shape, dtype=np.bool_)
        mask[self.box] = self.probability >= 0.5
        return mask


def predict(model: Model, volume: Volume, *, passes: int = 1, seed: int = 0) -> Prediction:
    """The model's prediction for one scan, in the scan's own grid.

    Args:
        model: see checkpoint.load_model.
        volume: `array` (I, J, K) and `affine` (4, 4), voxel -> RAS mm; any orientation,
            obliqueness and spacing. Not changed.
        passes: 1 is deterministic; more are passes with dropout (Gal and Ghahramani 2016).
        seed: of the dropout; the same seed gives the same prediction.
    Raises:
        ValueError: if passes is below 1 or the array has not three axes.
    """
    if passes < 1:
        raise ValueError(f"passes: expected at least 1, got {passes}")
    if volume.array.ndim != 3:
        raise ValueError(f"expected a volume with 3 axes, got shape {volume.array.shape}")
    affine = np.asarray(volume.affine, dtype=np.float64)
    with torch.inference_mode():
        seen = overview(
            volume.array,
            affine,
            spacing_mm=model.localiser_spacing_mm,
            multiple=overview_multiple(model.localiser_arguments),
            device=model.device,
        )
        location, route = _route(model, seen)

        def segmented(route: Route) -> tuple[Grid, list[torch.Tensor], NDArray[np.float32] | None]:
            grid = snapped(_segmented_grid(model, seen, location, route), affine)
            # A field of view that ends in tissue is drawn out: a black wall beside the structure
            # costs 0.1 of Dice. Brain-extracted scans end in zeros anyway.
            region = draw(volume.array, affine, grid, outside="border", device=model.device)
            with collected_features() as collected:
                return grid, _passes(model, region, passes, seed), mean_features(collected)

        grid, maps, features = segmented(route)
        if route == "localised" and not _shows_structure(maps, model.spacing_mm):
            route = "sliding"
            grid, maps, features = segmented(route)
        found = _in_own_grid(maps, grid, volume, seen, model.window, (location.trust, route))
        return replace(found, features=features)


def half(array: NDArray[np.float32]) -> NDArray[np.float16]:
    """The array in half precision: numpy takes 300 times as long where values are tiny."""
    converted: NDArray[np.float16] = torch.from_numpy(array).half().numpy()
    return converted


def _route(model: Model, seen: Overview) -> tuple[Location, Route]:
    middle = (seen.low_mm + seen.high_mm) / 2
    if _windows(model, seen) <= FEW_WINDOWS:
        return Location(middle, 1.0), "sliding"
    if model.localiser is None:
        return Location(middle, 0.0), "sliding"
    location = locate(seen, model.localiser)
    return location, "localised" if location.trust >= MINIMUM_TRUST else "sliding"


def _shows_structure(maps: list[torch.Tensor], spacing_mm: float) -> bool:
    """Whether a window holds what the localiser said it does: enough, and about its middle.

    The localiser can be sure and wrong; the segmenter, which sees the place at full resolution,
    then finds nothing or a piece at the rim.
    """
    mask = (_mean(maps)[0] >= 0.5).cpu().numpy()
    # argwhere, but ten times as fast on few voxels of many
    voxels = np.stack(np.unravel_index(np.flatnonzero(mask), mask.shape), axis=1)
    if len(voxels) * spacing_mm**3 < LEAST_MM3:
        return False
    offset = voxels.mean(axis=0) - (np.array(mask.shape) - 1) / 2
    return float(np.linalg.norm(offset)) * spacing_mm <= FARTHEST_MM


def _windows(model: Model, seen: Overview) -> int:
    """How many windows, laid side by side, the content needs."""
    extent = (seen.high_mm - seen.low_mm) / model.spacing_mm
    # the overview's edges are blurred by up to a voxel of it
    slack = model.localiser_spacing_mm / model.spacing_mm
    sides = [max(1, ceil((n - slack) / side)) for n, side in zip(extent, model.window, strict=True)]
    return sides[0] * sides[1] * sides[2]


def _segmented_grid(model: Model, seen: Overview, location: Location, route: Route) -> Grid:
    if route == "localised" or _windows(model, seen) == 1:
        return window_grid(location.centre_mm, model.window, model.spacing_mm)
    return covering_grid(seen.low_mm, seen.high_mm, model.spacing_mm)


def _passes(model: Model, region: torch.Tensor, passes: int, seed: int) -> list[torch.Tensor]:
    """Foreground probability (1, I, J, K) of the region, once a pass."""
    run = _one_window if tuple(region.shape[1:]) == model.window else _slide
    if passes == 1:
        return run(model, model.network, region, 1)
    network = stochastic_copy(model.network)
    devices = [model.device] if model.device.type == "cuda" else []
    with _ONE_STOCHASTIC_RUN, torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        return run(model, network, region, passes)


def _one_window(
    model: Model, network: nn.Module, region: torch.Tensor, passes: int
) -> list[torch.Tensor]:
    window = normalise(region)
    maps: list[torch.Tensor] = []
    while len(maps) < passes:
        count = min(_PASSES_AT_ONCE, passes - len(maps))
        maps.extend(_foreground(network, window.expand(count, -1, -1, -1, -1)))
    return maps


def _slide(
    model: Model, network: nn.Module, region: torch.Tensor, passes: int
) -> list[torch.Tensor]:
    def predictor(windows: torch.Tensor) -> torch.Tensor:
        return _foreground(network, torch.stack([normalise(w) for w in windows]))

    return [
        sliding_window_inference(
            region[None],
            roi_size=model.window,
            sw_batch_size=_PASSES_AT_ONCE,
            predictor=predictor,
            overlap=OVERLAP,
            mode="gaussian",
            padding_mode="replicate",
        )[0]
        for _ in range(passes)
    ]


def _foreground(network: nn.Module, windows: torch.Tensor) -> torch.Tensor:
    """(N, 1, I, J, K) probability of the foreground; 0 where a (normalised) window is all 0."""
    filled = windows.flatten(1).amax(dim=1) > 0
    if filled.all():
        return foreground(network(windows))
    probability = torch.zeros_like(windows)
    if filled.any():
        probability[filled] = foreground(network(windows[filled]))
    return probability


def _in_own_grid(
    maps: list[torch.Tensor],
    grid: Grid,
    volume: Volume,
    seen: Overview,
    window: Shape,
    found: tuple[float, Route],
) -> Prediction:
    i, j, k = volume.array.shape
    affine = np.asarray(volume.affine, dtype=np.float64)
    box = box_around(_kept(maps, grid, window).corners_mm, (i, j, k), affine)
    own = box_grid(box, affine)
    drawn = [resample(m, grid.affine, own)[0].clamp(0, 1).cpu().numpy() for m in maps]
    probability, information = drawn[0], None
    if len(drawn) > 1:
        probability = np.mean(drawn, axis=0, dtype=np.float32)
        information = mutual_information(_two_classes(np.stack(drawn))).astype(np.float32)
    return Prediction(
        shape=(i, j, k),
        affine=affine,
        box=box,
        probability=probability,
        entropy=binary_entropy(probability),
        mutual_information=information,
        route=found[1],
        trust=found[0],
        head_centre_mm=seen.head_centre_mm,
    )


def _kept(maps: list[torch.Tensor], grid: Grid, window: Shape) -> Grid:
    """The part of the segmented region worth keeping: all of it, if it is about a window.

    Of a larger region, one window where most of the probability lies close together: what a
    window saw far from there, out of context, is not the structure.
    """
    if np.prod(grid.shape) <= FEW_WINDOWS * np.prod(window):
        return grid
    low, high = grid.corners_mm.min(0), grid.corners_mm.max(0)
    coarse = covering_grid(low, high, COARSE_MM)
    probability = draw(_mean(maps)[0].cpu().numpy(), grid.affine, coarse)[0].numpy()
    centre = heaviest(probability, coarse).centre_mm
    around = window_grid(centre, window, float(grid.affine[0, 0]))
    return box_grid(box_around(around.corners_mm, grid.shape, grid.affine), grid.affine)


def _mean(maps: list[torch.Tensor]) -> torch.Tensor:
    return maps[0] if len(maps) == 1 else torch.stack(maps).mean(dim=0)


def _two_classes(foreground: NDArray[np.float32]) -> NDArray[np.float32]:
    """(R, I, J, K) probability of the foreground -> (R, 2, I, J, K), the background first."""
    return np.stack([1.0 - foreground, foreground], axis=1)
