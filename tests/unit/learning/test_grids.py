"""Grids and resampling."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from fair_strategy.learning.grids import (
    Grid,
    block_means,
    box_around,
    box_grid,
    covering_grid,
    draw,
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


def scipys(array, affine, target, **kwargs):
    """Linear interpolation by scipy at the target's positions."""
    points = np.indices(target.shape).reshape(3, -1)
    matrix = np.linalg.inv(affine) @ target.affine
    voxels = matrix[:3, :3] @ points + matrix[:3, 3:]
    return map_coordinates(array, voxels, order=1, **kwargs).reshape(target.shape)


@pytest.mark.parametrize("degrees", [0.0, 20.0])
@pytest.mark.parametrize(("outside", "mode"), [("zeros", "grid-constant"), ("border", "nearest")])
@pytest.mark.parametrize("step", [1.0, 0.7, -1.0, 2.3])
def test_resampling_agrees_with_scipy_beyond_the_images_edge_too(degrees, outside, mode, step):
    affine = oblique(degrees)
    target = Grid((14, 9, 12), affine @ np.diag([step, 1.0, -1.0, 1.0]))
    target.affine[:3, 3] = affine[:3, :3] @ [-3.0 if step > 0 else 9.0, 0.5, 8.0] + affine[:3, 3]
    expected = scipys(image()[0].numpy(), affine, target, mode=mode)
    assert expected.any()
    got = resample(image(), affine, target, outside=outside)
    np.testing.assert_allclose(got[0], expected, atol=1e-9)


@pytest.mark.parametrize("slab", [1, 200, 50_000])
@pytest.mark.parametrize("angles", [(20.0, 0.0), (-35.0, 50.0), (130.0, -80.0), (90.0, 1.0)])
def test_a_turned_image_in_a_far_wider_grid_agrees_with_scipy(monkeypatch, slab, angles):
    monkeypatch.setattr("fair_strategy.learning.interpolation._SLAB_VOXELS", slab)
    b = np.deg2rad(angles[1])
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(b), -np.sin(b)], [np.sin(b), np.cos(b)]]
    affine = tilt @ oblique(angles[0])
    middle = affine[:3, :3] @ [3.5, 4.0, 3.0] + affine[:3, 3]
    target = window_grid(middle + np.array([2.0, 5.0, -4.0]), (20, 23, 30), 1.2)
    expected = scipys(image()[0].numpy(), affine, target, mode="grid-constant")
    assert 0.01 < (expected != 0).mean() < 0.3
    np.testing.assert_allclose(resample(image(), affine, target)[0], expected, atol=1e-9)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_axes_in_another_order_are_turned_not_interpolated(order):
    array = image()[0].numpy()
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    stored = np.flip(array.transpose(order), 1)
    turned = affine[:, [*order, 3]]
    turned[:3, 3] += turned[:3, 1] * (stored.shape[1] - 1)
    turned[:3, 1] *= -1
    target = Grid(array.shape, affine)
    got = resample(torch.from_numpy(stored.copy())[None], turned, target)
    assert np.array_equal(got[0], array)


def test_each_channel_is_resampled_by_itself():
    target = window_grid(np.array([-6.0, 8.0, 10.0]), (6, 5, 4), 1.25)
    two = torch.cat([image(), 3 - 2 * image()])
    got = resample(two, oblique(), target, outside="border")
    torch.testing.assert_close(got[:1], resample(image(), oblique(), target, outside="border"))
    torch.testing.assert_close(got[1], 3 - 2 * got[0])


@pytest.mark.parametrize("factors", [(1, 1, 1), (2, 3, 4), (4, 1, 2), (8, 9, 7)])
@pytest.mark.parametrize("order", ["C", "F", "flipped"])
def test_means_of_blocks_agree_with_those_of_each_block(factors, order):
    array = np.random.default_rng(2).random((9, 10, 7)).astype(np.float32)
    stored = array[::-1, :, ::-1] if order == "flipped" else np.array(array, order=order)
    means = block_means(stored, factors)
    for place in np.ndindex(means.shape):
        block = tuple(slice(p * f, (p + 1) * f) for p, f in zip(place, factors, strict=True))
        assert means[place] == pytest.approx(stored[block].mean(), rel=1e-5)
    assert means.shape == tuple(-(-n // f) for n, f in zip(array.shape, factors, strict=True))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_means_of_whole_numbers_do_not_overflow(dtype):
    array = np.full((8, 8, 8), np.iinfo(np.uint8).max, dtype=dtype)
    assert np.array_equal(block_means(array, (4, 4, 4)), np.full((2, 2, 2), 255, np.float32))


@pytest.mark.parametrize("centre", [(8.0, 9.0, 30.0), (-4.0, 2.0, 6.0), (90.0, 0.0, 0.0)])
@pytest.mark.parametrize("outside", ["zeros", "border"])
@pytest.mark.parametrize("spacing", [1.0, 3.0])
def test_drawing_from_a_part_is_drawing_from_the_whole(centre, outside, spacing):
    whole = np.random.default_rng(3).random((30, 32, 34)).astype(np.float32)
    affine = oblique(20.0, (1.0, 1.1, 1.3))
    target = window_grid(np.array(centre), (6, 7, 5), spacing)
    factors = [3, 2, 2] if spacing == 3.0 else [1, 1, 1]
    blocks = np.diag([*factors, 1.0])
    blocks[:3, 3] = (np.array(factors) - 1) / 2
    pooled = torch.from_numpy(block_means(whole, factors))[None]
    expected = resample(pooled, affine @ blocks, target, outside=outside)
    torch.testing.assert_close(draw(whole, affine, target, outside=outside), expected)


def test_a_read_only_image_is_drawn_without_a_warning():
    array = image()[0].numpy().copy()
    array.setflags(write=False)
    own = Grid((8, 9, 7), oblique())
    np.testing.assert_allclose(draw(array, own.affine, own)[0], array, atol=1e-6)


@pytest.mark.parametrize("steps", [(0.5, 1.0, -0.8), (1.0, -0.8, 0.5), (-1.0, 0.5, 1.0)])
def test_copied_flipped_and_interpolated_axes_agree_with_scipy_in_any_order(steps):
    turned = np.eye(4)[[2, 0, 1, 3]]  # the image's axes in another order
    target = Grid((12, 13, 11), turned @ np.diag([*steps, 1.0]))
    target.affine[:3, 3] = np.where(target.affine[:3, :3].sum(1) < 0, 8.0, -2.0)
    got = resample(image(), np.eye(4), target)[0].numpy()
    expected = scipys(image()[0].numpy(), np.eye(4), target, mode="grid-constant")
    np.testing.assert_allclose(got, expected, atol=1e-9)


def test_at_every_second_position_of_half_steps_are_the_images_own_voxels_to_the_bit():
    single = image().float()
    target = Grid((15, 17, 13), np.diag([0.5, 0.5, 0.5, 1.0]))
    assert torch.equal(resample(single, np.eye(4), target)[:, ::2, ::2, ::2], single)


def test_outside_the_image_is_zero():
    far = window_grid(np.array([500.0, 0.0, 0.0]), (3, 3, 3), 1.0)
    assert not resample(image(), oblique(), far).any()


def test_outside_the_image_is_its_outermost_voxel_where_that_is_asked_for():
    far = window_grid(np.array([500.0, 4.0, 3.0]), (1, 1, 1), 1.0)
    drawn_out = resample(image(), np.eye(4), far, outside="border")
    assert drawn_out.item() == pytest.approx(image()[0, 7, 4, 3].item())


def test_a_linear_ramp_survives_pooling_onto_coarse_voxels():
    x = np.arange(16.0)
    ramp = np.broadcast_to(x[:, None, None], (16, 8, 8))
    coarse = Grid((3, 2, 2), np.diag([4.0, 4.0, 4.0, 1.0]))
    coarse.affine[:3, 3] = 2.0
    pooled = draw(ramp, np.eye(4), coarse)
    np.testing.assert_allclose(pooled[0, :, 0, 0], [2.0, 6.0, 10.0], atol=1e-6)


def test_pooling_averages_noise_that_point_sampling_keeps():
    noise = np.random.default_rng(1).standard_normal((32, 32, 32))
    coarse = covering_grid(np.full(3, 4.0), np.full(3, 26.0), 4.0)
    assert draw(noise, np.eye(4), coarse).std() < 0.2
    assert resample(torch.from_numpy(noise)[None], np.eye(4), coarse).std() > 0.5


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
