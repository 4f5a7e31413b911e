"""What a model says of a scan, in the scan's own grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fair_strategy.learning.interpolation import Box

Route = Literal["localised", "sliding"]


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


def half(array: NDArray[np.float32]) -> NDArray[np.float16]:
    """The array in half precision: numpy takes 300 times as long where values are tiny."""
    converted: NDArray[np.float16] = torch.from_numpy(array).half().numpy()
    return converted
