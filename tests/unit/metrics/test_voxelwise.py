"""QU-BraTS: volumes worked by hand, a literal loop, and the edges."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import trapezoid

from fair_strategy.metrics.overlap import dice
from fair_strategy.metrics.uncertainty import THRESHOLDS, qu_brats, rescale_uncertainty

MASKS = arrays(np.bool_, (2, 3, 2))
PERCENTS = arrays(np.float32, (2, 3, 2), elements=st.integers(0, 400).map(lambda q: q / 4))


def literal(prediction, reference, uncertainty, thresholds, mask=None):
    """The definition, threshold by threshold and without a histogram."""
    p, r, u = (np.asarray(a).ravel() for a in (prediction, reference, uncertainty))
    inside = np.ones(p.size, bool) if mask is None else np.asarray(mask).ravel()
    curves = {"dice": [], "ftp": [], "ftn": []}
    for tau in thresholds:
        tp = fp = fn = kept_tp = kept_tn = all_tp = all_tn = 0
        for voxel in range(p.size):
            kept = not u[voxel] > tau
            tp += kept and p[voxel] and r[voxel]
            fp += kept and p[voxel] and not r[voxel]
            fn += kept and not p[voxel] and r[voxel]
            all_tp += inside[voxel] and p[voxel] and r[voxel]
            all_tn += inside[voxel] and not p[voxel] and not r[voxel]
            kept_tp += kept and inside[voxel] and p[voxel] and r[voxel]
            kept_tn += kept and inside[voxel] and not p[voxel] and not r[voxel]
        curves["dice"].append(2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0)
        curves["ftp"].append((all_tp - kept_tp) / all_tp if all_tp else 0.0)
        curves["ftn"].append((all_tn - kept_tn) / all_tn if all_tn else 0.0)
    return curves


def test_a_volume_of_six_voxels_worked_by_hand():
    prediction = np.array([1, 1, 1, 0, 0, 0]).reshape(1, 2, 3)
    reference = np.array([1, 1, 0, 1, 0, 0]).reshape(1, 2, 3)
    uncertainty = np.array([0, 60, 80, 40, 10, 50]).reshape(1, 2, 3)
    # Kinds: TP 0 and 60, FP 80, FN 40, TN 10 and 50.
    result = qu_brats(prediction, reference, uncertainty, thresholds=(0, 50, 100))
    # tau 0: TP 1 only. tau 50: TP 1, FN 1, both TN. tau 100: TP 2, FP 1, FN 1.
    assert result.dice == pytest.approx([1, 2 / 3, 2 / 3])
    assert result.ftp == pytest.approx([1 / 2, 1 / 2, 0])
    assert result.ftn == pytest.approx([1, 0, 0])
    assert result.retained.tolist() == [1, 4, 6]
    assert result.area_dice == pytest.approx((5 / 6 + 2 / 3) / 2)
    assert result.area_ftp == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert result.area_ftn == pytest.approx((1 / 2 + 0) / 2)
    assert result.score == pytest.approx((3 / 4 + 5 / 8 + 3 / 4) / 3)


def test_a_voxel_at_the_threshold_is_retained():
    result = qu_brats([1, 0], [1, 0], [30, 30.0001], thresholds=(29, 30, 31))
    assert result.retained.tolist() == [0, 1, 2]


def test_uncertainty_at_the_errors_alone_reaches_the_ideal_but_for_the_last_step():
    prediction, reference = np.array([1, 1, 0, 0]), np.array([1, 0, 1, 0])
    ideal = qu_brats(prediction, reference, [0, 100, 100, 0])
    # Errors are kept at tau = 100 alone, where Dice is 1/2: half of the last step of 100.
    assert ideal.area_dice == pytest.approx(1 - 0.5 * 0.5 / 100)
    assert (ideal.area_ftp, ideal.area_ftn) == (0, 0)
    worst = qu_brats(prediction, reference, [100, 0, 0, 100])
    assert worst.score < 0.01 < 0.99 < ideal.score


@pytest.mark.parametrize(
    ("prediction", "reference", "expected_dice", "ftp", "ftn"),
    [
        # Uncertainties 20, 60. Nothing anywhere: Dice 1; no true positive to lose; TN leave.
        ([0, 0], [0, 0], [1, 1, 1], [0, 0, 0], [1, 0.5, 0]),
        # Empty prediction, a structure that was missed: its voxel is dropped below 20.
        ([0, 0], [1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0]),
        # A structure where there is none.
        ([1, 0], [0, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0]),
        # All is the structure: no true negative to lose.
        ([1, 1], [1, 1], [1, 1, 1], [1, 0.5, 0], [0, 0, 0]),
        # No true negative, and one true positive.
        ([1, 1], [1, 0], [1, 1, 2 / 3], [1, 0, 0], [0, 0, 0]),
    ],
)
def test_empty_masks_and_masks_of_everything_worked_by_hand(
    prediction, reference, expected_dice, ftp, ftn
):
    result = qu_brats(prediction, reference, [20, 60], thresholds=(0, 50, 100))
    assert result.dice == pytest.approx(expected_dice)
    assert result.ftp == pytest.approx(ftp)
    assert result.ftn == pytest.approx(ftn)


def test_the_mask_limits_true_positives_and_negatives_and_not_dice():
    prediction, reference = [1, 0, 0, 1], [1, 0, 0, 0]
    uncertainty, brain = [0, 50, 0, 0], [1, 1, 0, 0]
    result = qu_brats(prediction, reference, uncertainty, mask=brain, thresholds=(0, 100))
    assert result.ftn == pytest.approx([1, 0])  # 1 of 1 in the brain; 1 of 2 in all
    assert result.dice == pytest.approx([2 / 3, 2 / 3])  # the false positive outside counts
    assert result.retained.tolist() == [1, 2]
    assert result.voxels == 2


@given(MASKS, MASKS, PERCENTS, MASKS)
@settings(deadline=None, max_examples=25)
def test_one_histogram_gives_what_a_literal_loop_gives(prediction, reference, uncertainty, mask):
    mask[0, 0, 0] = True
    thresholds = (0, 12.5, 25, 60, 100)
    expected = literal(prediction, reference, uncertainty, thresholds, mask)
    result = qu_brats(prediction, reference, uncertainty, mask=mask, thresholds=thresholds)
    for name in ("dice", "ftp", "ftn"):
        assert getattr(result, name) == pytest.approx(expected[name])
        area = trapezoid(expected[name], thresholds) / 100
        assert getattr(result, f"area_{name}") == pytest.approx(area)


@given(MASKS, MASKS, PERCENTS)
@settings(deadline=None, max_examples=25)
def test_the_score_is_bounded_and_does_not_depend_on_the_order_of_the_voxels(p, r, u):
    result = qu_brats(p, r, u)
    for value in (result.score, result.area_dice, result.area_ftp, result.area_ftn):
        assert -1e-12 <= value <= 1 + 1e-12
    assert result.dice[-1] == dice(p, r)  # at tau = 100 the plain metric
    assert (result.ftp[-1], result.ftn[-1], result.retained[-1]) == (0, 0, p.size)
    assert (np.diff(result.ftp) <= 0).all()
    order = np.random.default_rng(0).permutation(p.size)
    again = qu_brats(p.ravel()[order], r.ravel()[order], u.ravel()[order])
    assert again.score == result.score


def test_a_volume_of_more_than_one_portion_is_counted_whole():
    rng = np.random.default_rng(0)
    prediction, reference = rng.random((2, 103, 104, 105)) < 0.3
    uncertainty = rng.integers(0, 101, prediction.shape).astype(np.uint8)
    result = qu_brats(prediction, reference, uncertainty)
    assert result.retained.tolist() == [(uncertainty <= tau).sum() for tau in range(101)]
    kept = uncertainty <= 37
    assert result.dice[37] == pytest.approx(dice(prediction & kept, reference & kept))
    assert result.thresholds.tolist() == list(THRESHOLDS)


def test_thresholds_come_in_any_order_and_the_layout_in_memory_does_not_matter():
    rng = np.random.default_rng(0)
    p, r = rng.random((2, 3, 4, 5)) < 0.5
    u = rng.uniform(0, 100, (3, 4, 5))
    falling = qu_brats(p, np.asfortranarray(r), np.asfortranarray(u), thresholds=range(100, -1, -1))
    assert falling.score == qu_brats(p, r, u).score
    # The span of the thresholds normalises the area.
    half = qu_brats(p, r, np.zeros(p.shape), thresholds=(0, 50))
    assert half.area_dice == pytest.approx(dice(p, r))


def test_rescaled_uncertainty_runs_from_0_to_100_over_the_data_set():
    values = np.array([[0.0, 0.25], [0.5, 1.0]], dtype=np.float32)
    assert rescale_uncertainty(values, low=0, high=1).tolist() == [[0, 25], [50, 100]]
    assert rescale_uncertainty([2.0], low=1, high=5).tolist() == [25]
    third = rescale_uncertainty([0.1, 0.3], low=0.1, high=0.3)
    assert third.tolist() == [0, 100]
    # Entropy of a float32 softmax may exceed ln 2 by its rounding.
    assert rescale_uncertainty(np.float32(np.log(2)), low=0, high=np.log(2)) == 100


def test_values_outside_the_limits_of_the_data_set_are_refused():
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got 0.5 to 1.5; low and high"):
        rescale_uncertainty([0.5, 1.5], low=0, high=1)
    with pytest.raises(ValueError, match="1 of 2 uncertainties are NaN"):
        rescale_uncertainty([0.5, np.nan], low=0, high=1)
    for low, high in ((1, 1), (2, 1), (0, np.nan), (0, np.inf)):
        with pytest.raises(ValueError, match="low must be below high"):
            rescale_uncertainty([1.0], low=low, high=high)


def test_bad_volumes_are_refused():
    p, u = np.array([1, 0]), np.array([0.0, 50.0])
    with pytest.raises(ValueError, match=r"prediction and reference .* got \(2,\) and \(3,\)"):
        qu_brats(p, [1, 0, 0], u)
    with pytest.raises(ValueError, match=r"uncertainty and prediction .* got \(3,\) and \(2,\)"):
        qu_brats(p, p, [0, 1, 2])
    with pytest.raises(ValueError, match=r"mask and prediction .* got \(1,\) and \(2,\)"):
        qu_brats(p, p, u, mask=[1])
    with pytest.raises(ValueError, match="mask holds no voxel"):
        qu_brats(p, p, u, mask=[0, 0])
    with pytest.raises(ValueError, match="prediction must be boolean or hold 0 and 1 only"):
        qu_brats([2, 0], p, u)
    with pytest.raises(ValueError, match=r"\[0, 100\], got 0 to 130; rescale_uncertainty"):
        qu_brats(p, p, [0, 130])
    with pytest.raises(ValueError, match="1 of 2 uncertainties are NaN"):
        qu_brats(p, p, [np.nan, 1])
    with pytest.raises(ValueError, match="uncertainties are empty"):
        qu_brats([], [], [])


@pytest.mark.parametrize("thresholds", [(50,), (50, 50)])
def test_fewer_than_two_different_thresholds_are_refused(thresholds):
    with pytest.raises(ValueError, match="thresholds must be 2 or more different numbers"):
        qu_brats([1], [1], [0], thresholds=thresholds)
    with pytest.raises(ValueError, match=r"thresholds must lie in \[0, 100\]"):
        qu_brats([1], [1], [0], thresholds=(0, 101))


def test_nothing_is_written_into_the_arguments():
    p, u = np.array([True, False]), np.array([10.0, 20.0])
    qu_brats(p, p, u)
    rescale_uncertainty(u, low=10, high=20)
    assert (p.tolist(), u.tolist()) == ([True, False], [10, 20])
