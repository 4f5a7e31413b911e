"""From the warped template to a scan: contrast, inhomogeneity, blur, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Where the template has its tissues: ventricle, caudate, white matter.
TEMPLATE_LEVELS = (0.33, 0.70, 0.84)


@dataclass(frozen=True)
class IntensityParameters:
    """How a subject's scanner differs from the others.

    Attributes:
        csf, grey: levels of fluid and grey matter, white matter being 1.
        gamma: exponent of the contrast curve.
        white_level: image value of white matter, of 255.
        shading_sd: SD of the logarithm of the smooth inhomogeneity.
        blur_mm: SD of the Gaussian point spread.
        noise_sd: SD of the noise in each channel (Rician), white matter being 1.
    """

    csf: float
    grey: float
    gamma: float
    white_level: float
    shading_sd: float
    blur_mm: float
    noise_sd: float


def draw(rng: np.random.Generator) -> IntensityParameters:
    """Parameters of one scan; independent of the person."""

    def between(low: float, high: float) -> float:
        return round(float(rng.uniform(low, high)), 4)

    return IntensityParameters(
        csf=between(0.18, 0.34),
        grey=between(0.66, 0.80),
        gamma=between(0.88, 1.14),
        white_level=between(130, 180),
        shading_sd=between(0.02, 0.08),
        blur_mm=between(0.2, 0.7),
        noise_sd=between(0.012, 0.035),
    )


def render(
    tissue: NDArray[np.float32],
    brain: NDArray[np.bool_],
    shading: NDArray[np.float32],
    parameters: IntensityParameters,
    *,
    voxel_mm: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """A scan from template intensities: whole numbers from 0 to 255, 0 outside the brain.

    Args:
        tissue: (I, J, K), the warped template, 0 to 1.
        brain: (I, J, K).
        shading: (I, J, K), smooth noise of SD 1.
        parameters: see IntensityParameters.
        voxel_mm: edge of a voxel.
        rng: draws the noise.
    """
    levels = (0.0, parameters.csf, parameters.grey, 1.0, 1.12)
    signal = np.interp(tissue, (0.0, *TEMPLATE_LEVELS, 1.0), levels).astype(np.float32)
    signal **= np.float32(parameters.gamma)
    signal *= np.exp(np.float32(parameters.shading_sd) * shading)
    signal = ndimage.gaussian_filter(signal, parameters.blur_mm / voxel_mm)
    noise = rng.standard_normal((2, *tissue.shape), dtype=np.float32)
    noise *= np.float32(parameters.noise_sd)
    signal = np.hypot(signal + noise[0], noise[1]) * brain
    # A voxel of the brain stays above 0, so that the brain mask can be read off the image.
    return np.where(brain, np.clip(np.rint(signal * parameters.white_level), 1, 255), 0).astype(
        np.float32
    )
