"""Peaks of uncertainty."""

import numpy as np
import pytest

from fair_strategy.acquisition.peaks import Peak, uncertainty_peaks

AFFINE = np.array([[2.0, 0, 0, -10], [0, 1, 0, 5], [0, 0, 3, 0], [0, 0, 0, 1]])


def spikes(values, shape=(8, 9, 7)):
    array = np.zeros(shape)
    for index, value in values.items():
        array[index] = value
    return array


def test_positions_are_voxel_centres_in_ras_millimetres_highest_first():
    entropy_map = spikes({(1, 2, 3): 0.4, (6, 7, 1): 0.6})
    # (2 * 6 - 10, 7 + 5, 3 * 1) and (2 * 1 - 10, 2 + 5, 3 * 3)
    expected = (Peak((2.0, 12.0, 3.0), 0.6), Peak((-8.0, 7.0, 9.0), 0.4))
    assert uncertainty_peaks(entropy_map, AFFINE) == expected


def test_a_lower_peak_nearer_than_the_distance_is_passed_over_for_one_farther_away():
    entropy_map = spikes({(0, 0, 0): 0.6, (2, 0, 0): 0.5, (7, 8, 6): 0.1})
    near = uncertainty_peaks(entropy_map, AFFINE, count=2, min_distance_mm=4.1)
    assert [peak.value for peak in near] == [0.6, 0.1]
    exact = uncertainty_peaks(entropy_map, AFFINE, count=2, min_distance_mm=4.0)
    assert [peak.value for peak in exact] == [0.6, 0.5]  # 2 voxels of 2 mm


def test_the_shoulder_of_a_peak_is_no_peak():
    x = np.arange(30.0)
    entropy_map = np.exp(-((x - 10) ** 2) / 200)[:, None, None] * np.ones((1, 1, 1))
    peaks = uncertainty_peaks(entropy_map, np.eye(4), min_distance_mm=3)
    assert peaks == (Peak((10.0, 0.0, 0.0), 1.0),)


def test_ties_go_by_position_and_not_by_the_order_of_storage():
    entropy_map = spikes({(0, 0, 0): 0.5, (7, 0, 0): 0.5, (7, 8, 0): 0.5, (0, 8, 6): 0.5})
    expected = uncertainty_peaks(entropy_map, AFFINE, count=2)
    assert [peak.position_mm[0] for peak in expected] == [-10.0, -10.0]
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = 7
    assert uncertainty_peaks(entropy_map[::-1], AFFINE @ flip, count=2) == expected


def test_peaks_keep_their_distance_and_descend_on_random_maps():
    rng = np.random.default_rng(0)
    for _ in range(10):
        entropy_map = rng.random((7, 6, 8))
        peaks = uncertainty_peaks(entropy_map, AFFINE, count=5, min_distance_mm=5)
        values = [peak.value for peak in peaks]
        assert values[0] == entropy_map.max()
        assert values == sorted(values, reverse=True)
        positions = np.array([peak.position_mm for peak in peaks])
        distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
        assert (distances[~np.eye(len(peaks), dtype=bool)] >= 5).all()


def test_maxima_agree_with_scikit_images():
    feature = pytest.importorskip("skimage.feature")
    entropy_map = np.random.default_rng(1).random((9, 9, 9))
    found = uncertainty_peaks(entropy_map, np.eye(4), count=1000, min_distance_mm=0)
    expected = feature.peak_local_max(entropy_map, min_distance=1, exclude_border=False)
    assert {peak.position_mm for peak in found} == {tuple(map(float, p)) for p in expected}


def test_faint_maxima_count_where_there_are_too_few_high_ones():
    values = np.zeros((9, 9, 40))
    values[4, 4, [4, 14, 24, 34]] = [0.6, 0.011, 0.013, 0.012]
    found = uncertainty_peaks(values, np.eye(4), count=3)
    assert [p.position_mm[2] for p in found] == [4, 24, 34]


def test_a_plateau_is_cut_up_by_the_distance():
    peaks = uncertainty_peaks(np.ones((10, 1, 1)), np.eye(4), count=9, min_distance_mm=4)
    assert [peak.position_mm[0] for peak in peaks] == [0.0, 4.0, 8.0]


@pytest.mark.parametrize("shape", [(3, 3, 3), (0, 3, 3)])
def test_a_map_of_zeros_or_of_nothing_has_no_peaks(shape):
    assert uncertainty_peaks(np.zeros(shape), AFFINE) == ()


def test_count_bounds_the_number_and_none_may_be_asked_for():
    entropy_map = spikes({(0, 0, 0): 0.5, (7, 8, 6): 0.4})
    assert len(uncertainty_peaks(entropy_map, AFFINE, count=1)) == 1
    assert len(uncertainty_peaks(entropy_map, AFFINE, count=50)) == 2
    assert uncertainty_peaks(entropy_map, AFFINE, count=0) == ()


def test_a_float16_map_gives_python_floats():
    (peak,) = uncertainty_peaks(spikes({(1, 1, 1): 0.25}).astype(np.float16), AFFINE)
    assert peak == Peak((-8.0, 6.0, 3.0), 0.25)
    assert {type(number) for number in (*peak.position_mm, peak.value)} == {float}


@pytest.mark.parametrize(
    ("entropy_map", "options", "message"),
    [
        (np.zeros((3, 3)), {}, r"must be \(I, J, K\), got shape \(3, 3\)"),
        (np.full((2, 2, 2), np.nan), {}, "must be finite"),
        (np.ones((2, 2, 2)), {"count": -1}, "count must be 0 or more, got -1"),
        (np.ones((2, 2, 2)), {"min_distance_mm": -1}, "min_distance_mm must be 0 or more"),
    ],
)
def test_bad_arguments_are_refused(entropy_map, options, message):
    with pytest.raises(ValueError, match=message):
        uncertainty_peaks(entropy_map, AFFINE, **options)
