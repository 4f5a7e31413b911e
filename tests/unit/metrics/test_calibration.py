"""Calibration: numbers by hand, scikit-learn, parts that add up to the whole, and the edges."""

from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fair_strategy.metrics.calibration import (
    CalibrationCounts,
    average_calibration_error,
    calibration_counts,
    expected_calibration_error,
    reliability,
    uncertainty_calibration_error,
    variance_counts,
)

CONFIDENCE = [0.1, 0.3, 0.6, 0.8, 0.9]
CORRECT = [0, 1, 1, 0, 1]
MEASURES = [expected_calibration_error, average_calibration_error, reliability, calibration_counts]

CASES = st.lists(st.tuples(st.floats(0, 1, allow_subnormal=False), st.booleans()), min_size=1)


def split(cases):
    first, second = zip(*cases, strict=True)
    return np.array(first), np.array(second)


def test_both_errors_of_two_bins_worked_by_hand():
    # (0, 0.5]: 0.1 and 0.3, one right: |0.5 - 0.2| = 0.3.
    # (0.5, 1]: 0.6, 0.8, 0.9, two right: |2/3 - 2.3/3| = 0.1.
    expected = (2 * 0.3 + 3 * 0.1) / 5
    assert expected_calibration_error(CONFIDENCE, CORRECT, bins=2) == pytest.approx(expected)
    assert average_calibration_error(CONFIDENCE, CORRECT, bins=2) == pytest.approx(0.2)


def test_the_average_error_leaves_empty_bins_out():
    # Ten bins, of which (0.5, 0.6] and (0.9, 1] are used: errors 0.4 and 0.05.
    confidence, correct = [0.6, 0.95, 0.95], [1, 1, 1]
    assert average_calibration_error(confidence, correct) == pytest.approx((0.4 + 0.05) / 2)
    assert expected_calibration_error(confidence, correct) == pytest.approx((0.4 + 0.1) / 3)


def test_a_bin_holds_its_upper_edge_and_the_first_its_lower_edge_too():
    edges = [0.0, 0.1, 0.3, 0.7, 1.0, np.nextafter(0.1, 1)]
    diagram = reliability(edges, [1] * 6)
    assert diagram.counts.tolist() == [2, 1, 1, 0, 0, 0, 1, 0, 0, 1]
    assert diagram.edges == pytest.approx(np.arange(11) / 10)


def test_a_reliability_diagram_worked_by_hand_has_nan_in_empty_bins():
    diagram = reliability(CONFIDENCE, CORRECT, bins=4)
    # (0, .25]: .1; (.25, .5]: .3; (.5, .75]: .6; (.75, 1]: .8 and .9
    assert diagram.counts.tolist() == [1, 1, 1, 2]
    assert diagram.confidence == pytest.approx([0.1, 0.3, 0.6, 0.85])
    assert diagram.accuracy == pytest.approx([0, 1, 1, 0.5])
    sparse = reliability([0.9], [1], bins=2)
    assert np.isnan([sparse.confidence[0], sparse.accuracy[0]]).all()
    assert (sparse.confidence[1], sparse.accuracy[1]) == (0.9, 1.0)


@given(CASES, st.integers(1, 12))
@settings(deadline=None, max_examples=25)
def test_the_diagram_agrees_with_scikit_learns_calibration_curve(cases, bins):
    module = pytest.importorskip("sklearn.calibration")
    confidence, correct = split(cases)
    diagram = reliability(confidence, correct, bins=bins)
    used = diagram.counts > 0
    if correct.all() or not correct.any():  # scikit-learn wants both
        confidence, correct = np.append(confidence, [0.5, 0.5]), np.append(correct, [True, False])
        diagram = reliability(confidence, correct, bins=bins)
        used = diagram.counts > 0
    accuracy, mean = module.calibration_curve(correct, confidence, n_bins=bins)
    assert diagram.accuracy[used] == pytest.approx(accuracy)
    assert diagram.confidence[used] == pytest.approx(mean)


@given(CASES, st.integers(1, 12), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=25)
def test_errors_are_bounded_and_do_not_depend_on_the_order(cases, bins, random):
    confidence, correct = split(cases)
    shuffled = list(cases)
    random.shuffle(shuffled)
    again, right = split(shuffled)
    for measure in (expected_calibration_error, average_calibration_error):
        value = measure(confidence, correct, bins=bins)
        assert 0 <= value <= 1
        assert measure(again, right, bins=bins) == pytest.approx(value)
    # One bin is |accuracy - mean confidence|, and more bins cannot cancel better.
    one = abs(correct.mean() - confidence.mean())
    assert expected_calibration_error(confidence, correct, bins=1) == pytest.approx(one)
    assert expected_calibration_error(confidence, correct, bins=bins) >= one - 1e-9


@given(CASES, st.integers(1, 5), st.integers(1, 12))
@settings(deadline=None, max_examples=25)
def test_the_counts_of_parts_add_up_to_those_of_the_whole(cases, size, bins):
    confidence, correct = split(cases)
    parts = [slice(start, start + size) for start in range(0, len(cases), size)]
    counts = [calibration_counts(confidence[own], correct[own], bins=bins) for own in parts]
    total = reduce(add, counts, CalibrationCounts.empty(bins=bins))
    assert total.n == len(cases)
    expected = expected_calibration_error(confidence, correct, bins=bins)
    assert total.expected_error() == pytest.approx(expected)
    average = average_calibration_error(confidence, correct, bins=bins)
    assert total.average_error() == pytest.approx(average)
    whole = reliability(confidence, correct, bins=bins)
    assert total.reliability().counts.tolist() == whole.counts.tolist()
    assert total.reliability().accuracy == pytest.approx(whole.accuracy, nan_ok=True)


def test_a_sharp_and_right_model_is_calibrated_and_a_sharp_and_wrong_one_is_not():
    assert expected_calibration_error([0.0, 1.0], [0, 1]) == 0
    assert expected_calibration_error([0.0, 1.0], [1, 0]) == 1


def test_volumes_and_small_float_types_are_taken_and_not_written_into():
    confidence = np.array([[[0.25, 0.75]], [[1.0, 0.5]]], dtype=np.float16)
    correct = np.array([[[False, True]], [[True, True]]])
    value = expected_calibration_error(confidence, correct)
    assert value == pytest.approx((0.25 + 0.25 + 0 + 0.5) / 4)
    assert confidence.ravel().tolist() == [0.25, 0.75, 1.0, 0.5]


def test_a_softmax_that_rounds_to_just_above_one_is_taken_as_one():
    just_above = np.array([1.0000001], dtype=np.float32)
    assert just_above[0] > 1
    assert reliability(just_above, [1]).confidence[-1] == 1.0


def test_the_uncertainty_error_worked_by_hand():
    variance = [0.0, 1.0, 3.0, 4.0]
    squared_error = [1.0, 2.0, 3.0, 8.0]
    # Two bins over [0, 4]: MSE 1.5 and MV 0.5; MSE 5.5 and MV 3.5.
    value = uncertainty_calibration_error(squared_error, variance, bins=2)
    assert value == pytest.approx(0.5 * 1.0 + 0.5 * 2.0)
    # One bin over wider limits: |3.5 - 2|.
    value = uncertainty_calibration_error(squared_error, variance, bins=1, limits=(0, 10))
    assert value == pytest.approx(1.5)


def test_equal_variances_fall_into_one_bin():
    assert uncertainty_calibration_error([1.0, 3.0], [0.5, 0.5]) == pytest.approx(1.5)
    assert uncertainty_calibration_error([1.0, 3.0], [0.0, 0.0]) == pytest.approx(2.0)
    assert uncertainty_calibration_error([1.0], [1e20]) == pytest.approx(1e20)


def test_a_variance_that_is_right_on_average_has_a_small_error():
    rng = np.random.default_rng(0)
    variance = rng.uniform(0.5, 2.0, 20000)
    squared_error = (rng.standard_normal(20000) * np.sqrt(variance)) ** 2
    assert uncertainty_calibration_error(squared_error, variance) < 0.06
    # Half the true variance: the error is the missing half, 0.625 on average.
    half = uncertainty_calibration_error(squared_error, variance / 2)
    assert half == pytest.approx(1.25 / 2, abs=0.03)


def test_the_uncertainty_error_agrees_with_a_loop_over_the_bins():
    rng = np.random.default_rng(1)
    variance, squared_error = rng.random(200), rng.random(200)
    edges = np.linspace(variance.min(), variance.max(), 6)
    expected = 0.0
    for number, (low, high) in enumerate(pairwise(edges)):
        inside = (variance > low) & (variance <= high)
        inside |= (variance == low) & (number == 0)
        expected += inside.mean() * abs(squared_error[inside].mean() - variance[inside].mean())
    value = uncertainty_calibration_error(squared_error, variance, bins=5)
    assert value == pytest.approx(expected)


def test_variance_counts_of_parts_add_up_to_the_whole():
    variance, squared_error = np.array([0.1, 0.4, 0.9]), np.array([0.2, 0.2, 1.0])
    limits = (0.1, 0.9)
    parts = [variance_counts(squared_error[i], variance[i], limits=limits) for i in range(3)]
    whole = uncertainty_calibration_error(squared_error, variance)
    assert reduce(add, parts).expected_error() == pytest.approx(whole)


def test_counts_of_nothing_have_no_error():
    nothing = CalibrationCounts.empty(bins=3)
    assert nothing.n == 0
    assert np.isnan([nothing.expected_error(), nothing.average_error()]).all()
    assert np.isnan(nothing.reliability().accuracy).all()


def test_counts_of_other_bins_do_not_add_up():
    with pytest.raises(ValueError, match=r"only counts of the same bins add up, got 2 .* and 3"):
        CalibrationCounts.empty(bins=2) + CalibrationCounts.empty(bins=3)
    with pytest.raises(ValueError, match="only counts of the same bins"):
        CalibrationCounts.empty() + CalibrationCounts.empty(limits=(0, 2))


@pytest.mark.parametrize("measure", MEASURES)
def test_what_is_no_confidence_is_refused(measure):
    with pytest.raises(ValueError, match="confidences are empty"):
        measure([], [])
    with pytest.raises(ValueError, match="1 of 2 confidences are NaN and 0 are infinite"):
        measure([np.nan, 0.5], [0, 1])
    with pytest.raises(ValueError, match=r"confidences must lie in \[0, 1\], got 0.5 to 2.*logits"):
        measure([0.5, 2.0], [0, 1])
    with pytest.raises(ValueError, match=r"confidence and correct .* shape, got \(2,\) and \(3,\)"):
        measure([0.5, 0.6], [0, 1, 1])
    with pytest.raises(ValueError, match="correct must be boolean or hold 0 and 1 only"):
        measure([0.5, 0.6], [0, 2])
    with pytest.raises(ValueError, match="confidences must be numbers, got dtype <U3"):
        measure(["0.5"], [1])


@pytest.mark.parametrize("bins", [0, -1, 2.5, True, "10"])
def test_a_number_of_bins_that_is_not_a_number_of_bins_is_refused(bins):
    with pytest.raises(ValueError, match="bins must be a whole number from 1 upwards"):
        expected_calibration_error([0.5], [1], bins=bins)


def test_what_is_no_variance_or_squared_error_is_refused():
    with pytest.raises(ValueError, match="variances must be 0 or more, got -1"):
        uncertainty_calibration_error([1.0, 1.0], [0.5, -1.0])
    with pytest.raises(ValueError, match="squared errors must be 0 or more, got -2"):
        uncertainty_calibration_error([1.0, -2.0], [0.5, 1.0])
    with pytest.raises(ValueError, match=r"variances must lie in \[0, 1\], got 0.5 to 3"):
        uncertainty_calibration_error([1.0, 1.0], [0.5, 3.0], limits=(0, 1))
    with pytest.raises(ValueError, match="limits must be two finite numbers, the lower first"):
        uncertainty_calibration_error([1.0], [0.5], limits=(1, 0))
    with pytest.raises(ValueError, match="limits of a variance must be 0 or more"):
        variance_counts([1.0], [0.5], limits=(-1, 1))
    with pytest.raises(ValueError, match="squared_error and variance must have one shape"):
        uncertainty_calibration_error([1.0], [0.5, 0.6])
    with pytest.raises(ValueError, match="1 of 1 variances are NaN"):
        uncertainty_calibration_error([1.0], [np.nan])
