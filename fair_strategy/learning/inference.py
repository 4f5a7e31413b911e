"""From a scan in any grid to foreground probability and entropy in that same grid.

Localise, then segment: an overview of the scan at 4 mm goes through the localiser; one window of
the segmenter at the place found does the rest. Without a localiser, without trust in what it
says, where that window does not show the structure after all, or where the content fills one
window or two anyway, the window slides over the content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

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
    heaviest,
    locate,
    overview,
    overview_multiple,
)
from fair_strategy.learning.transforms import normalise
from fair_strategy.learning.windows import filled, foreground_maps, window_maps

Route = Literal["localised", "sliding"]
Box = tuple[slice, slice, slice]

MINIMUM_TRUST = 0.5
# Of the structure in its window: the smallest caudate measures about 800 mm3, and localisers that
# were right erred by up to 14 mm.
LEAST_MM3, FARTHEST_MM = 400.0, 22.0
FEW_WINDOWS = 2
COARSE_MM = 4.0


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
    with torch.inference_mode():
        sought = _sought(model, volume)
        found = _segmented(model, *_region(model, sought), passes, seed)
        return _finished(model, sought, found, passes, seed)


def predict_together(model: Model, volumes: Sequence[Volume]) -> list[Prediction]:
    """One deterministic pass over several scans: what is one window goes through as one batch.

    As `predict` up to rounding, since a batch of another size is summed in another order.

    Args:
        volumes: see predict; they may differ in grid.
    Raises:
        ValueError: if an array has not three axes.
    """
    with torch.inference_mode():
        sought = [_sought(model, volume) for volume in volumes]
        regions = [_region(model, scan) for scan in sought]
        found = _batch(model, regions)
        return [
            _finished(model, scan, found.get(n) or _segmented(model, *regions[n], 1, 0), 1, 0)
            for n, scan in enumerate(sought)
        ]


def half(array: NDArray[np.float32]) -> NDArray[np.float16]:
    """The array in half precision: numpy takes 300 times as long where values are tiny."""
    converted: NDArray[np.float16] = torch.from_numpy(array).half().numpy()
    return converted


@dataclass(frozen=True, slots=True, eq=False)
class _Sought:
    """A scan in which the structure was looked for."""

    volume: Volume
    affine: NDArray[np.float64]
    seen: Overview
    location: Location
    route: Route


@dataclass(frozen=True, slots=True, eq=False)
class _Segmented:
    """A region of a scan: foreground probability (1, I, J, K) once a pass, and features."""

    grid: Grid
    maps: list[torch.Tensor]
    features: NDArray[np.float32] | None


def _sought(model: Model, volume: Volume) -> _Sought:
    if volume.array.ndim != 3:
        raise ValueError(f"expected a volume with 3 axes, got shape {volume.array.shape}")
    affine = np.asarray(volume.affine, dtype=np.float64)
    seen = overview(
        volume.array,
        affine,
        spacing_mm=model.localiser_spacing_mm,
        multiple=overview_multiple(model.localiser_arguments),
        device=model.device,
    )
    return _Sought(volume, affine, seen, *_route(model, seen))


def _region(model: Model, scan: _Sought) -> tuple[Grid, torch.Tensor]:
    """What of a scan is segmented, (1, I, J, K) at the model's spacing."""
    grid = _segmented_grid(model, scan.seen, scan.location, scan.route)
    grid = snapped(grid, scan.affine)
    # A field of view that ends in tissue is drawn out: a black wall beside the structure
    # costs 0.1 of Dice. Brain-extracted scans end in zeros anyway.
    return grid, draw(scan.volume.array, scan.affine, grid, outside="border", device=model.device)


def _segmented(
    model: Model, grid: Grid, region: torch.Tensor, passes: int, seed: int
) -> _Segmented:
    with collected_features() as collected:
        return _Segmented(
            grid, foreground_maps(model, region, passes=passes, seed=seed), mean_features(collected)
        )


def _batch(model: Model, regions: Sequence[tuple[Grid, torch.Tensor]]) -> dict[int, _Segmented]:
    """Those regions that are one window with something in it, by their place."""
    windows = {
        n: window
        for n, (_, region) in enumerate(regions)
        if tuple(region.shape[1:]) == model.window and filled(window := normalise(region)[None])
    }
    if not windows:
        return {}
    with collected_features() as collected:
        maps = window_maps(model.network, torch.cat(list(windows.values())))
    return {
        n: _Segmented(regions[n][0], [maps[row]], mean_features([c[row, None] for c in collected]))
        for row, n in enumerate(windows)
    }


def _finished(model: Model, scan: _Sought, found: _Segmented, passes: int, seed: int) -> Prediction:
    if scan.route == "localised" and not _shows_structure(found.maps, model.spacing_mm):
        scan = replace(scan, route="sliding")
        found = _segmented(model, *_region(model, scan), passes, seed)
    return _in_own_grid(found, scan, model.window)


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


def _in_own_grid(found: _Segmented, scan: _Sought, window: Shape) -> Prediction:
    i, j, k = scan.volume.array.shape
    maps, grid = found.maps, found.grid
    box = box_around(_kept(maps, grid, window).corners_mm, (i, j, k), scan.affine)
    own = box_grid(box, scan.affine)
    drawn = [resample(m, grid.affine, own)[0].clamp(0, 1).cpu().numpy() for m in maps]
    probability, information = drawn[0], None
    if len(drawn) > 1:
        probability = np.mean(drawn, axis=0, dtype=np.float32)
        information = mutual_information(_two_classes(np.stack(drawn))).astype(np.float32)
    return Prediction(
        shape=(i, j, k),
        affine=scan.affine,
        box=box,
        probability=probability,
        entropy=binary_entropy(probability),
        mutual_information=information,
        route=scan.route,
        trust=scan.location.trust,
        head_centre_mm=scan.seen.head_centre_mm,
        features=found.features,
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
