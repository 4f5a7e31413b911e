"""Look-alike of BraTS-2019: tumours of three tissues, fainter where little of them enhances."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fair_strategy.data.volumes import write_image

_SIDE = 32
_VOXEL_MM = 4.0
_LARGE_FROM = 120
"""Voxels: 7680 mm3, more than the 7000 mm3 that divide the subgroups; small ones stay below 100."""
_BRAIN = {"t1": 420.0, "t1ce": 430.0, "t2": 380.0, "flair": 360.0}
_CONTRAST = {
    # necrosis, oedema, enhancing, of the brain's own value
    "t1": (-0.45, -0.2, -0.1),
    "t1ce": (-0.45, -0.15, 0.7),
    "t2": (0.5, 0.55, 0.2),
    "flair": (0.15, 0.7, 0.3),
}
_FAINT = 0.35
"""Contrast of the tumour where little enhances, of that elsewhere."""
_NOISE = 0.14
_CENTRES = ("CBICA", "TCIA01", "TMC")


def write_brats(folder: Path, *, cases: int, seed: int) -> Path:
    """Write a folder a case; in a quarter of them little enhances.

    The effect: there the tumour stands out 0.35 times as much from the brain as elsewhere.
    """
    for number in range(cases):
        rng = np.random.default_rng([seed, number, 3])
        small = number % 4 == 3
        name = f"BraTS19_{_CENTRES[number % 3]}_L{number:03d}_1"
        _write_case(folder / name, name, small=small, rng=rng)
    return folder


def _write_case(folder: Path, name: str, *, small: bool, rng: np.random.Generator) -> None:
    affine = np.diag([-_VOXEL_MM, -_VOXEL_MM, _VOXEL_MM, 1.0])
    axes = np.meshgrid(*3 * [np.arange(_SIDE) - (_SIDE - 1) / 2], indexing="ij")
    x, y, z = axes
    brain = np.asarray((x / 12.5) ** 2 + (y / 14.5) ** 2 + (z / 12) ** 2 < 1)
    labels = _tumour(axes, brain, small=small, rng=rng)
    write_image(folder / f"{name}_seg.nii.gz", labels, affine, dtype=np.uint8)
    strength = (_FAINT if small else 1.0) * rng.uniform(0.8, 1.2)
    folds = ndimage.gaussian_filter(rng.normal(0, 1, labels.shape), 1.5)
    folds *= 0.08 / folds.std()
    for contrast, own in _CONTRAST.items():
        shade = 1 + folds
        for label, difference in zip((1, 2, 4), own, strict=True):
            shade = shade + strength * difference * (labels == label)
        noisy = ndimage.gaussian_filter(shade, 0.5) + rng.normal(0, _NOISE, labels.shape)
        image = np.where(brain, np.maximum(_BRAIN[contrast] * noisy, 1), 0)
        write_image(folder / f"{name}_{contrast}.nii.gz", image, affine, dtype=np.int16)


def _tumour(
    axes: list[NDArray[np.float64]],
    brain: NDArray[np.bool_],
    *,
    small: bool,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Labels: an enhancing shell around necrosis, in oedema."""
    enhancing = int(rng.integers(25, 100) if small else rng.integers(_LARGE_FROM, 300))
    necrosis = int(enhancing * rng.uniform(0.2, 0.5))
    oedema = int(rng.integers(350, 800))
    centre = rng.uniform(-4, 4, 3)
    distance = np.sqrt(sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)))
    bumps = ndimage.gaussian_filter(rng.normal(0, 1, brain.shape), 2.0)
    distance = distance + bumps * 1.2 / bumps.std()
    # the voxels of the brain from the innermost on: so the numbers of each tissue are exact
    order = np.argsort(np.where(brain, distance, np.inf), axis=None, kind="stable")
    labels = np.zeros(brain.size, np.uint8)
    labels[order[: necrosis + enhancing + oedema]] = 2
    labels[order[: necrosis + enhancing]] = 4
    labels[order[:necrosis]] = 1
    return labels.reshape(brain.shape)
