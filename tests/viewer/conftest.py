"""What the tests of the review page share; each is skipped, with a reason, where it cannot run."""

import functools
import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

SHAPE = (40, 36, 30)
SPACING_MM = (1.0, 1.25, 1.5)


def rotation() -> np.ndarray:
    """A rotation by 20 and 12 degrees: an oblique scan."""
    a, b = np.radians(20), np.radians(12)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return about_z @ about_x


def affine(axes: str, *, oblique: bool = False) -> np.ndarray:
    """Voxel to RAS mm for a grid with these axes, such as `LAS`."""
    matrix = np.zeros((3, 3))
    for column, letter in enumerate(axes):
        row = next(n for n, pair in enumerate(("RL", "AP", "SI")) if letter in pair)
        matrix[row, column] = SPACING_MM[column] * (1 if letter in "RAS" else -1)
    made = np.eye(4)
    made[:3, :3] = rotation() @ matrix if oblique else matrix
    made[:3, 3] = (-12.5, 8.25, 3.0)
    return made


@functools.cache
def why_not_here() -> str:
    """Why Slicer's core cannot be used here; empty if it can."""
    if importlib.util.find_spec("trame_slicer") is None:
        return "the extra 'viewer' (trame-slicer) is not installed"
    from fair_strategy.viewer.opengl import RenderingError, check_rendering

    try:
        check_rendering()
    except RenderingError as error:
        return str(error)
    return ""


@pytest.fixture(scope="session")
def slicer() -> None:
    """Skips where Slicer's core cannot be imported or cannot draw."""
    if reason := why_not_here():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def one_scene(slicer: None) -> Iterator[object]:
    """Slicer's core with three slice views, once: it holds things that a process has once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # third parties, while they are imported
        from trame_slicer.views import DirectViewFactory, ViewLayoutDefinition
        from trame_slicer.views.render_scheduler import NoScheduleRendering

        from fair_strategy.viewer.scene import ReviewScene
    scene = ReviewScene()
    manager = scene.app.view_manager
    manager.register_factory(DirectViewFactory(do_render_offscreen=True))
    for definition in (
        ViewLayoutDefinition.axial_view(),
        ViewLayoutDefinition.coronal_view(),
        ViewLayoutDefinition.sagittal_view(),
    ):
        view = manager.create_view(definition)
        view.set_scheduled_render(NoScheduleRendering())
        view.update_size(200, 200)
    yield scene
    scene.clear()


@pytest.fixture
def scene(one_scene):
    """An empty scene."""
    one_scene.clear()
    yield one_scene
    one_scene.clear()


@pytest.fixture
def write(tmp_path: Path):
    """Writes an array as a file of this test."""
    from fair_strategy.data.volumes import write_image

    def written(name: str, array: np.ndarray, matrix: np.ndarray) -> Path:
        dtype = np.uint8 if array.dtype.kind in "bu" else np.float32
        write_image(tmp_path / name, array, matrix, dtype=dtype)
        return tmp_path / name

    return written


def scan(rng: np.random.Generator) -> np.ndarray:
    """Noise, brighter towards the end of each axis: no two orientations look alike."""
    ramp = sum(np.meshgrid(*(np.linspace(0, 1, n) for n in SHAPE), indexing="ij"))
    return (100 * ramp + rng.normal(0, 2, SHAPE)).astype(np.float32)


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    """A ball of voxels."""
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"))
    return ((grid - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(axis=0) <= radius**2
