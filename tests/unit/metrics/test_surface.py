"""Surface distances and the surface area."""

import numpy as np
import pytest

from fair_strategy.metrics.surface import (
    average_surface_distance_mm,
    hausdorff_95_mm,
    surface_area_mm2,
    surface_dice,
)

SPACING = (1.0, 1.5, 0.8)


def ball(radius_mm, spacing_mm, *, centre_mm=(0.0, 0.0, 0.0), half_mm=12.0):
    axes = [np.arange(-half_mm, half_mm + step / 2, step) for step in spacing_mm]
    grid = np.meshgrid(*axes, indexing="ij")
    return sum((x - c) ** 2 for x, c in zip(grid, centre_mm, strict=True)) <= radius_mm**2


def single_voxel(index, shape=(5, 6, 7)):
    mask = np.zeros(shape, bool)
    mask[index] = True
    return mask


def random_blobs(rng):
    return np.pad(rng.random((2, 6, 5, 7)) < 0.6, ((0, 0), (1, 1), (1, 1), (1, 1)))


def test_two_voxels_three_and_four_millimetres_apart_have_distance_five():
    a, b = single_voxel((1, 1, 1)), single_voxel((4, 3, 1))
    spacing = (1.0, 2.0, 1.0)  # 3 steps of 1 mm, 2 steps of 2 mm: sqrt(9 + 16)
    assert average_surface_distance_mm(a, b, spacing) == pytest.approx(5.0)
    assert hausdorff_95_mm(a, b, spacing) == pytest.approx(5.0)
    assert surface_dice(a, b, spacing, tolerance_mm=5.0) == 1.0
    assert surface_dice(a, b, spacing, tolerance_mm=4.9) == 0.0


def test_a_line_of_two_voxels_and_one_of_them_are_a_third_of_a_step_apart():
    a = single_voxel((1, 1, 1)) | single_voxel((1, 1, 2))
    b = single_voxel((1, 1, 1))
    # Distances 0 and 3 from a to b, 0 from b to a: mean 1; the directed 95th percentile of
    # (0, 3) is 0.95 * 3; two of three voxels are within 2 mm.
    spacing = (1.0, 1.0, 3.0)
    assert average_surface_distance_mm(a, b, spacing) == pytest.approx(1.0)
    assert hausdorff_95_mm(a, b, spacing) == pytest.approx(2.85)
    assert surface_dice(a, b, spacing, tolerance_mm=2.0) == pytest.approx(2 / 3)


def test_the_inside_of_a_cube_is_no_surface():
    cube = np.zeros((7, 7, 7), bool)
    cube[1:6, 1:6, 1:6] = True
    hollow = cube.copy()
    hollow[3, 3, 3] = False
    # The hole's six face neighbours are surface now, one voxel below that of the cube.
    n = 5**3 - 3**3
    expected = 6 * 1 / (n + n + 6)
    assert average_surface_distance_mm(hollow, cube, (1, 1, 1)) == pytest.approx(expected)


@pytest.mark.parametrize("function", [average_surface_distance_mm, hausdorff_95_mm])
def test_distances_are_symmetric_zero_for_equal_masks_and_scale_with_the_spacing(function):
    rng = np.random.default_rng(1)
    for _ in range(5):
        a, b = random_blobs(rng)
        assert function(a, a, SPACING) == 0
        assert function(a, b, SPACING) == pytest.approx(function(b, a, SPACING))
        doubled = tuple(2 * step for step in SPACING)
        assert function(a, b, doubled) == pytest.approx(2 * function(a, b, SPACING))


def test_surface_dice_grows_with_the_tolerance_to_one():
    a, b = ball(5, SPACING), ball(5, SPACING, centre_mm=(2, 0, 0))
    shares = [surface_dice(a, b, SPACING, tolerance_mm=t) for t in (0, 0.5, 1, 2, 4)]
    assert shares == sorted(shares)
    assert shares[0] < shares[2] < shares[-1] == 1


def test_distances_do_not_depend_on_empty_space_around():
    a, b = ball(5, SPACING), ball(4, SPACING, centre_mm=(1, 1, 0))
    wide = [np.pad(m, ((3, 0), (0, 4), (2, 2))) for m in (a, b)]
    expected = average_surface_distance_mm(a, b, SPACING)
    assert average_surface_distance_mm(*wide, SPACING) == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
@pytest.mark.filterwarnings("ignore::FutureWarning")  # MONAI calls itself in a deprecated way
def test_distances_agree_with_monai():
    monai_metrics = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    for _ in range(3):
        a, b = random_blobs(rng)
        pair = [torch.as_tensor(m[None, None].astype(np.float32)) for m in (a, b)]
        common = {"include_background": True, "spacing": SPACING}
        expected = monai_metrics.compute_average_surface_distance(*pair, symmetric=True, **common)
        assert average_surface_distance_mm(a, b, SPACING) == pytest.approx(
            expected.item(), rel=1e-5
        )
        expected = monai_metrics.compute_hausdorff_distance(*pair, percentile=95, **common)
        assert hausdorff_95_mm(a, b, SPACING) == pytest.approx(expected.item(), rel=1e-5)
        expected = monai_metrics.compute_surface_dice(*pair, class_thresholds=[0.9], **common)
        share = surface_dice(a, b, SPACING, tolerance_mm=0.9)
        assert share == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # it uses scipy.ndimage.filters
def test_distances_of_balls_are_near_those_of_surface_elements():
    oracle = pytest.importorskip("surface_distance")
    a, b = ball(7, SPACING), ball(6, SPACING, centre_mm=(1.5, 0, 0))
    distances = oracle.compute_surface_distances(a, b, SPACING)
    expected = np.mean(oracle.compute_average_surface_distance(distances))
    # Voxels in the place of surface elements: within half of the smallest voxel edge.
    assert average_surface_distance_mm(a, b, SPACING) == pytest.approx(expected, abs=0.4)
    expected = oracle.compute_robust_hausdorff(distances, 95)
    assert hausdorff_95_mm(a, b, SPACING) == pytest.approx(expected, abs=0.4)


@pytest.mark.parametrize("which", ["first", "second", "both"])
def test_distances_to_an_empty_mask_are_nan(which):
    empty, some = np.zeros((4, 4, 4), bool), single_voxel((1, 1, 1), (4, 4, 4))
    a = empty if which in ("first", "both") else some
    b = empty if which in ("second", "both") else some
    assert np.isnan(average_surface_distance_mm(a, b, SPACING))
    assert np.isnan(hausdorff_95_mm(a, b, SPACING))
    assert np.isnan(surface_dice(a, b, SPACING, tolerance_mm=1.0))


def test_a_negative_tolerance_is_refused():
    mask = single_voxel((1, 1, 1))
    with pytest.raises(ValueError, match="tolerance_mm must be a number from 0 upwards, got -1"):
        surface_dice(mask, mask, SPACING, tolerance_mm=-1)


def test_masks_without_three_axes_are_refused():
    with pytest.raises(ValueError, match="a must have 3 axes"):
        hausdorff_95_mm(np.ones((3, 3), bool), np.ones((3, 3), bool), SPACING)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.7, 1, 1.5), (1, 1, 2)])
@pytest.mark.parametrize("radius", [10.0, 11.3])
def test_the_area_of_a_ball_is_four_pi_r_squared_within_three_percent(radius, spacing):
    area = surface_area_mm2(ball(radius, spacing), spacing)
    assert area == pytest.approx(4 * np.pi * radius**2, rel=0.03)


def slanted_cube(size):
    """A cube cut in half by the plane x + y + z = 3/2 of its edge: the cut is a regular hexagon."""
    x, y, z = np.meshgrid(*[np.arange(size) + 0.5] * 3, indexing="ij")
    return x + y + z < 1.5 * size


@pytest.mark.parametrize(
    ("shape", "spacing", "faces_mm2"),
    [
        # 12 x 18 x 20 voxels of 1 x 0.5 x 2 mm: 12 x 9 x 40 mm.
        (lambda scale: np.ones((12 * scale, 18 * scale, 20 * scale), bool), (1, 0.5, 2), 1896),
        # Three faces of 24 x 24 (half of six) and the hexagon, 3 sqrt(3) / 4 x 24^2. Counting
        # voxel faces gives sqrt(3) times the hexagon.
        (lambda scale: slanted_cube(24 * scale), (1, 1, 1), 3 * 24**2 * (1 + np.sqrt(3) / 4)),
    ],
)
def test_the_area_of_flat_faces_is_right_but_for_rounded_edges(shape, spacing, faces_mm2):
    # Faces grow with the square of the scale and edges linearly: 4 F + 2 E - 2 (F + E) = 2 F.
    small, large = (surface_area_mm2(shape(scale), spacing) for scale in (1, 2))
    assert (large - 2 * small) / 2 == pytest.approx(faces_mm2, rel=0.02)
    assert small == pytest.approx(faces_mm2, rel=0.12)


def test_the_area_is_the_same_at_the_edge_of_the_array_and_zero_for_an_empty_mask():
    inside = ball(5, (1, 1, 1))
    occupied = np.argwhere(inside)
    low, high = occupied.min(axis=0), occupied.max(axis=0) + 1
    cropped = inside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    assert surface_area_mm2(cropped, (1, 1, 1)) == pytest.approx(
        surface_area_mm2(inside, (1, 1, 1))
    )
    assert surface_area_mm2(np.zeros((3, 3, 3), bool), (1, 1, 1)) == 0


def test_masks_are_not_written_into():
    a, b = ball(4, SPACING), ball(3, SPACING)
    before = a.copy(), b.copy()
    average_surface_distance_mm(a, b, SPACING)
    surface_area_mm2(a, SPACING)
    assert np.array_equal(a, before[0])
    assert np.array_equal(b, before[1])
