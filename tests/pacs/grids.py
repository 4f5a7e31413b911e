"""Grids in the ways in which scanners lay out slices."""

import numpy as np

SHAPE = (7, 9, 5)


def rotation(angles):
    """Rotation about x, then y, then z, radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def affine_of(directions, sides=(0.9, 1.1, 2.5)):
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(directions, dtype=float) * sides
    affine[:3, 3] = (-31.25, 12.5, -7.75)
    return affine


X, Y, Z = np.eye(3)
GRIDS = {
    "axial": affine_of(np.column_stack([-X, -Y, Z])),
    "axial, from above": affine_of(np.column_stack([-X, -Y, -Z])),
    "sagittal": affine_of(np.column_stack([-Y, -Z, X])),
    "coronal": affine_of(np.column_stack([-X, -Z, -Y])),
    "oblique": affine_of(rotation((0.3, -0.2, 0.5))),
    "oblique, mirrored": affine_of(rotation((0.3, -0.2, 0.5)) * [1, 1, -1]),
}
