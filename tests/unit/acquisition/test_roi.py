"""The region of interest."""

import numpy as np
import pytest

from fair_strategy.acquisition.roi import region_of_interest


def region(p, *, spacing_mm=(1, 1, 1), margin_mm=2.0, probability_threshold=0.05):
    return region_of_interest(
        p,
        spacing_mm=spacing_mm,
        margin_mm=margin_mm,
        probability_threshold=probability_threshold,
    )


def point(shape=(9, 9, 9), index=(4, 4, 4), value=0.9):
    p = np.zeros(shape)
    p[index] = value
    return p


def test_one_voxel_grows_by_two_millimetres_to_thirty_three():
    # Lattice points within distance 2: 1 + 6 (1) + 12 (sqrt 2) + 8 (sqrt 3) + 6 (2).
    assert region(point()).sum() == 33


def test_the_margin_is_in_millimetres_on_every_axis():
    grown = region(point(), spacing_mm=(1.0, 2.0, 3.0), margin_mm=3.0)
    assert grown[:, 4, 4].sum() == 7
    assert grown[4, :, 4].sum() == 3
    assert grown[4, 4, :].sum() == 3
    assert grown[5, 5, 4]  # sqrt(1 + 4)
    assert not grown[7, 5, 4]  # sqrt(9 + 4) > 3


def test_a_distance_that_equals_the_margin_belongs_in_spite_of_rounding():
    assert 3 * 0.1 > 0.3
    assert region(point(), spacing_mm=(0.1, 0.1, 0.1), margin_mm=0.3)[7, 4, 4]


def test_a_margin_of_zero_leaves_the_mask_at_half_and_the_threshold_adds_far_voxels():
    p = point(value=0.5)
    p[0, 0, 0], p[8, 8, 8] = 0.05, 0.049
    grown = region(p, margin_mm=0)
    assert np.argwhere(grown).tolist() == [[0, 0, 0], [4, 4, 4]]


def test_doubtful_voxels_alone_are_a_region_without_dilation():
    grown = region(point(value=0.2))
    assert np.argwhere(grown).tolist() == [[4, 4, 4]]


def test_the_region_is_empty_where_nothing_reaches_a_threshold():
    grown = region(np.full((4, 4, 4), 0.01))
    assert grown.dtype == bool
    assert grown.shape == (4, 4, 4)
    assert not grown.any()


def test_the_region_agrees_with_distances_by_brute_force_and_grows_with_the_margin():
    rng = np.random.default_rng(0)
    spacing = np.array([1.0, 1.3, 0.7])
    for _ in range(5):
        p = rng.random((6, 5, 7)) ** 6  # few voxels above one half
        points = np.argwhere(p >= 0.5) * spacing
        grid = np.moveaxis(np.indices(p.shape), 0, -1) * spacing
        distance = np.linalg.norm(grid[..., None, :] - points, axis=-1).min(axis=-1)
        for margin in (0.8, 1.5, 2.0):
            expected = (distance <= margin) | (p >= 0.3)
            found = region(p, spacing_mm=spacing, margin_mm=margin, probability_threshold=0.3)
            assert np.array_equal(found, expected)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.6, 1.3, 2.1), (2.1, 0.6, 1.3)])
@pytest.mark.parametrize("margin", [0.5, 2.6, 4.0])
def test_a_narrow_margin_by_shifts_is_the_one_by_distances(monkeypatch, spacing, margin):
    p = np.random.default_rng(1).random((14, 12, 13)) ** 20
    shifted = region(p, spacing_mm=spacing, margin_mm=margin)
    monkeypatch.setattr("fair_strategy.acquisition.roi._MANY_SHIFTS", 0)
    assert np.array_equal(shifted, region(p, spacing_mm=spacing, margin_mm=margin))
    assert shifted.sum() > (p >= 0.5).sum() or margin < min(spacing)


def test_a_mask_at_the_edge_of_the_array_is_cut_there():
    grown = region(point(index=(0, 0, 0)), margin_mm=1)
    assert sorted(np.argwhere(grown).tolist()) == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]


def test_float16_is_taken_and_the_argument_is_not_written_into():
    p = point().astype(np.float16)
    p.setflags(write=False)
    assert region(p).sum() == 33


@pytest.mark.parametrize(
    ("p", "options", "message"),
    [
        (np.zeros((3, 3)), {}, r"must be \(I, J, K\), got shape \(3, 3\)"),
        (point(value=np.nan), {}, r"must lie in \[0, 1\], got nan"),
        (point(value=1.5), {}, r"must lie in \[0, 1\], got 0 to 1.5"),
        (point(), {"margin_mm": -1}, "margin_mm must be a number from 0 upwards, got -1"),
        (point(), {"probability_threshold": 0}, "must be above 0 and at most 1, got 0"),
        (point(), {"spacing_mm": (1, 1)}, "spacing_mm must be three positive numbers"),
    ],
)
def test_bad_arguments_are_refused(p, options, message):
    with pytest.raises(ValueError, match=message):
        region(p, **options)
