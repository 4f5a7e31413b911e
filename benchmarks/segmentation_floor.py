"""The least that finding and scoring a structure costs beside the two networks' passes.

Each part that the result is defined by, as the fastest library call found that reads what it must:
no checks, no positions, no conversions, nothing that joins the parts.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage

from fair_strategy.data.volumes import Volume
from fair_strategy.learning.prediction import Prediction
from fair_strategy.metrics.checks import bounding_box

# The area smooths the mask and the region grows it: both reach so many voxels beyond it.
_AROUND = (4, 4, 4)
_CORNERS = 8


def least_calls(
    volume: Volume, overview: torch.Tensor, window: torch.Tensor, prediction: Prediction
) -> dict[str, Callable[[], object]]:
    """A call for each part.

    Args:
        volume: the scan.
        overview, window: the inputs of the two networks.
        prediction: what came of them.
    """
    order = sorted(range(3), key=lambda axis: -volume.array.strides[axis])
    voxels = torch.from_numpy(volume.array.transpose(order))  # as it lies in memory
    inputs = (overview, window)
    probability = torch.from_numpy(prediction.probability)
    entropy = torch.from_numpy(prediction.entropy)
    mask = prediction.probability >= 0.5
    near = mask[bounding_box(mask, pad=_AROUND)]
    smooth = near.astype(np.float32)
    calls: dict[str, Callable[[], object]] = {
        "read the volume once (a sum)": voxels.sum,
        "cut the window out, put it back (2 copies)": lambda: [window.clone(), window.clone()],
        "normalise both inputs (a product each)": lambda: [given.mul(2.0) for given in inputs],
        "softmax of both outputs": lambda: [given.sigmoid() for given in inputs],
        "entropy (2 logarithms)": lambda: [window.log(), window.log()],
        "mask, region, highest, sum (a pass each)": lambda: [
            probability >= 0.5,
            probability >= 0.1,
            entropy.max(),
            entropy.sum(),
        ],
        "components of the mask": lambda: ndimage.label(near, structure=np.ones((3, 3, 3))),
        "margin (one filter)": lambda: ndimage.maximum_filter(near, size=3),
        "area (one Gaussian)": lambda: ndimage.gaussian_filter(smooth, 0.7),
        "entropy in half precision": entropy.half,
    }
    if np.count_nonzero(np.abs(volume.affine[:3, :3]) > 1e-3) > 3:
        places = torch.arange(window.numel())
        calls["turned grids (8 look-ups a voxel, 3 x)"] = lambda: [
            window.view(-1).index_select(0, places) for _ in range(3 * _CORNERS)
        ]
    return calls
