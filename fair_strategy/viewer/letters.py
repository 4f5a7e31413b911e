"""Which side of the patient is at which edge of a slice: from the slice's own orientation."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SIDES = (("R", "L"), ("A", "P"), ("S", "I"))
_NAMED = 0.3
"""A second side is named where the edge points to it by more than this (about 17 degrees)."""


def side(direction: Sequence[float] | NDArray[np.floating]) -> str:
    """The side of the patient that a direction points to, such as `L`, or `LA` when oblique.

    Slicer's axes run towards right, anterior and superior; at most two letters, the larger first.

    Args:
        direction: (3,), in RAS, of any length but 0.
    Raises:
        ValueError: the direction has no length.
    """
    vector = np.asarray(direction, dtype=np.float64)
    length = np.linalg.norm(vector)
    if not length:
        raise ValueError("a direction of length 0 points to no side")
    vector = vector / length
    order = np.argsort(-np.abs(vector), kind="stable")[:2]
    named = [order[0], *(axis for axis in order[1:] if abs(vector[axis]) > _NAMED)]
    return "".join(_SIDES[axis][int(vector[axis] < 0)] for axis in named)


def edges(slice_to_ras: NDArray[np.floating]) -> dict[str, str]:
    """The letters at the left, right, top and bottom edge of a slice view.

    Args:
        slice_to_ras: (4, 4); its first column points to the right of the screen, its second up.
    """
    matrix = np.asarray(slice_to_ras, dtype=np.float64)
    right, up = matrix[:3, 0], matrix[:3, 1]
    return {"left": side(-right), "right": side(right), "top": side(up), "bottom": side(-up)}
