"""What makes a synthetic head: a person and a scan, drawn from (seed, index)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fair_strategy.data.synthetic import intensity
from fair_strategy.data.synthetic.head_scan import ScanParameters, draw_scan
from fair_strategy.data.synthetic.head_shapes import Triple
from fair_strategy.data.synthetic.head_tissues import Tissues, draw_tissues
from fair_strategy.data.synthetic.subject import MAJORITY, SubjectParameters, draw_parameters

# Streams of one subject; the generator of brains has 0 to 3, the anatomy 11, rendering 14 to 16.
_HEAD, _TISSUES, _SCAN = 10, 12, 13


@dataclass(frozen=True)
class HeadParameters:
    """Everything that makes a head; the same parameters give the same voxels.

    Attributes:
        person: group, effect on the caudate, size, pose, scanner; see SubjectParameters.
        stretch: factors along R, A, S on top of the person's size.
        broad_sd_mm: SD of each component of the smooth velocity over 38 mm.
        tissues: brightness of each tissue.
        scan: geometry of the scan.
        skull: False leaves the brain alone on a black ground.
    """

    person: SubjectParameters
    stretch: Triple
    broad_sd_mm: float
    tissues: Tissues
    scan: ScanParameters
    skull: bool = True


def draw_head(
    seed: int, index: int, *, contrast: str = "t1", group: str = MAJORITY, bias: str = "none"
) -> HeadParameters:
    """Parameters of head `index` of the seed.

    Only the tissues depend on contrast, only the effect on the caudate on group and bias.

    Raises:
        ValueError: unknown contrast, group or bias.
    """
    rng = np.random.default_rng([seed, index, _HEAD])
    person = draw_parameters(seed, index, group=group, bias=bias)
    tissues = draw_tissues(np.random.default_rng([seed, index, _TISSUES]), contrast)

    def triple(values: NDArray[np.float64]) -> Triple:
        x, y, z = (round(float(value), 4) for value in values)
        return x, y, z

    normal = np.clip(rng.standard_normal((3, 3)), -2.5, 2.5)
    scanner = intensity.IntensityParameters(
        csf=tissues.level["csf"],
        grey=tissues.level["grey"],
        gamma=round(float(rng.uniform(0.88, 1.14)), 4),
        white_level=round(float(np.exp(rng.uniform(np.log(80), np.log(1200)))), 2),
        shading_sd=round(float(rng.uniform(0.03, 0.22)), 4),
        blur_mm=round(float(rng.uniform(0.2, 0.8)), 4),
        noise_sd=round(float(rng.uniform(0.01, 0.06)), 4),
    )
    person = replace(
        person,
        size=round(person.size * float(rng.uniform(0.93, 1.07)), 4),
        rotation_deg=triple(normal[0] * (8.0, 5.0, 6.0)),
        shift_mm=triple(normal[1] * (8.0, 10.0, 12.0)),
        intensity=scanner,
    )
    return HeadParameters(
        person=person,
        stretch=triple(1 + 0.025 * normal[2]),
        broad_sd_mm=round(float(rng.uniform(2.0, 5.0)), 4),
        tissues=tissues,
        scan=draw_scan(np.random.default_rng([seed, index, _SCAN])),
    )
