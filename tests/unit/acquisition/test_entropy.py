"""Entropy per voxel and per case."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from fair_strategy.acquisition.entropy import (
    REDUCTIONS,
    binary_entropy,
    case_entropy,
    expected_entropy,
    mutual_information,
    predictive_entropy,
)

MEASURES = [predictive_entropy, expected_entropy, mutual_information]


def voxel(*passes):
    """(R, C, 1, 1, 1) from one list of class probabilities a pass."""
    return np.array(passes, dtype=np.float64)[:, :, None, None, None]


def softmax_probs(seed, shape=(3, 4, 2, 3, 2), sharpness=3.0):
    logits = np.random.default_rng(seed).normal(0, sharpness, shape)
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_two_passes_of_one_voxel_worked_by_hand():
    probs = voxel([0.75, 0.25], [0.25, 0.75])
    # The mean is (1/2, 1/2): ln 2. Each pass: ln 4 - 3/4 ln 3.
    each = np.log(4) - 0.75 * np.log(3)
    assert predictive_entropy(probs).item() == pytest.approx(np.log(2))
    assert expected_entropy(probs).item() == pytest.approx(each)
    assert mutual_information(probs).item() == pytest.approx(np.log(2) - each)


@pytest.mark.parametrize(("dtype", "atol"), [(np.float32, 2e-6), (np.float64, 1e-12)])
def test_the_entropy_of_two_classes_is_that_of_one_pass(dtype, atol):
    foreground = np.random.default_rng(1).beta(0.1, 0.1, (5, 6, 7)).astype(dtype)
    foreground[0, 0] = [0, 1, 0.5, np.finfo(dtype).tiny, 5e-324, 1e-9, np.nextafter(dtype(1), 0)]
    entropy = binary_entropy(foreground)
    probs = np.stack([1.0 - foreground.astype(np.float64), foreground])[None]
    np.testing.assert_allclose(entropy, predictive_entropy(probs), atol=atol)
    assert entropy.dtype == dtype
    assert entropy[0, 0, :2].tolist() == [0, 0]
    assert (entropy >= 0).all()
    assert entropy.max() <= np.log(2, dtype=dtype)


@pytest.mark.parametrize(
    ("foreground", "match"),
    [
        (np.array([0.2, np.nan]), "lie in"),
        (np.array([1.1]), "lie in"),
        (np.array([0, 1]), "int64"),
        (np.array([0.5], np.float16), "float16"),
    ],
)
def test_what_is_no_probability_of_two_classes_is_refused(foreground, match):
    with pytest.raises(ValueError, match=match):
        binary_entropy(foreground)


def test_certain_passes_that_disagree_are_all_mutual_information():
    probs = voxel([1, 0], [0, 1])
    assert predictive_entropy(probs).item() == pytest.approx(np.log(2))
    assert expected_entropy(probs).item() == 0
    assert mutual_information(probs).item() == pytest.approx(np.log(2))


def test_zero_probability_counts_zero_and_uniform_is_ln_c():
    assert predictive_entropy(voxel([1, 0, 0])).item() == 0
    assert predictive_entropy(voxel([1 / 3] * 3)).item() == pytest.approx(np.log(3))
    tiny = 5e-324
    assert predictive_entropy(voxel([1.0, tiny])).item() == pytest.approx(0, abs=1e-300)


@given(seed=st.integers(0, 2**32), classes=st.integers(1, 5), passes=st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_entropies_keep_their_bounds_and_their_order(seed, classes, passes):
    probs = softmax_probs(seed, (passes, classes, 2, 1, 3))
    predictive, expected = predictive_entropy(probs), expected_entropy(probs)
    assert predictive.shape == (2, 1, 3)
    assert (expected >= 0).all()
    assert (predictive <= np.log(classes)).all()
    assert (expected <= predictive + 1e-12).all()
    assert (mutual_information(probs) >= 0).all()
    np.testing.assert_allclose(mutual_information(probs), predictive - expected, atol=1e-12)


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=20)
def test_the_order_of_passes_and_classes_does_not_matter(seed):
    probs = softmax_probs(seed)
    for measure in MEASURES:
        np.testing.assert_allclose(measure(probs), measure(probs[::-1, ::-1]), atol=1e-12)
        twice = np.concatenate([probs, probs])
        np.testing.assert_allclose(measure(twice), measure(probs), atol=1e-12)


def test_entropies_agree_with_scipys_and_with_the_divergence_from_the_mean():
    probs = softmax_probs(0)
    average = probs.mean(axis=0)
    np.testing.assert_allclose(predictive_entropy(probs), stats.entropy(average, axis=0))
    np.testing.assert_allclose(expected_entropy(probs), stats.entropy(probs, axis=1).mean(axis=0))
    divergence = stats.entropy(probs, average[None], axis=1).mean(axis=0)
    np.testing.assert_allclose(mutual_information(probs), divergence, atol=1e-12)


def test_one_pass_has_no_mutual_information():
    assert not mutual_information(softmax_probs(1, (1, 3, 2, 2, 2))).any()


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 2e-3), (np.float32, 1e-6)])
def test_half_and_single_precision_are_computed_in_double(dtype, tolerance):
    probs = softmax_probs(2, (2, 2, 3, 3, 3))
    for measure in MEASURES:
        result = measure(probs.astype(dtype))
        assert result.dtype == np.float64
        np.testing.assert_allclose(result, measure(probs), atol=tolerance)


def test_sums_of_float16_stay_below_ln_c():
    # A sum of 0.9995 would put the raw sum of -p ln p above ln 2.
    probs = voxel([0.49975, 0.49975])
    assert -2 * 0.49975 * np.log(0.49975) > np.log(2)
    assert predictive_entropy(probs).item() == np.log(2)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("probs", "message"),
    [
        (np.full((2, 1, 1, 1), 0.5), r"\(R, C, I, J, K\) with no empty axis, got shape \(2, 1"),
        (np.zeros((0, 2, 1, 1, 1)), "no empty axis"),
        (voxel([np.nan, 0.5]), "must be finite, got 1 NaN or inf"),
        (voxel([np.inf, 0.5]), "must be finite, got 1 NaN or inf"),
        (voxel([1.5, -0.5]), r"lie in \[0, 1\], got -0.5 to 1.5; apply softmax"),
        (voxel([0.5, 0.5], [0.4, 0.5]), "sum to 1 over axis 1 within 0.001, got a sum 0.1 away"),
        (voxel([0.5, 0.502]), "sum to 1"),
        (np.full((1, 2, 1, 1, 1), "x"), "must be real numbers"),
        (np.full((1, 2, 1, 1, 1), 0.5j), "must be real numbers"),
    ],
)
def test_what_is_no_probability_is_refused(measure, probs, message):
    with pytest.raises(ValueError, match=message):
        measure(probs)


def test_rounding_just_outside_zero_to_one_is_taken():
    probs = voxel([1 + 1e-7, -1e-7])
    assert predictive_entropy(probs).item() == 0


def test_probabilities_are_not_written_into():
    probs = voxel([1 + 1e-7, -1e-7])
    before = probs.copy()
    probs.setflags(write=False)
    for measure in MEASURES:
        measure(probs)
    assert np.array_equal(probs, before)


ENTROPY_MAP = np.arange(8.0).reshape(2, 2, 2) / 10  # 0, 0.1, ... 0.7
ROI = ENTROPY_MAP >= 0.5  # 0.5, 0.6, 0.7


def test_every_reduction_worked_by_hand():
    assert case_entropy(ENTROPY_MAP) == pytest.approx(2.8 / 8)
    assert case_entropy(ENTROPY_MAP, reduction="sum") == pytest.approx(2.8)
    assert case_entropy(ENTROPY_MAP, roi=ROI) == pytest.approx(0.6)
    assert case_entropy(ENTROPY_MAP, roi=ROI, reduction="sum") == pytest.approx(1.8)
    per_boundary = case_entropy(
        ENTROPY_MAP, roi=ROI, reduction="per_boundary", boundary_area_mm2=4.0
    )
    assert per_boundary == pytest.approx(0.45)


def test_the_whole_volume_depends_on_the_field_of_view_and_the_region_does_not():
    wide = np.pad(ENTROPY_MAP, 3)
    assert case_entropy(wide) < case_entropy(ENTROPY_MAP) / 10
    assert case_entropy(wide, roi=np.pad(ROI, 3)) == pytest.approx(
        case_entropy(ENTROPY_MAP, roi=ROI)
    )


def test_the_mean_lies_between_the_extremes_and_scales_with_the_map():
    rng = np.random.default_rng(3)
    for _ in range(10):
        values, roi = rng.random((3, 3, 3)), rng.random((3, 3, 3)) < 0.5
        mean = case_entropy(values, roi=roi)
        assert values[roi].min() <= mean <= values[roi].max()
        assert case_entropy(2 * values, roi=roi) == pytest.approx(2 * mean)
        total = case_entropy(values, roi=roi, reduction="sum")
        assert total == pytest.approx(mean * roi.sum())


def test_a_float16_map_is_summed_in_double():
    values = np.full((20, 20, 20), 0.1, dtype=np.float16)
    assert case_entropy(values, reduction="sum") == pytest.approx(8000 * float(np.float16(0.1)))


def test_an_empty_region_has_no_mean_and_sum_zero():
    nothing = np.zeros((2, 2, 2), bool)
    assert np.isnan(case_entropy(ENTROPY_MAP, roi=nothing))
    assert case_entropy(ENTROPY_MAP, roi=nothing, reduction="sum") == 0
    assert np.isnan(case_entropy(ENTROPY_MAP, reduction="per_boundary", boundary_area_mm2=0.0))


def test_a_region_of_zeros_and_ones_is_a_mask_and_not_an_index():
    assert case_entropy(ENTROPY_MAP, roi=ROI.astype(np.uint8)) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("entropy_map", "options", "message"),
    [
        (ENTROPY_MAP[0], {}, r"must be \(I, J, K\) and not empty, got shape \(2, 2\)"),
        (np.zeros((0, 2, 2)), {}, "not empty"),
        (ENTROPY_MAP * np.nan, {}, "must be finite and 0 or more"),
        (-ENTROPY_MAP, {}, "must be finite and 0 or more"),
        (ENTROPY_MAP, {"roi": ROI[:1]}, r"the map's shape \(2, 2, 2\), got \(1, 2, 2\)"),
        (ENTROPY_MAP, {"roi": ENTROPY_MAP}, "roi must be boolean or hold 0 and 1 only"),
        (ENTROPY_MAP, {"reduction": "max"}, "one of mean, sum, per_boundary, got 'max'"),
        (ENTROPY_MAP, {"reduction": "per_boundary"}, "needs boundary_area_mm2, got None"),
        (
            ENTROPY_MAP,
            {"reduction": "per_boundary", "boundary_area_mm2": -1.0},
            "boundary_area_mm2 must be 0 or more, got -1.0",
        ),
    ],
)
def test_bad_maps_and_reductions_are_refused(entropy_map, options, message):
    with pytest.raises(ValueError, match=message):
        case_entropy(entropy_map, **options)


def test_every_listed_reduction_is_known():
    for reduction in REDUCTIONS:
        assert case_entropy(ENTROPY_MAP, reduction=reduction, boundary_area_mm2=1.0) > 0
