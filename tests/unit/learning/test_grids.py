"""Grids and resampling."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from fair_strategy.learning.grids import (
    Grid,
    box_around,
    box_grid,
    covering_grid,
    resample,
    snapped,
    window_grid,
)


def oblique(degrees: float = 20.0, spacing=(1.0, 1.5, 2.0)) -> np.ndarray:
    a = np.deg2rad(degrees)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = (-7.0, 3.0, 5.0)
    return affine


def image(shape=(8, 9, 7)) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((1, *shape)))


def test_resampling_onto_its_own_grid_changes_nothing():
    own = Grid((8, 9, 7), oblique())
    np.testing.assert_allclose(resample(image(), own.affine, own), image(), atol=1e-9)


def test_resampling_agrees_with_scipys_linear_interpolation():
    target = window_grid(np.array([-6.0, 8.0, 10.0]), (6, 5, 4), 1.25)
    points = np.indices(target.shape).reshape(3, -1)
    world = target.affine[:3, :3] @ points + target.affine[:3, 3:]
    inverse = np.linalg.inv(oblique())
    voxels = inverse[:3, :3] @ world + inverse[:3, 3:]
    inside = (voxels >= 0).all(0) & (voxels <= np.array([[7], [8], [6]])).all(0)
    expected = map_coordinates(image()[0].numpy(), voxels, order=1)
    got = resample(image(), oblique(), target)[0].numpy().ravel()
    assert inside.sum() > 20
    np.testing.assert_allclose(got[inside], expected[inside], atol=1e-9)


def test_outside_the_image_is_zero():
    far = window_grid(np.array([500.0, 0.0, 0.0]), (3, 3, 3), 1.0)
    assert not resample(image(), oblique(), far).any()


def test_outside_the_image_is_its_outermost_voxel_where_that_is_asked_for():
    far = window_grid(np.array([500.0, 4.0, 3.0]), (1, 1, 1), 1.0)
    drawn_out = resample(image(), np.eye(4), far, outside="border")
    assert drawn_out.item() == pytest.approx(image()[0, 7, 4, 3].item())


def test_a_linear_ramp_survives_pooling_onto_coarse_voxels():
    x = np.arange(16.0)
    ramp = torch.from_numpy(np.broadcast_to(x[:, None, None], (16, 8, 8)).copy())[None]
    coarse = Grid((3, 2, 2), np.diag([4.0, 4.0, 4.0, 1.0]))
    coarse.affine[:3, 3] = 2.0
    pooled = resample(ramp, np.eye(4), coarse, pool=True)
    np.testing.assert_allclose(pooled[0, :, 0, 0], [2.0, 6.0, 10.0], atol=1e-9)


def test_pooling_averages_noise_that_point_sampling_keeps():
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 32, 32, 32)))
    coarse = covering_grid(np.full(3, 4.0), np.full(3, 26.0), 4.0)
    assert resample(noise, np.eye(4), coarse, pool=True).std() < 0.2
    assert resample(noise, np.eye(4), coarse).std() > 0.5


def test_a_window_has_its_middle_at_the_centre():
    grid = window_grid(np.array([1.0, 2.0, 3.0]), (4, 6, 8), 2.0)
    np.testing.assert_allclose(grid.corners_mm.mean(0), [1.0, 2.0, 3.0])
    np.testing.assert_allclose(np.ptp(grid.corners_mm, axis=0), [6.0, 10.0, 14.0])


def test_on_a_snapped_grid_equal_voxels_are_copied():
    flipped = np.diag([-1.0, 1.0, 1.0, 1.0])
    flipped[:3, 3] = (7.3, 0.2, -0.4)
    wanted = window_grid(np.array([3.05, 4.0, 2.0]), (4, 4, 4), 1.0)
    grid = snapped(wanted, flipped)
    assert np.abs(grid.affine[:3, 3] - wanted.affine[:3, 3]).max() <= 0.5
    voxels = resample(image(), flipped, grid)[0].numpy()
    assert np.isin(voxels.round(9), image().numpy().round(9)).all()


def test_a_covering_grid_reaches_both_corners_in_whole_multiples():
    low, high = np.array([-3.0, 0.0, 1.0]), np.array([8.5, 6.0, 1.0])
    grid = covering_grid(low, high, 1.0, multiple=4)
    assert grid.shape == (16, 8, 4)
    assert (grid.corners_mm.min(0) <= low).all()
    assert (grid.corners_mm.max(0) >= high).all()


def test_a_box_holds_the_points_and_its_grid_is_the_same_voxels():
    shape, affine = (10, 12, 14), oblique()
    box = box_around(Grid((3, 3, 3), affine).corners_mm, shape, affine)
    assert box == (slice(0, 3), slice(0, 3), slice(0, 3))
    part = box_grid((slice(2, 5), slice(0, 4), slice(7, 9)), affine)
    assert part.shape == (3, 4, 2)
    np.testing.assert_allclose(part.corners_mm[0], affine[:3, :3] @ [2.0, 0.0, 7.0] + affine[:3, 3])


@pytest.mark.parametrize("corner", [-1000.0, 1000.0])
def test_a_box_outside_of_the_grid_is_not_empty(corner):
    box = box_around(np.full((1, 3), corner), (10, 12, 14), np.eye(4))
    assert all(0 <= s.start < s.stop <= n for s, n in zip(box, (10, 12, 14), strict=True))
