"""Between files and Slicer's nodes: voxels are permuted and flipped, never resampled.

Slicer's segmentations want a right-handed grid. A scan goes in with its axes nearest to right,
anterior and superior (`data.grids.to_ras`), and a mask comes out by the way back: so a mask has
the scan's own grid whatever the orientation of the file.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLScene, vtkOrientedImageData
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkCommonMath import vtkMatrix4x4

from fair_strategy.data.volumes import (
    Affine,
    Reorientation,
    Shape,
    match_grid,
    read_image,
    read_labels,
    to_ras,
    write_mask,
)


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A scan's grid: as the file has it, and as the scene has it."""

    shape: Shape
    affine: Affine
    scene_shape: Shape
    scene_affine: Affine
    undo: Reorientation


def read_scan(path: Path) -> tuple[NDArray[np.float32], Grid]:
    """The scan's voxels in the order of the scene, and its grid.

    Raises:
        VolumeError: see `data.volumes.read_image`.
    """
    image = read_image(path, allow_blank=True)
    turned, affine, undo = to_ras(image.array, image.affine)
    i, j, k = image.array.shape
    x, y, z = turned.shape
    return turned, Grid((i, j, k), image.affine, (x, y, z), affine, undo)


def read_on(path: Path, grid: Grid) -> NDArray[np.float32]:
    """A map that lies on the scan's grid, in the order of the scene.

    Raises:
        VolumeError: unreadable, or on another grid.
    """
    image = read_image(path, allow_blank=True)
    turned = match_grid(image.array, image.affine, grid.scene_shape, grid.scene_affine)
    return np.ascontiguousarray(turned)


def read_labels_on(path: Path, grid: Grid) -> NDArray[np.int16]:
    """Labels that lie on the scan's grid, in the order of the scene.

    Raises:
        VolumeError: unreadable, or on another grid.
    """
    labels = read_labels(path)
    turned = match_grid(labels.array, labels.affine, grid.scene_shape, grid.scene_affine)
    return np.ascontiguousarray(turned, dtype=np.int16)


def write_labels(path: Path, labels: NDArray[np.integer[Any]], grid: Grid) -> Path:
    """Write labels that are in the order of the scene on the scan's own grid."""
    write_mask(path, grid.undo(labels), grid.affine)
    return path


def add_volume(
    scene: vtkMRMLScene, array: NDArray[np.floating], grid: Grid, *, name: str
) -> vtkMRMLScalarVolumeNode:
    """A scalar volume node with its display node."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetIJKToRASMatrix(matrix(grid.scene_affine))
    node.SetAndObserveImageData(image_data(array))
    node.CreateDefaultDisplayNodes()
    return node


def oriented(array: NDArray[Any], grid: Grid) -> vtkOrientedImageData:
    """The array as an image that knows where it lies, as segmentations take it."""
    image = vtkOrientedImageData()
    image.ShallowCopy(image_data(array))
    image.SetImageToWorldMatrix(matrix(grid.scene_affine))
    return image


def image_data(array: NDArray[Any]) -> vtkImageData:
    """A VTK image that owns a copy of the (I, J, K) array."""
    image = vtkImageData()
    image.SetDimensions(*array.shape)
    # VTK runs through i fastest.
    flat = np.ascontiguousarray(array.transpose(2, 1, 0)).reshape(-1)
    image.GetPointData().SetScalars(numpy_to_vtk(flat, deep=True))
    return image


def voxels(image: vtkImageData) -> NDArray[Any]:
    """The (I, J, K) voxels of a VTK image, as a view."""
    i, j, k = image.GetDimensions()
    scalars = vtk_to_numpy(image.GetPointData().GetScalars())
    return scalars.reshape(k, j, i).transpose(2, 1, 0)


def matrix(affine: NDArray[np.floating]) -> vtkMatrix4x4:
    """A (4, 4) array as VTK's matrix."""
    made = vtkMatrix4x4()
    made.DeepCopy(np.asarray(affine, dtype=np.float64).reshape(-1).tolist())
    return made


def array(of: vtkMatrix4x4) -> NDArray[np.float64]:
    """VTK's matrix as a (4, 4) array."""
    return np.array([[of.GetElement(i, j) for j in range(4)] for i in range(4)])
