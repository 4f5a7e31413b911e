"""EM and FG curves: by hand, against the plain measures, and the edges."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fair_strategy.metrics.classification import auroc, balanced_accuracy
from fair_strategy.metrics.fairness import by_group, gap, mean, root_mean
from fair_strategy.metrics.uncertainty import (
    coverage_metric_curve,
    filtered_metric_curve,
    filtered_volume_curve,
    qu_brats,
)

SCORES = [0.9, 0.7, 0.8, 0.6, 0.2, 0.4]
DOUBTS = [10, 50, 20, 30, 80, 90]
GROUPS = list("AAABBB")
CURVES = [filtered_metric_curve, coverage_metric_curve]

CASES = st.lists(
    st.tuples(st.integers(0, 10), st.integers(0, 100), st.sampled_from("ABC")), min_size=1
)


def test_the_curves_of_two_groups_worked_by_hand():
    curve = filtered_metric_curve(
        SCORES, DOUBTS, GROUPS, thresholds=(5, 30, 50, 80, 100), minimum=1
    )
    nan = np.nan
    # tau 30 keeps A .9 .8 and B .6; 50 all of A; 80 B .6 .2; 100 all.
    assert curve.by_group["A"] == pytest.approx([nan, 0.85, 0.8, 0.8, 0.8], nan_ok=True)
    assert curve.by_group["B"] == pytest.approx([nan, 0.6, 0.6, 0.4, 0.4], nan_ok=True)
    assert curve.gap == pytest.approx([nan, 0.25, 0.2, 0.4, 0.4], nan_ok=True)
    assert curve.overall == pytest.approx([nan, 2.3 / 3, 0.75, 0.64, 0.6], nan_ok=True)
    assert curve.retained["A"].tolist() == [0, 2, 3, 3, 3]
    assert curve.retained["B"].tolist() == [0, 1, 1, 2, 3]
    assert curve.retained_overall.tolist() == [0, 3, 4, 5, 6]
    assert curve.n == {"A": 3, "B": 3}
    assert curve.coverage("B") == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 1])
    assert curve.coverage() == pytest.approx([0, 3 / 6, 4 / 6, 5 / 6, 1])


def test_fewer_cases_than_the_minimum_give_nan_and_so_does_their_gap():
    curve = filtered_metric_curve(SCORES, DOUBTS, GROUPS, thresholds=(50, 80), minimum=2)
    assert curve.by_group["B"] == pytest.approx([np.nan, 0.4], nan_ok=True)
    assert curve.gap == pytest.approx([np.nan, 0.4], nan_ok=True)
    assert curve.overall == pytest.approx([0.75, 0.64])
    assert curve.retained["B"].tolist() == [1, 2]


def test_coverage_of_all_cases_has_one_threshold_for_both_groups():
    curve = coverage_metric_curve(SCORES, DOUBTS, GROUPS, coverages=(1 / 3, 2 / 3, 1), minimum=1)
    # Most certain 2: .9 .8; 4: .9 .8 .6 .7; all.
    assert curve.by_group["A"] == pytest.approx([0.85, 0.8, 0.8])
    assert curve.by_group["B"] == pytest.approx([np.nan, 0.6, 0.4], nan_ok=True)
    assert curve.retained["B"].tolist() == [0, 1, 3]
    assert curve.overall == pytest.approx([0.85, 0.75, 0.6])


def test_coverage_within_groups_keeps_the_same_share_of_each():
    curve = coverage_metric_curve(
        SCORES, DOUBTS, GROUPS, coverages=(1 / 3, 2 / 3, 1), within="group", minimum=1
    )
    assert curve.retained["A"].tolist() == curve.retained["B"].tolist() == [1, 2, 3]
    assert curve.by_group["A"] == pytest.approx([0.9, 0.85, 0.8])
    assert curve.by_group["B"] == pytest.approx([0.6, 0.4, 0.4])
    assert curve.overall == pytest.approx([0.75, 2.5 / 4, 0.6])


def test_cases_of_equal_uncertainty_stay_together_under_coverage():
    curve = coverage_metric_curve([1, 0, 1, 0], [5, 5, 5, 9], list("ABAB"), coverages=(0.25, 1))
    assert curve.retained_overall.tolist() == [3, 4]
    assert curve.coverage() == pytest.approx([0.75, 1])


def test_a_coverage_keeps_as_many_cases_as_it_says():
    # 0.07 * 100 is 7.000000000000001 in floating point.
    scores, groups = np.zeros(100), ["A", "B"] * 50
    curve = coverage_metric_curve(scores, np.arange(100), groups, coverages=(0.07, 0.145))
    assert curve.retained_overall.tolist() == [7, 15]


@given(CASES)
@settings(deadline=None, max_examples=25)
def test_with_all_cases_kept_the_curves_end_at_the_plain_measures(cases):
    scores, doubts, groups = (list(part) for part in zip(*cases, strict=True))
    plain = {name: summary.mean for name, summary in by_group(scores, groups).items()}
    ends = [
        filtered_metric_curve(scores, doubts, groups, thresholds=(0, 50, 100), minimum=1),
        coverage_metric_curve(scores, doubts, groups, minimum=1),
        coverage_metric_curve(scores, doubts, groups, minimum=1, within="group"),
    ]
    for curve in ends:
        assert {name: values[-1] for name, values in curve.by_group.items()} == plain
        assert curve.overall[-1] == np.mean(scores)
        assert curve.retained_overall[-1] == len(cases)
        if len(plain) > 1:
            assert curve.gap[-1] == gap(scores, groups)
        else:
            assert np.isnan(curve.gap).all()


@given(CASES)
@settings(deadline=None, max_examples=25)
def test_curves_are_bounded_and_do_not_depend_on_the_order_of_the_cases(cases):
    scores, doubts, groups = (list(part) for part in zip(*cases, strict=True))
    options = {"thresholds": (0, 20, 55, 100)}
    curve = filtered_metric_curve(scores, doubts, groups, **options)
    again = filtered_metric_curve(scores[::-1], doubts[::-1], groups[::-1], **options)
    for name, values in curve.by_group.items():
        assert again.by_group[name] == pytest.approx(values, nan_ok=True)
        known = values[~np.isnan(values)]
        assert ((known >= min(scores)) & (known <= max(scores))).all()
        assert (np.diff(curve.retained[name]) >= 0).all()
    assert again.gap == pytest.approx(curve.gap, nan_ok=True)
    assert not (curve.gap < 0).any()
    total = sum(curve.retained.values())
    assert total.tolist() == curve.retained_overall.tolist()


def test_every_level_agrees_with_the_metric_of_the_retained_cases():
    rng = np.random.default_rng(0)
    squared_errors, doubts = rng.random(60), rng.uniform(0, 100, 60)
    groups = rng.choice(list("AB"), 60)
    curve = filtered_metric_curve(squared_errors, doubts, groups, metric=root_mean)
    for level in (20, 57, 100):
        kept = doubts <= level
        expected = np.sqrt(squared_errors[kept & (groups == "A")].mean())
        assert curve.by_group["A"][level] == pytest.approx(expected)
        expected = gap(squared_errors[kept], groups[kept], aggregate=root_mean)
        assert curve.gap[level] == pytest.approx(expected)


def test_the_rmse_is_a_root_of_means():
    curve = filtered_metric_curve(
        [1.0, 9.0, 4.0, 4.0], [0] * 4, list("AABB"), metric=root_mean, thresholds=(100,)
    )
    assert curve.by_group["A"] == pytest.approx([np.sqrt(5)])  # not (1 + 3) / 2
    assert curve.overall == pytest.approx([np.sqrt(4.5)])


def test_a_metric_of_rows_gets_class_and_prediction_of_the_retained_cases():
    reference = np.array([0, 0, 1, 1, 0, 1])
    predicted = np.array([0, 1, 1, 1, 0, 0])
    rows = np.column_stack([reference, predicted])
    doubts = [0, 60, 0, 0, 10, 90]

    def metric(kept):
        return balanced_accuracy(kept[:, 0], kept[:, 1])

    curve = filtered_metric_curve(rows, doubts, list("AAABBB"), metric=metric, thresholds=(50, 100))
    # A: all right at 50; at 100 class 0 is half right. B: likewise with class 1.
    assert curve.by_group["A"] == pytest.approx([1, 0.75])
    assert curve.by_group["B"] == pytest.approx([1, 0.75])


def test_an_area_under_roc_is_nan_where_one_class_is_left():
    rows = np.column_stack([[0, 1, 0, 1], [0.2, 0.9, 0.6, 0.4]])
    doubts, groups = [0, 80, 0, 0], list("AABB")
    curve = filtered_metric_curve(
        rows,
        doubts,
        groups,
        metric=lambda kept: auroc(kept[:, 1], kept[:, 0]),
        thresholds=(50, 100),
        minimum=1,
    )
    assert curve.by_group["A"] == pytest.approx([np.nan, 1], nan_ok=True)
    assert curve.gap == pytest.approx([np.nan, 1], nan_ok=True)


@pytest.mark.parametrize("curve", CURVES)
def test_one_group_has_a_curve_and_no_gap(curve):
    result = curve([0.5, 0.7], [0, 100], ["A", "A"])
    assert result.by_group["A"][-1] == pytest.approx(0.6)
    assert np.isnan(result.gap).all()


@pytest.mark.parametrize("curve", CURVES)
def test_a_group_of_one_case_is_nan_with_its_count_and_leaves_the_gap_to_the_others(curve):
    result = curve([0.5, 0.7, 0.9, 0.9, 0.1], [0, 0, 0, 0, 0], list("AABBC"))
    assert np.isnan(result.by_group["C"]).all()
    assert result.n["C"] == 1
    assert result.retained["C"][-1] == 1
    assert result.gap[-1] == pytest.approx(0.3)


@pytest.mark.parametrize("curve", CURVES)
def test_an_absent_group_is_kept_by_its_name(curve):
    result = curve([0.5, 0.7, 0.9, 0.9], [0, 0, 0, 0], list("AABB"), known_groups=["C"])
    assert list(result.by_group) == ["A", "B", "C"]
    assert result.n["C"] == 0
    assert np.isnan(result.by_group["C"]).all()
    assert np.isnan(result.coverage("C")).all()
    assert result.gap[-1] == pytest.approx(0.3)


def test_the_curve_of_volumes_is_the_mean_of_the_cases_dice_at_each_threshold():
    first = qu_brats([1, 1, 0, 0], [1, 0, 0, 0], [0, 80, 0, 0], thresholds=(50, 100))
    second = qu_brats([1, 1, 0], [1, 1, 1], [0, 0, 60], thresholds=(50, 100))
    third = qu_brats([1, 0], [0, 0], [0, 90], thresholds=(50, 100))
    # Dice at 50 and 100: 1, 2/3; 1, 4/5; 0, 0.
    curve = filtered_volume_curve([first, second, third, third], list("AABB"))
    assert curve.by_group["A"] == pytest.approx([1, (2 / 3 + 4 / 5) / 2])
    assert curve.by_group["B"] == pytest.approx([0, 0])
    assert curve.gap == pytest.approx(curve.by_group["A"])
    assert curve.overall == pytest.approx([0.5, (2 / 3 + 4 / 5) / 4])
    assert curve.retained["A"].tolist() == [5, 7]
    assert curve.n == {"A": 7, "B": 4}
    assert curve.coverage("B") == pytest.approx([0.5, 1])


def test_volumes_of_too_small_a_group_are_nan_and_other_thresholds_are_refused():
    volume = qu_brats([1], [1], [0])
    curve = filtered_volume_curve([volume] * 5, list("AABBC"), known_groups=["D"])
    assert np.isnan(curve.by_group["C"]).all()
    assert np.isnan(curve.by_group["D"]).all()
    assert curve.n == {"A": 2, "B": 2, "C": 1, "D": 0}
    assert (curve.gap == 0).all()
    other = qu_brats([1], [1], [0], thresholds=(0, 100))
    with pytest.raises(ValueError, match="all volumes must have the same thresholds"):
        filtered_volume_curve([volume, other], ["A", "B"])
    with pytest.raises(ValueError, match="volumes are empty"):
        filtered_volume_curve([], [])
    with pytest.raises(ValueError, match="got 1 and 2 labels"):
        filtered_volume_curve([volume], ["A", "B"])


def test_bad_input_is_refused():
    for curve in CURVES:
        with pytest.raises(ValueError, match="uncertainties are empty"):
            curve([], [], [])
        with pytest.raises(ValueError, match="1 of 2 rows are NaN"):
            curve([np.nan, 1], [0, 1], ["A", "B"])
        with pytest.raises(ValueError, match="1 of 2 uncertainties are NaN"):
            curve([0, 1], [np.nan, 1], ["A", "B"])
        with pytest.raises(ValueError, match=r"got shape \(2,\) for 3 cases"):
            curve([0, 1], [0, 1, 2], ["A", "B", "B"])
        with pytest.raises(ValueError, match="got 2 and 1 labels"):
            curve([0, 1], [0, 1], ["A"])
        with pytest.raises(ValueError, match="label of case 1 is nan"):
            curve([0, 1], [0, 1], ["A", float("nan")])
        with pytest.raises(ValueError, match="minimum must be a whole number from 1 upwards"):
            curve([0, 1], [0, 1], ["A", "B"], minimum=0)
    with pytest.raises(ValueError, match=r"\[0, 100\], got 0 to 101; rescale_uncertainty"):
        filtered_metric_curve([0, 1], [0, 101], ["A", "B"])
    with pytest.raises(ValueError, match="thresholds must be 1 or more different"):
        filtered_metric_curve([0, 1], [0, 1], ["A", "B"], thresholds=(3, 3))
    with pytest.raises(ValueError, match="coverages must be above 0"):
        coverage_metric_curve([0, 1], [0, 1], ["A", "B"], coverages=(0, 1))
    with pytest.raises(ValueError, match=r"coverages must lie in \[0, 1\]"):
        coverage_metric_curve([0, 1], [0, 1], ["A", "B"], coverages=(50, 100))
    with pytest.raises(ValueError, match="within must be one of all, group, got 'x'"):
        coverage_metric_curve([0, 1], [0, 1], ["A", "B"], within="x")


def test_the_default_metric_is_the_mean():
    default = filtered_metric_curve(SCORES, DOUBTS, GROUPS)
    named = filtered_metric_curve(SCORES, DOUBTS, GROUPS, metric=mean)
    assert default.gap == pytest.approx(named.gap, nan_ok=True)
    assert default.levels.tolist() == list(range(101))
