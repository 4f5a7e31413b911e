"""Generated subjects as training and validation cases of the two networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation

from fair_strategy.data.volumes import Mask, Volume
from fair_strategy.learning.localisation import OVERVIEW_MM
from fair_strategy.learning.samples import PreparedCase, prepare_case
from fair_strategy.learning.training import WINDOW, TrainingCase

# One overview in so many is shown a second time with the structure out of view.
LEFT_OUT_EVERY = 7
# (axis, distance from the structure's middle in mm, whether what lies beyond it is kept)
CUTS = ((0, 9.0, True), (2, -26.0, False), (1, -46.0, False), (2, 30.0, True))


def load(path: Path) -> tuple[Volume, Mask]:
    """A generated subject."""
    with np.load(path) as stored:
        image, label, affine = stored["image"], stored["label"], stored["affine"]
        label_affine = stored.get("label_affine", affine)
    return Volume(image.astype(np.float32), affine), Mask(label.astype(np.uint8), label_affine)


def overviews_with_cuts(paths: list[Path], *, shape: tuple[int, int, int]) -> list[PreparedCase]:
    """Subjects at 4 mm, and every `LEFT_OUT_EVERY`th again with the structure out of view."""
    prepared = [prepared_overview(path, shape=shape) for path in paths]
    for turn, path in enumerate(paths[::LEFT_OUT_EVERY]):
        cut = without_structure(*load(path), turn)
        prepared.append(prepare_case(*cut, spacing_mm=OVERVIEW_MM, shape=shape))
    return prepared


def prepared_overview(path: Path, *, shape: tuple[int, int, int]) -> PreparedCase:
    """A generated subject at 4 mm.

    Its label is grown by a voxel, so that a thin caudate does not vanish at 4 mm.
    """
    image, label = load(path)
    return prepare_case(image, grown(label), spacing_mm=OVERVIEW_MM, shape=shape)


def without_structure(image: Volume, label: Mask, turn: int) -> tuple[Volume, Mask]:
    """The part of a scan right of, below, behind or above the structure, by turns.

    So the localiser learns to trust nothing where there is nothing, the other side above all.
    """
    axis, distance_mm, beyond = CUTS[turn % len(CUTS)]
    middle = label.affine[:3, :3] @ np.argwhere(label.array).mean(0) + label.affine[:3, 3]
    edge = (middle[axis] + distance_mm - image.affine[axis, 3]) / image.affine[axis, axis]
    first, last = (round(edge), None) if beyond else (0, round(edge))
    kept = tuple(slice(first, last) if n == axis else slice(None) for n in range(3))
    array = np.pad(image.array[kept], 1)
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array([s.start or 0 for s in kept]) - np.diag(affine)[:3]
    return Volume(array, affine), Mask(np.zeros(array.shape, np.uint8), affine)


def prepared_boxes(near: list[Path], wide: list[Path]) -> list[PreparedCase]:
    """Regions around the structure at 1 mm; the few wide ones come up three times as often."""
    prepared = [prepared_within(path, margin=20) for path in near]
    return prepared + 3 * [prepared_within(path, margin=40) for path in wide]


def prepared_within(path: Path, *, margin: int) -> PreparedCase:
    """A generated subject, `margin` voxels of 1 mm around the window."""
    return prepare_case(*load(path), spacing_mm=1.0, shape=[n + 2 * margin for n in WINDOW])


def validation_case(path: Path) -> TrainingCase:
    """A generated subject; its group is only whether the effect shrinks or spares."""
    with np.load(path) as stored:
        group = "shrunk" if stored["effect_mm"] < -0.5 else "spared"
    return TrainingCase(*load(path), subgroup=group, subject_id=path.stem)


def grown(mask: Mask) -> Mask:
    """The mask and the voxels that touch it."""
    return Mask(binary_dilation(mask.array).astype(np.uint8), mask.affine)
