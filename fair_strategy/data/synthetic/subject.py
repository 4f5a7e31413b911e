"""One synthetic subject: parameters drawn from (seed, index), then image and mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fair_strategy.data.synthetic import intensity
from fair_strategy.data.synthetic.fields import (
    Field,
    exponential,
    outward_normal,
    sample,
    smooth_noise,
)
from fair_strategy.data.synthetic.template import Template, load_template

MAJORITY, MINORITY = "A", "B"
EFFECT_SD_MM = 0.4
EFFECT_MM = {
    "strong": {MAJORITY: 0.5, MINORITY: -1.6},
    "weak": {MAJORITY: 0.5, MINORITY: -0.6},
    "none": {MAJORITY: 0.5, MINORITY: 0.5},
}
ENVELOPE_MM = 5.0
LATTICE_MM = 4.0
CORRELATION_MM = 12.0
REACH_MM = 20.0
BRAIN_MARGIN_MM = 8.0
CAUDATE_BOX_MM = (48.0, 64.0, 48.0)
FIELDS_OF_VIEW = ("brain", "caudate")
# Independent streams of one subject, so that a change to one draw leaves the others as they are.
_PERSON, _SHAPE, _INTENSITY, _NOISE = range(4)


@dataclass(frozen=True)
class SubjectParameters:
    """Everything that makes a subject; the same parameters give the same voxels.

    Attributes:
        seed, index: the cohort's seed and the subject's place in it; they drive every field.
        group: "A" (majority) or "B" (minority).
        bias: "strong", "weak" or "none".
        sex, age: "F" or "M", years; independent of the group.
        effect_mm: amplitude of the velocity along the left caudate's outward normal.
        deformation_sd_mm: SD of each component of the random velocity.
        size: linear size of the head against the template.
        rotation_deg, shift_mm: pose about the template's origin (RAS).
        intensity: contrast, inhomogeneity, blur and noise.
    """

    seed: int
    index: int
    group: str
    bias: str
    sex: str
    age: int
    effect_mm: float
    deformation_sd_mm: float
    size: float
    rotation_deg: tuple[float, float, float]
    shift_mm: tuple[float, float, float]
    intensity: intensity.IntensityParameters


class Subject(NamedTuple):
    """A subject's image (float32, 0 to 255), mask (uint8, 0 or 1), affine and parameters."""

    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]
    parameters: SubjectParameters


def draw_parameters(seed: int, index: int, *, group: str, bias: str) -> SubjectParameters:
    """Parameters of subject `index` of the cohort `seed`.

    Only `effect_mm` depends on group and bias: the same (seed, index) is the same person
    otherwise, which makes counterfactual pairs.

    Raises:
        ValueError: unknown group or bias.
    """
    if bias not in EFFECT_MM:
        raise ValueError(f"bias: expected one of {', '.join(EFFECT_MM)}, got '{bias}'")
    if group not in EFFECT_MM[bias]:
        raise ValueError(f"group: expected one of {', '.join(EFFECT_MM[bias])}, got '{group}'")
    rng = np.random.default_rng([seed, index, _PERSON])
    sex = str(rng.choice(["F", "M"]))
    # MNI152 is larger than most heads (its brain holds 1.9 l), and men's brains are about 11 %
    # larger in volume than women's (Ruigrok et al. 2014).
    size = (0.965 if sex == "M" else 0.935) * (1 + 0.025 * _clipped_normal(rng))
    return SubjectParameters(
        seed=seed,
        index=index,
        group=group,
        bias=bias,
        sex=sex,
        age=int(rng.integers(45, 86)),
        size=round(float(size), 4),
        effect_mm=round(EFFECT_MM[bias][group] + EFFECT_SD_MM * float(_clipped_normal(rng)), 4),
        deformation_sd_mm=round(float(rng.uniform(1.6, 2.4)), 4),
        rotation_deg=_triple(2.0 * _clipped_normal(rng, 3)),
        shift_mm=_triple(1.0 * _clipped_normal(rng, 3)),
        intensity=intensity.draw(np.random.default_rng([seed, index, _INTENSITY])),
    )


def generate_subject(
    parameters: SubjectParameters,
    *,
    voxel_mm: float = 1.0,
    field_of_view: str = "brain",
    box_mm: Sequence[float] | None = None,
) -> Subject:
    """Image and left-caudate mask of one subject.

    The anatomy does not depend on voxel size or field of view; noise does.

    Args:
        parameters: see draw_parameters.
        voxel_mm: edge of the (cubic) voxels.
        field_of_view: "brain", or "caudate": a 48x64x48 mm box around the template's caudate.
        box_mm: edges (R, A, S) of another box around the template's caudate; overrides
            field_of_view.
    Raises:
        ValueError: bad voxel_mm, field_of_view or box_mm.
    """
    template = load_template()
    shape, affine = grid(template, voxel_mm=voxel_mm, field_of_view=field_of_view, box_mm=box_mm)
    world = _world(shape, affine)
    index = _template_index(template, parameters, world)
    label = (sample(template.caudate, index) > 0.5).astype(np.uint8)
    brain = sample(template.brain, index) > 0.5
    tissue = sample(template.t1, index)
    shading = _lattice_noise(template, parameters, stream=_INTENSITY, width_mm=30.0).at(world)[0]
    image = intensity.render(
        tissue,
        brain,
        shading,
        parameters.intensity,
        voxel_mm=voxel_mm,
        rng=np.random.default_rng([parameters.seed, parameters.index, _NOISE]),
    )
    return Subject(image, label, affine, parameters)


def grid(
    template: Template,
    *,
    voxel_mm: float,
    field_of_view: str = "brain",
    box_mm: Sequence[float] | None = None,
) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Shape and affine (RAS, mm) of a subject's image."""
    if not 0.25 <= voxel_mm <= 8:
        raise ValueError(f"voxel_mm: expected 0.25 to 8 mm, got {voxel_mm}")
    if field_of_view not in FIELDS_OF_VIEW:
        expected = ", ".join(FIELDS_OF_VIEW)
        raise ValueError(f"field_of_view: expected one of {expected}, got '{field_of_view}'")
    if box_mm is None and field_of_view == "caudate":
        box_mm = CAUDATE_BOX_MM
    if box_mm is None:
        low, high = template.bounds_mm(template.brain)
        low, high = low - BRAIN_MARGIN_MM, high + BRAIN_MARGIN_MM
        centre, extent = (low + high) / 2, high - low
    else:
        centre, extent = template.centre_mm, np.asarray(box_mm, dtype=float)
    if extent.shape != (3,) or not (extent >= voxel_mm).all():
        raise ValueError(f"box_mm: expected three edges of at least a voxel, got {box_mm}")
    shape = np.rint(extent / voxel_mm).astype(int)
    affine = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    affine[:3, 3] = np.round(centre - (shape - 1) / 2 * voxel_mm, 4)
    return (int(shape[0]), int(shape[1]), int(shape[2])), affine


def _world(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> NDArray[np.float32]:
    """RAS positions (3, I, J, K) of the voxels of an axis-aligned grid."""
    axes = [affine[i, i] * np.arange(n) + affine[i, 3] for i, n in enumerate(shape)]
    return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)


def _template_index(
    template: Template, parameters: SubjectParameters, world: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Where in the template each position comes from: pose, subject field, regional field."""
    points = _unpose(parameters, world)
    noise = _lattice_noise(template, parameters, stream=_SHAPE, width_mm=CORRELATION_MM, parts=3)
    # Nothing comes from further away than a displacement: a small box needs a small exponential.
    noise = noise.around(points, margin_mm=REACH_MM)
    velocity = -np.float32(parameters.deformation_sd_mm) * noise.values
    points += exponential(Field(velocity, noise.origin_mm, noise.spacing_mm)).at(points)
    normal = _caudate_normal()
    velocity = -np.float32(parameters.effect_mm) * normal.values
    points += exponential(Field(velocity, normal.origin_mm, normal.spacing_mm)).at(points)
    points -= template.origin_mm.astype(np.float32).reshape(3, 1, 1, 1)
    return points


def _unpose(parameters: SubjectParameters, world: NDArray[np.float32]) -> NDArray[np.float32]:
    """Positions with the head's pose and size taken off."""
    x, y, z = np.deg2rad(parameters.rotation_deg)
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    inverse = np.linalg.inv(parameters.size * (about_z @ about_y @ about_x))
    shift = np.asarray(parameters.shift_mm).reshape(3, 1, 1, 1)
    return np.tensordot(inverse.astype(np.float32), (world - shift).astype(np.float32), axes=1)


def _lattice_noise(
    template: Template,
    parameters: SubjectParameters,
    *,
    stream: int,
    width_mm: float,
    parts: int = 1,
) -> Field:
    """Smooth noise (SD 1) on a coarse lattice over the whole template."""
    rng = np.random.default_rng([parameters.seed, parameters.index, stream, 1])
    extent = np.array(template.t1.shape) / LATTICE_MM
    shape = tuple(int(n) for n in np.ceil(extent) + 5)
    width = width_mm / LATTICE_MM
    values = np.stack([smooth_noise(rng, shape, width=width) for _ in range(parts)])
    return Field(values, template.origin_mm - 2 * LATTICE_MM, LATTICE_MM)


@lru_cache(maxsize=1)
def _caudate_normal() -> Field:
    template = load_template()
    mask = template.caudate > 0.5
    return outward_normal(mask, origin_mm=template.origin_mm, envelope_mm=ENVELOPE_MM)


def _clipped_normal(rng: np.random.Generator, size: int | None = None) -> NDArray[np.float64]:
    """Standard normal held within 2.5, so that no subject is absurd."""
    return np.clip(rng.standard_normal(size), -2.5, 2.5)


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 4) for value in values)
    return x, y, z
