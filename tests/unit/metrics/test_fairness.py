"""Fairness measures: numbers by hand, invariants, fairlearn, and the edges."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from fair_strategy.metrics import fairness
from fair_strategy.metrics.fairness import (
    by_group,
    equity_of_means,
    equity_scaled,
    gap,
    gap_null,
    gap_of_means,
    root_mean,
    skewed_error_ratio,
    standard_deviation,
    worst_group,
)

MEASURES = [by_group, gap, worst_group, standard_deviation, skewed_error_ratio, equity_scaled]
SCORES = [0.9, 0.8, 0.6, 0.5, 0.4]  # A: mean 0.85; B: mean 0.5; overall 0.64
GROUPS = ["A", "A", "B", "B", "B"]

CASES = st.lists(
    st.tuples(st.floats(0, 1, allow_subnormal=False), st.sampled_from("ABC")), min_size=1
)


def split(cases):
    scores, groups = zip(*cases, strict=True)
    return list(scores), list(groups)


def test_the_measures_of_two_groups_worked_by_hand():
    assert gap(SCORES, GROUPS) == pytest.approx(0.85 - 0.5)
    assert worst_group(SCORES, GROUPS) == "B"
    assert standard_deviation(SCORES, GROUPS) == pytest.approx(0.175)  # (0.85 - 0.5) / 2
    assert standard_deviation(SCORES, GROUPS, ddof=1) == pytest.approx(0.35 / np.sqrt(2))
    assert skewed_error_ratio(SCORES, GROUPS) == pytest.approx(0.5 / 0.15)
    # |0.85 - 0.64| + |0.5 - 0.64| = 0.35; 0.64 / 1.35
    assert equity_scaled(SCORES, GROUPS) == pytest.approx(0.64 / 1.35)
    assert equity_scaled(SCORES, GROUPS, variant="std") == pytest.approx(0.64 / 1.175)


def test_the_summary_of_a_group_worked_by_hand():
    summary = by_group(SCORES, GROUPS)["B"]
    # Mean 0.5, SD 0.1 of three: 0.5 -+ 4.302653 * 0.1 / sqrt(3), t quantile of 2 degrees.
    assert (summary.mean, summary.n) == (pytest.approx(0.5), 3)
    half = 4.302653 * 0.1 / np.sqrt(3)
    assert summary.interval == pytest.approx((0.5 - half, 0.5 + half), rel=1e-6)


def test_the_interval_agrees_with_scipys_at_another_level():
    sample = np.array([0.2, 0.5, 0.9, 0.4])
    expected = stats.t.interval(0.8, 3, loc=sample.mean(), scale=stats.sem(sample))
    assert by_group(sample, ["A"] * 4, level=0.8)["A"].interval == pytest.approx(expected)


def test_an_overall_mean_is_over_cases_and_not_over_groups():
    scores, groups = [1.0, 1.0, 1.0, 0.0], ["A", "A", "A", "B"]
    # D = 0.75 over cases (0.5 over groups); |1 - .75| + |0 - .75| = 1.
    assert equity_scaled(scores, groups) == pytest.approx(0.75 / 2)


def test_without_higher_is_better_the_worst_group_has_the_highest_mean():
    errors_mm = [3.0, 5.0, 1.0]
    groups = ["A", "A", "B"]
    assert worst_group(errors_mm, groups, higher_is_better=False) == "A"
    assert gap(errors_mm, groups, higher_is_better=False) == pytest.approx(3.0)


def test_rmse_is_a_root_of_means_and_its_interval_comes_from_the_jackknife():
    squared_errors = np.array([1.0, 9.0, 4.0, 4.0])
    groups = ["A", "A", "B", "B"]
    options = {"aggregate": root_mean, "higher_is_better": False}
    # A: sqrt(5); B: sqrt(4). The means of the roots would be 2 and 2, and the gap 0.
    assert gap(squared_errors, groups, **options) == pytest.approx(np.sqrt(5) - 2)
    assert worst_group(squared_errors, groups, **options) == "A"
    summary = by_group(squared_errors, groups, aggregate=root_mean)
    # Left-out RMSEs of A are 3 and 1: standard error sqrt(1 * variance 1) = 1; t of 1 degree 12.7.
    low, high = summary["A"].interval
    assert (high - low) / 2 == pytest.approx(12.706205, rel=1e-6)
    assert summary["B"].interval == pytest.approx((2.0, 2.0))


def test_the_jackknife_of_the_mean_is_the_closed_form():
    rng = np.random.default_rng(0)
    scores, groups = rng.random(9), list("AAABBBBBB")
    for name, summary in by_group(scores, groups, aggregate=lambda s: float(np.mean(s))).items():
        assert summary.interval == pytest.approx(by_group(scores, groups)[name].interval)


@given(CASES)
@settings(deadline=None, max_examples=80)
def test_measures_stay_in_their_range_and_do_not_depend_on_the_order(cases):
    scores, groups = split(cases)
    for measure in (gap, standard_deviation, skewed_error_ratio, equity_scaled):
        value = measure(scores, groups)
        assert value >= 0
        assert measure(scores[::-1], groups[::-1]) == pytest.approx(value)
    assert skewed_error_ratio(scores, groups) >= 1
    assert equity_scaled(scores, groups) <= np.mean(scores) + 1e-12
    assert standard_deviation(scores, groups) <= gap(scores, groups) + 1e-12
    assert list(by_group(scores, groups)) == sorted(set(groups))
    assert sum(summary.n for summary in by_group(scores, groups).values()) == len(scores)


@given(CASES)
@settings(deadline=None, max_examples=80)
def test_errors_and_scores_tell_the_same_story(cases):
    scores, groups = split(cases)
    errors = 1 - np.array(scores)
    assert gap(errors, groups, higher_is_better=False) == pytest.approx(gap(scores, groups))
    for variant in fairness.EQUITY_VARIANTS:
        mirrored = equity_scaled(errors, groups, higher_is_better=False, variant=variant)
        assert 1 - mirrored == pytest.approx(equity_scaled(scores, groups, variant=variant))


def test_the_ratio_of_errors_is_the_same_from_errors_and_from_scores():
    errors = 1 - np.array(SCORES)
    ratio = skewed_error_ratio(errors, GROUPS, higher_is_better=False)
    assert ratio == pytest.approx(skewed_error_ratio(SCORES, GROUPS))


@given(CASES)
@settings(deadline=None, max_examples=30)
def test_group_means_and_gap_agree_with_fairlearn(cases):
    metrics = pytest.importorskip("fairlearn.metrics")
    scores, groups = split(cases)
    frame = metrics.MetricFrame(
        metrics=lambda y_true, y_pred: float(np.mean(y_pred)),
        y_true=np.zeros(len(scores)),
        y_pred=scores,
        sensitive_features=groups,
    )
    means = {name: summary.mean for name, summary in by_group(scores, groups).items()}
    assert means == pytest.approx(frame.by_group.to_dict())
    assert gap(scores, groups) == pytest.approx(frame.difference())


def test_equal_groups_are_fair_by_every_measure():
    scores, groups = [0.7, 0.7, 0.7], ["A", "B", "C"]
    assert gap(scores, groups) == 0
    assert standard_deviation(scores, groups) == pytest.approx(0)
    assert skewed_error_ratio(scores, groups) == 1
    assert equity_scaled(scores, groups) == pytest.approx(0.7)
    assert worst_group(scores, ["C", "B", "A"]) == "A"  # a tie goes to the first name


def test_one_group_has_no_gap():
    scores, groups = [0.2, 0.8], ["A", "A"]
    assert gap(scores, groups) == 0
    assert standard_deviation(scores, groups) == 0
    assert skewed_error_ratio(scores, groups) == 1
    assert equity_scaled(scores, groups) == pytest.approx(0.5)


def test_one_case_in_a_group_has_a_mean_and_no_interval():
    summary = by_group([0.4, 0.5, 0.6], ["A", "B", "B"])["A"]
    assert (summary.mean, summary.n) == (0.4, 1)
    assert np.isnan(summary.interval).all()


def test_an_absent_group_is_kept_by_its_name_and_changes_no_other():
    summaries = by_group(SCORES, GROUPS, known_groups=["C", "unknown", "A"])
    assert list(summaries) == ["A", "B", "C", "unknown"]
    assert summaries["C"].n == 0
    assert np.isnan([summaries["C"].mean, *summaries["C"].interval]).all()
    assert summaries["B"] == by_group(SCORES, GROUPS)["B"]


def test_a_perfect_group_beside_an_imperfect_one_has_an_infinite_error_ratio():
    assert skewed_error_ratio([1.0, 0.9], ["A", "B"]) == np.inf
    assert skewed_error_ratio([1.0, 1.0], ["A", "B"]) == 1
    assert skewed_error_ratio([0.0, 0.1], ["A", "B"], higher_is_better=False) == np.inf


def test_labels_of_other_types_and_float16_scores_are_taken():
    scores = np.array([0.5, 0.75], dtype=np.float16)
    assert gap(scores, np.array(["F", "M"])) == 0.25
    assert list(by_group(scores, [2, 10])) == ["10", "2"]


@pytest.mark.parametrize("measure", MEASURES)
def test_missing_scores_are_refused_with_their_number(measure):
    with pytest.raises(ValueError, match="2 of 3 scores are NaN"):
        measure([np.nan, 0.5, np.nan], ["A", "B", "B"])


@pytest.mark.parametrize("measure", MEASURES)
def test_empty_unequal_and_unlabelled_input_is_refused(measure):
    with pytest.raises(ValueError, match="scores are empty"):
        measure([], [])
    with pytest.raises(ValueError, match=r"shape \(2,\) and 1 labels"):
        measure([0.1, 0.2], ["A"])
    with pytest.raises(ValueError, match="label of case 1 is None"):
        measure([0.1, 0.2], ["A", None])
    with pytest.raises(ValueError, match="label of case 0 is nan"):
        measure([0.1, 0.2], [float("nan"), "A"])


@pytest.mark.parametrize("measure", [skewed_error_ratio, equity_scaled])
@pytest.mark.parametrize("score", [-0.1, 1.1, 87.0])
def test_scores_outside_zero_to_one_are_refused_where_the_formula_needs_them(measure, score):
    with pytest.raises(ValueError, match=r"scores in \[0, 1\]"):
        measure([0.5, score], ["A", "B"])


def test_unknown_variants_levels_and_divisors_are_refused():
    with pytest.raises(ValueError, match="variant must be one of fairseg, std, got 'x'"):
        equity_scaled(SCORES, GROUPS, variant="x")
    with pytest.raises(ValueError, match="level must lie between 0 and 1, got 95"):
        by_group(SCORES, GROUPS, level=95)
    with pytest.raises(ValueError, match="ddof 2 needs more than 2 groups"):
        standard_deviation(SCORES, GROUPS, ddof=2)
    with pytest.raises(ValueError, match="draws must be 1 or more"):
        gap_null(SCORES, GROUPS, rng=np.random.default_rng(0), draws=0)


def test_the_null_of_two_cases_a_group_takes_the_gaps_of_all_splits():
    scores = [0.0, 1.0, 2.0, 4.0]
    null = gap_null(scores, ["A", "A", "B", "B"], rng=np.random.default_rng(0), draws=3000)
    # Splits {01|24}, {02|14}, {04|12}: mean gaps 2.5, 1.5, 0.5, each with probability 1/3.
    gaps, counts = np.unique(null, return_counts=True)
    assert gaps.tolist() == [0.5, 1.5, 2.5]
    assert counts / 3000 == pytest.approx(1 / 3, abs=0.03)


def test_eight_groups_of_five_without_disparity_have_a_gap_of_about_eight_hundredths():
    rng = np.random.default_rng(1)
    scores = rng.normal(0.8, 0.06, 40)
    groups = np.repeat(list("ABCDEFGH"), 5)
    null = gap_null(scores, groups, rng=rng, draws=500)
    # Range of 8 normal means: 2.85 SD (Tippett) x 0.06 / sqrt(5) = 0.076.
    assert null.mean() == pytest.approx(0.076, abs=0.015)
    again = gap_null(scores, groups, rng=np.random.default_rng(2), draws=5)
    assert np.array_equal(again, gap_null(scores, groups, rng=np.random.default_rng(2), draws=5))


def test_scores_are_not_written_into():
    scores = np.array(SCORES)
    for measure in MEASURES:
        measure(scores, GROUPS)
    gap_null(scores, GROUPS, rng=np.random.default_rng(0), draws=3)
    assert scores.tolist() == SCORES


@pytest.mark.parametrize("variant", ["fairseg", "std"])
def test_many_sets_of_means_at_once_give_what_each_gives_alone(rng, variant) -> None:
    sets = rng.uniform(0.2, 0.9, (5, 3, 4))  # each group has one case, which is its mean
    gaps, equity = gap_of_means(sets), equity_of_means(sets, sets.mean(-1), variant=variant)
    assert gaps.shape == equity.shape == (5, 3)
    for i, j in np.ndindex(5, 3):
        assert gaps[i, j] == gap(sets[i, j], "abcd")
        alone = equity_scaled(sets[i, j], "abcd", variant=variant)
        assert equity[i, j] == pytest.approx(alone, rel=1e-12)
