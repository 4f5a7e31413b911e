"""Predictions that cannot be right, whatever their entropy.

A confident empty mask has a low entropy everywhere: entropy alone would bury exactly the failures
of the group that is served worst.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from fair_strategy.metrics.checks import as_affine, as_mask, bounding_box

Range = tuple[float, float]
SIDES = ("left", "right", None)


@dataclass(frozen=True)
class PlausibleRange:
    """What a right prediction of one structure looks like.

    Attributes:
        volume_mm3: (low, high), both included.
        offset_mm: for each RAS axis (low, high) of the centroid's offset from the head's centre;
            None: anywhere.
        max_components: how many components of `min_component_mm3` or more there may be.
        min_component_mm3: smaller components are specks and do not count.
        side: "left", "right", or None for a structure that has no side.
    """

    volume_mm3: Range
    offset_mm: tuple[Range, Range, Range] | None = None
    max_components: int = 1
    min_component_mm3: float = 0.0
    side: str | None = "left"

    def __post_init__(self) -> None:
        ranges = [("volume_mm3", self.volume_mm3)]
        ranges += [("offset_mm", axis) for axis in self.offset_mm or ()]
        for name, (low, high) in ranges:
            if not low <= high:
                raise ValueError(f"{name} must be (low, high), got ({low!r}, {high!r})")
        if self.offset_mm is not None and len(self.offset_mm) != 3:
            raise ValueError(f"offset_mm must hold three ranges, got {self.offset_mm!r}")
        if self.max_components < 1:
            raise ValueError(f"max_components must be 1 or more, got {self.max_components!r}")
        if self.side not in SIDES:
            raise ValueError(f"side must be 'left', 'right' or None, got {self.side!r}")


def implausibilities(
    mask: ArrayLike,
    *,
    affine: ArrayLike,
    head_centre_mm: ArrayLike | None,
    expected: PlausibleRange,
) -> tuple[str, ...]:
    """Names of the ways in which a predicted mask leaves its plausible range.

    Args:
        mask: (I, J, K), boolean (or 0 and 1).
        affine: 4x4, voxel indices to RAS mm.
        head_centre_mm: (3,), RAS; None where the field of view does not show it, and then neither
            "side" nor "place" is judged.
        expected: the plausible range.
    Returns:
        None, one or more of "empty" (then alone), "volume", "side" (the centroid lies on the other
        side of the head's centre), "place" (the offset leaves its range), "components" (too many,
        counted with 26 neighbours), in this order.
    Raises:
        ValueError: if mask, affine or centre are not of that kind.
    References:
        docs/method.md#implausible-predictions.
    """
    array = as_mask(mask, ndim=3)
    matrix = as_affine(affine).copy()
    if not array.any():
        return ("empty",)
    box = bounding_box(array)
    array = array[box]
    matrix[:3, 3] += matrix[:3, :3] @ [side.start for side in box]
    voxel_mm3 = float(abs(np.linalg.det(matrix[:3, :3])))
    found = {"volume": not _inside(np.count_nonzero(array) * voxel_mm3, expected.volume_mm3)}
    if head_centre_mm is not None:
        offset = _centroid_mm(array, matrix) - _centre(head_centre_mm)
        found["side"] = _on_wrong_side(float(offset[0]), expected.side)
        found["place"] = expected.offset_mm is not None and not all(
            _inside(float(o), axis) for o, axis in zip(offset, expected.offset_mm, strict=True)
        )
    components = _count_components(array, expected.min_component_mm3 / voxel_mm3)
    found["components"] = components > expected.max_components
    return tuple(name for name, is_found in found.items() if is_found)


def _inside(value: float, limits: Range) -> bool:
    return limits[0] <= value <= limits[1]


def _centre(head_centre_mm: ArrayLike) -> NDArray[np.float64]:
    centre = np.asarray(head_centre_mm, dtype=np.float64)
    if centre.shape != (3,) or not np.isfinite(centre).all():
        raise ValueError(f"head_centre_mm must be three numbers or None, got {head_centre_mm!r}")
    return centre


def _centroid_mm(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    centroid: NDArray[np.float64] = np.argwhere(mask).mean(axis=0)
    return affine[:3, :3] @ centroid + affine[:3, 3]


def _on_wrong_side(offset_right_mm: float, side: str | None) -> bool:
    return (side == "left" and offset_right_mm > 0) or (side == "right" and offset_right_mm < 0)


def _count_components(mask: NDArray[np.bool_], min_voxels: float) -> int:
    labelled, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(labelled.ravel())[1:]
    return int(np.count_nonzero(sizes >= min_voxels))
