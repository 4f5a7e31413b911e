"""From a scan in any grid to foreground probability and entropy in that same grid.

Localise, then segment: an overview of the scan at 4 mm goes through the localiser; one window of
the segmenter at the place found does the rest. Without a localiser, without trust in what it
says, where that window does not show the structure after all, or where the content fills one
window or two anyway, the window slides over the content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from fair_strategy.learning.windows import filled, foreground_maps, one_window, unchecked_maps

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
    sought = seek(model, volume)
    [found] = segment(model, [sought], passes=passes, seed=seed)
    return finish(model, sought, found, passes=passes, seed=seed)


def half(array: NDArray[np.float32]) -> NDArray[np.float16]:
    """The array in half precision: numpy takes 300 times as long where values are tiny."""
    converted: NDArray[np.float16] = torch.from_numpy(array).half().numpy()
    return converted


@dataclass(frozen=True, slots=True, eq=False)
class Sought:
    """A scan in which the structure was looked for, and the region that is to be segmented.

    Attributes:
        grid, region: the region's grid, and (1, I, J, K) in the scan's own units.
        window: the region, normalised, if it is one window of the segmenter's; else None.
        in_a_batch: whether it is one window with something in it.
    """

    volume: Volume
    affine: NDArray[np.float64]
    seen: Overview
    location: Location
    route: Route
    grid: Grid
    region: torch.Tensor
    window: torch.Tensor | None
    in_a_batch: bool


@dataclass(frozen=True, slots=True, eq=False)
class Segmented:
    """A region of a scan, on the model's device.

    Attributes:
        maps: foreground probability (1, I, J, K), once a pass.
        collected: features, see features.collected_features.
        checked: False where nobody has waited for the maps to see whether they are finite.
    """

    maps: list[torch.Tensor]
    collected: list[torch.Tensor]
    checked: bool


def seek(model: Model, volume: Volume) -> Sought:
    """The first third of `predict`: the region that is to be segmented.

    Raises:
        ValueError: if the array has not three axes.
    """
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
        return _region(model, volume, affine, seen, *_route(model, seen))


def segment(
    model: Model, scans: Sequence[Sought], *, passes: int = 1, seed: int = 0
) -> list[Segmented]:
    """The second third: the networks' passes over the regions.

    Where it is one pass each, what is one window goes through as one batch, and nobody waits for a
    GPU to be done with it. A batch of another size is summed in another order, so all is as alone
    up to rounding.

    Args:
        passes, seed: see predict.
    """
    with torch.inference_mode():
        found = _batch(model, scans) if passes == 1 and len(scans) > 1 else {}
        return [found.get(n) or _alone(model, scan, passes, seed) for n, scan in enumerate(scans)]


def finish(
    model: Model, scan: Sought, found: Segmented, *, passes: int = 1, seed: int = 0
) -> Prediction:
    """The last third: in the scan's own grid; after a window that slides, if need be."""
    with torch.inference_mode():
        if not found.checked and not found.maps[0].isfinite().all():
            found = _alone(model, scan, passes, seed)
        if scan.route == "localised" and not _shows_structure(found.maps, model.spacing_mm):
            scan = _region(model, scan.volume, scan.affine, scan.seen, scan.location, "sliding")
            found = _alone(model, scan, passes, seed)
        return _in_own_grid(found, scan, model.window)


def _region(
    model: Model,
    volume: Volume,
    affine: NDArray[np.float64],
    seen: Overview,
    location: Location,
    route: Route,
) -> Sought:
    grid = snapped(_segmented_grid(model, seen, location, route), affine)
    # A field of view that ends in tissue is drawn out: a black wall beside the structure
    # costs 0.1 of Dice. Brain-extracted scans end in zeros anyway.
    region = draw(volume.array, affine, grid, outside="border", device=model.device)
    window = one_window(model, region)
    in_a_batch = window is not None and bool(filled(window[None])[0])
    return Sought(volume, affine, seen, location, route, grid, region, window, in_a_batch)


def _alone(model: Model, scan: Sought, passes: int, seed: int) -> Segmented:
    with collected_features() as collected:
        maps = foreground_maps(model, scan.region, scan.window, passes=passes, seed=seed)
    return Segmented(maps, collected, checked=True)


def _batch(model: Model, scans: Sequence[Sought]) -> dict[int, Segmented]:
    """Those that can go in a batch, by their place."""
    windows = {
        n: scan.window
        for n, scan in enumerate(scans)
        if scan.window is not None and scan.in_a_batch
    }
    if not windows:
        return {}
    with collected_features() as collected:
        maps = unchecked_maps(model.network, torch.stack(list(windows.values())))
    return {
        n: Segmented([maps[row]], [level[row, None] for level in collected], checked=False)
        for row, n in enumerate(windows)
    }


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


def _in_own_grid(found: Segmented, scan: Sought, window: Shape) -> Prediction:
    i, j, k = scan.volume.array.shape
    maps, grid = found.maps, scan.grid
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
        features=mean_features(found.collected),
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
