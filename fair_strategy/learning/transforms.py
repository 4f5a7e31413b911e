"""The one set of transforms: a deterministic part for everybody, a random part for training.

Deterministic, shared by trainer, inferer and scorer: onto the world's axes at the model's
spacing (grids.resample), then `normalise` per window. Random: `augmentation`, a MONAI Compose.
Nothing mirrors left and right: the label is the left caudate.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    Compose,
    MapTransform,
    OneOf,
    RandAdjustContrastd,
    RandAffined,
    RandBiasFieldd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandHistogramShiftd,
    RandomizableTransform,
    RandSimulateLowResolutiond,
    Transform,
)

PERCENTILES = (0.5, 99.5)
_SAMPLED_VOXELS = 30_000


def normalise(window: torch.Tensor) -> torch.Tensor:
    """Intensities with the 0.5th and 99.5th percentile of the non-zero voxels at 0 and 1.

    Clipped to [0, 1]; a voxel of exactly 0 (the ground of a brain-extracted scan) stays 0.
    Percentiles come from every n-th voxel, so that they cost next to nothing.

    Args:
        window: (..., I, J, K), one image of any unit.
    Returns:
        The same shape, float32. All 0 for an empty window; 1 where a window has one value only.
    """
    window = window.float()
    values = window.reshape(-1)
    values = values[:: max(1, values.numel() // _SAMPLED_VOXELS)]
    values = values[values != 0]
    if values.numel() == 0:
        return torch.zeros_like(window)
    low, high = np.percentile(values.cpu().numpy(), PERCENTILES)
    if not high > low:
        return (window != 0).float()
    scaled = (window - float(low)).div_(float(high - low)).clamp_(0.0, 1.0)
    # 0 lies at or below the low end, or else it must be put back
    return scaled if low >= 0 else scaled.masked_fill_(window == 0, 0.0)


class KeepGround(MapTransform, RandomizableTransform):
    """Puts the zeros of a first image back into an augmented one, nearly always.

    Brain extraction leaves zeros that noise does not touch; the few exceptions stand for scans
    that were filtered after it.
    """

    def __init__(self, keys: Sequence[str], ground: str, prob: float = 0.9) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.ground = ground

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """`data` with its keys zeroed where the ground is zero."""
        self.randomize(None)
        result = dict(data)
        ground = result.pop(self.ground)
        if self._do_transform:
            for key in self.key_iterator(result):
                result[key] = torch.where(ground == 0, 0.0, result[key])
        return result


def augmentation(
    window: Sequence[int], *, shift_voxels: int = 12, far_voxels: int = 40, strength: float = 1.0
) -> Compose:
    """Random pose, contrast, inhomogeneity, blur, resolution and noise; no mirroring.

    Args:
        window: size of what comes out, in voxels.
        shift_voxels: the structure's usual distance from the window's middle, each way.
        far_voxels: the same for one window in six, so that the segmenter also learns what is
            not the structure (its mirror image first of all).
        strength: 0 (none) to 1; scales rotation, scaling and noise, and how often the image's
            intensities change at all.
    Returns:
        A Compose from {"both": (2, ...), image and label} to {"image": (1, *window), "label":
        (1, *window) in [0, 1]}; call `set_random_state` before each use.
    """
    pose = _pose(window, shift_voxels, far_voxels, strength)
    return Compose([pose, _Split(), *_intensity(strength)])


def _pose(window: Sequence[int], shift: int, far: int, strength: float) -> Compose:
    def affine(distance: int) -> RandAffined:
        # image and label as two channels of one volume: one interpolation instead of two
        return RandAffined(
            keys=["both"],
            prob=1.0,
            rotate_range=[0.25 * strength] * 3,
            shear_range=[0.05 * strength] * 6,
            scale_range=[0.15 * strength] * 3,
            translate_range=[distance] * 3,
            spatial_size=list(window),
            mode="bilinear",
            padding_mode="border",
        )

    if far <= shift:
        return Compose([affine(shift)])
    return OneOf([affine(shift), affine(far)], weights=[5.0, 1.0])


def _intensity(strength: float) -> list[Any]:
    if strength == 0:  # transforms that never happen still cost a third of a small sample
        return []
    image = ["image"]
    return [
        RandHistogramShiftd(image, num_control_points=(4, 8), prob=0.4 * strength),
        RandAdjustContrastd(image, prob=0.5 * strength, gamma=(0.6, 1.6)),
        RandBiasFieldd(image, degree=3, coeff_range=(0.0, 0.15), prob=0.4 * strength),
        RandGaussianSmoothd(
            image,
            sigma_x=(0.3, 1.1),
            sigma_y=(0.3, 1.1),
            sigma_z=(0.3, 1.1),
            prob=0.35 * strength,
        ),
        RandSimulateLowResolutiond(image, prob=0.25 * strength, zoom_range=(0.45, 0.9)),
        RandGaussianNoised(image, prob=0.7 * strength, mean=0.0, std=0.08 * strength),
        KeepGround(image, ground="ground"),
    ]


class _Split(Transform):
    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        both = data["both"].as_subclass(torch.Tensor)
        return {"image": both[:1], "label": both[1:], "ground": both[:1]}
