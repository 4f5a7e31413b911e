"""The steps from a scan to its prediction: what a network does is apart from all else.

`look`, `localise`, `aim`, `segment`, `finish`: the second and the fourth are passes of a network,
over one scan or over several at once; the others take one scan, are computed in the memory and are
for any thread.

Localise, then segment: an overview of the scan at 4 mm goes through the localiser; one window of
the segmenter at the place found does the rest. Without a localiser, without trust in what it
says, where that window does not show the structure after all, or where the content fills one
window or two anyway, the window slides over the content.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

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
    foreground,
    heaviest,
    overview,
    overview_multiple,
)
from fair_strategy.learning.prediction import Prediction, Route
from fair_strategy.learning.transfer import Arriving, sent
from fair_strategy.learning.transforms import normalise
from fair_strategy.learning.windows import filled, foreground_maps, one_window, unchecked_maps

MINIMUM_TRUST = 0.5
# Of the structure in its window: the smallest caudate measures about 800 mm3, and localisers that
# were right erred by up to 14 mm.
LEAST_MM3, FARTHEST_MM = 400.0, 22.0
FEW_WINDOWS = 2
COARSE_MM = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """A scan, and an overview of it.

    Attributes:
        asks: (1, I, J, K), normalised, what the localiser is given; None where nobody asks it.
    """

    volume: Volume
    affine: NDArray[np.float64]
    seen: Overview
    asks: torch.Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class Aimed:
    """A scan, and the region of it that is to be segmented.

    Attributes:
        grid, region: the region's grid, and (1, I, J, K) in the scan's own units.
        window: the region, normalised, if it is one window of the segmenter's; else None.
        in_a_batch: whether it is one window with something in it.
    """

    looked: Looked
    location: Location
    route: Route
    grid: Grid
    region: torch.Tensor
    window: torch.Tensor | None
    in_a_batch: bool


@dataclass(frozen=True, slots=True, eq=False)
class Segmented:
    """What the segmenter says of a region.

    Attributes:
        maps: foreground probability (1, I, J, K), once a pass.
        collected: features, see features.collected_features.
        checked: False where nobody has waited for the maps to see whether they are finite.
    """

    maps: list[Arriving]
    collected: list[Arriving]
    checked: bool

    def arrived(self) -> list[torch.Tensor]:
        """The maps, as soon as they are in the memory."""
        return [probability.tensor() for probability in self.maps]


def look(model: Model, volume: Volume) -> Looked:
    """The scan from afar.

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
        )
        sought = model.localiser is not None and _windows(model, seen) > FEW_WINDOWS
        return Looked(volume, affine, seen, normalise(seen.image) if sought else None)


def localise(model: Model, scans: Sequence[Looked]) -> list[Arriving | None]:
    """The localiser's foreground probability of each overview, (1, I, J, K).

    Overviews of one size go through it as one batch.

    Returns:
        None for a scan that does not ask for it.
    """
    found: list[Arriving | None] = [None] * len(scans)
    alike: defaultdict[tuple[int, ...], list[tuple[int, torch.Tensor]]] = defaultdict(list)
    for number, scan in enumerate(scans):
        if scan.asks is not None:
            alike[tuple(scan.asks.shape)].append((number, scan.asks))
    if model.localiser is not None:
        with torch.inference_mode():
            for asked in alike.values():
                together = sent(torch.stack([asks for _, asks in asked]), model.device)
                answers = foreground(model.localiser(together))
                for (number, _), answer in zip(asked, answers, strict=True):
                    found[number] = Arriving.of(answer)
    return found


def aim(model: Model, scan: Looked, probability: Arriving | None) -> Aimed:
    """The region that is to be segmented.

    Args:
        probability: of the localiser, see localise.
    """
    with torch.inference_mode():
        return _region(model, scan, *_route(model, scan, probability))


def segment(
    model: Model, scans: Sequence[Aimed], *, passes: int = 1, seed: int = 0
) -> list[Segmented]:
    """The segmenter's passes over the regions.

    Where it is one pass each, what is one window goes through as one batch, and nobody waits for a
    GPU to be done with it. A batch of another size is summed in another order, so all is as alone
    up to rounding.

    Args:
        passes, seed: see inference.predict.
    """
    with torch.inference_mode():
        found = _batch(model, scans) if passes == 1 and len(scans) > 1 else {}
        return [found.get(n) or _alone(model, scan, passes, seed) for n, scan in enumerate(scans)]


def finish(
    model: Model, scan: Aimed, found: Segmented, *, passes: int = 1, seed: int = 0
) -> Prediction:
    """In the scan's own grid; after a window that slides, if the one at the place found was empty.

    Args:
        passes, seed: as for segment.
    """
    with torch.inference_mode():
        maps = found.arrived()
        if not found.checked and not maps[0].isfinite().all():
            found = _alone(model, scan, passes, seed)
            maps = found.arrived()
        if scan.route == "localised" and not _shows_structure(maps, model.spacing_mm):
            scan = _region(model, scan.looked, scan.location, "sliding")
            found = _alone(model, scan, passes, seed)
            maps = found.arrived()
        features = mean_features([level.tensor() for level in found.collected])
        return _in_own_grid(maps, features, scan, model.window)


def _route(model: Model, scan: Looked, probability: Arriving | None) -> tuple[Location, Route]:
    if probability is not None:
        location = heaviest(probability.tensor()[0].numpy(), scan.seen.grid)
        return location, "localised" if location.trust >= MINIMUM_TRUST else "sliding"
    middle = (scan.seen.low_mm + scan.seen.high_mm) / 2
    nothing_to_find = _windows(model, scan.seen) <= FEW_WINDOWS
    return Location(middle, 1.0 if nothing_to_find else 0.0), "sliding"


def _region(model: Model, scan: Looked, location: Location, route: Route) -> Aimed:
    grid = snapped(_segmented_grid(model, scan.seen, location, route), scan.affine)
    # A field of view that ends in tissue is drawn out: a black wall beside the structure
    # costs 0.1 of Dice. Brain-extracted scans end in zeros anyway.
    region = draw(scan.volume.array, scan.affine, grid, outside="border")
    window = one_window(model, region)
    in_a_batch = window is not None and bool(filled(window[None])[0])
    return Aimed(scan, location, route, grid, region, window, in_a_batch)


def _alone(model: Model, scan: Aimed, passes: int, seed: int) -> Segmented:
    slides = scan.window is None
    image = sent(scan.region if scan.window is None else scan.window, model.device)
    with collected_features() as collected:
        maps = foreground_maps(model, image, slides=slides, passes=passes, seed=seed)
    return _arriving(maps, collected, checked=True)


def _batch(model: Model, scans: Sequence[Aimed]) -> dict[int, Segmented]:
    """Those that can go in a batch, by their place."""
    windows = {
        n: scan.window
        for n, scan in enumerate(scans)
        if scan.window is not None and scan.in_a_batch
    }
    if not windows:
        return {}
    together = sent(torch.stack(list(windows.values())), model.device)
    with collected_features() as collected:
        maps = unchecked_maps(model.network, together)
    return {
        n: _arriving([maps[row]], [level[row, None] for level in collected], checked=False)
        for row, n in enumerate(windows)
    }


def _arriving(
    maps: list[torch.Tensor], collected: list[torch.Tensor], *, checked: bool
) -> Segmented:
    return Segmented([*map(Arriving.of, maps)], [*map(Arriving.of, collected)], checked)


def _shows_structure(maps: list[torch.Tensor], spacing_mm: float) -> bool:
    """Whether a window holds what the localiser said it does: enough, and about its middle.

    The localiser can be sure and wrong; the segmenter, which sees the place at full resolution,
    then finds nothing or a piece at the rim.
    """
    mask = (_mean(maps)[0] >= 0.5).numpy()
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


def _in_own_grid(
    maps: list[torch.Tensor], features: NDArray[np.float32] | None, scan: Aimed, window: Shape
) -> Prediction:
    i, j, k = scan.looked.volume.array.shape
    grid, affine = scan.grid, scan.looked.affine
    box = box_around(_kept(maps, grid, window).corners_mm, (i, j, k), affine)
    own = box_grid(box, affine)
    drawn = [resample(m, grid.affine, own)[0].clamp(0, 1).numpy() for m in maps]
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
        route=scan.route,
        trust=scan.location.trust,
        head_centre_mm=scan.looked.seen.head_centre_mm,
        features=features,
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
    probability = draw(_mean(maps)[0].numpy(), grid.affine, coarse)[0].numpy()
    centre = heaviest(probability, coarse).centre_mm
    around = window_grid(centre, window, float(grid.affine[0, 0]))
    return box_grid(box_around(around.corners_mm, grid.shape, grid.affine), grid.affine)


def _mean(maps: list[torch.Tensor]) -> torch.Tensor:
    return maps[0] if len(maps) == 1 else torch.stack(maps).mean(dim=0)


def _two_classes(foreground: NDArray[np.float32]) -> NDArray[np.float32]:
    """(R, I, J, K) probability of the foreground -> (R, 2, I, J, K), the background first."""
    return np.stack([1.0 - foreground, foreground], axis=1)
