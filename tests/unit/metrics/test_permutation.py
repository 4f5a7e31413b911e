"""Permutation nulls: all dealings by hand, sampling, and the edges."""

import numpy as np
import pytest

from fair_strategy.metrics.fairness import gap, root_mean
from fair_strategy.metrics.permutation import mean_gap, permutation_null


def test_a_small_null_holds_every_dealing_and_its_p_worked_by_hand():
    null = permutation_null([0, 1, 2, 4], list("AABB"), rng=np.random.default_rng(0))
    # Splits {01|24}, {02|14}, {04|12}, each twice (A and B swapped): gaps 2.5, 1.5, 0.5.
    assert null.exact
    assert sorted(null.null) == [0.5, 0.5, 1.5, 1.5, 2.5, 2.5]
    assert null.observed == 2.5
    assert null.p == pytest.approx(2 / 6)
    assert permutation_null([0, 2, 1, 4], list("AABB"), rng=np.random.default_rng(0)).p == (
        pytest.approx(4 / 6)
    )


def test_three_groups_are_dealt_out_in_all_different_ways():
    null = permutation_null([0, 1, 2, 3], list("ABBC"), rng=np.random.default_rng(0))
    assert null.null.size == 12  # 4! / (1! 2! 1!)
    # A and C hold {0, 3} in 2 dealings (gap 3) ... the largest; observed is one of these.
    assert null.observed == 3
    assert null.p == pytest.approx((null.null == 3).mean())


def test_a_sampled_null_counts_the_observed_gap_in():
    rows, groups = np.arange(20.0), ["A"] * 10 + ["B"] * 10
    null = permutation_null(rows, groups, rng=np.random.default_rng(1), draws=99)
    assert not null.exact
    assert null.null.size == 99
    assert null.p == 0.01  # (1 + 0) / (1 + 99): the two halves are as far apart as can be
    again = permutation_null(rows, groups, rng=np.random.default_rng(1), draws=99)
    assert np.array_equal(null.null, again.null)


def test_sampling_approaches_the_exact_p():
    rows, groups = [3.0, 1.0, 2.0, 5.0, 4.0, 2.5], list("AABBBB")
    exact = permutation_null(rows, groups, rng=np.random.default_rng(0))
    sampled = permutation_null(
        rows, groups, rng=np.random.default_rng(0), draws=2000, exact_limit=0
    )
    assert exact.exact
    assert not sampled.exact
    assert sampled.p == pytest.approx(exact.p, abs=0.05)


def test_p_keeps_its_level_where_there_is_no_disparity():
    rng = np.random.default_rng(3)
    groups = ["A"] * 6 + ["B"] * 6
    p = [
        permutation_null(rng.random(12), groups, rng=rng, draws=19, exact_limit=0).p
        for _ in range(300)
    ]
    # P(p <= k / 20) is k / 20 for 19 draws: 0.1 +- 3.5 standard errors of 300.
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.06)


def test_the_default_statistic_is_the_gap_of_the_fairness_module():
    rng = np.random.default_rng(0)
    rows, labels = rng.random(9), np.array(list("AAABBBCCC"))
    assert mean_gap(rows, labels) == pytest.approx(gap(rows, labels.tolist()))


def test_rows_of_several_columns_stay_together():
    rows = np.array([[1.0, 10], [2, 20], [3, 90], [4, 40]])

    def rmse_gap_of_the_certain(table, labels):
        assert sorted(map(tuple, table)) == sorted(map(tuple, rows))
        kept = table[:, 1] <= 50
        return gap(table[kept, 0] ** 2, labels[kept].tolist(), aggregate=root_mean)

    null = permutation_null(
        rows, list("AABB"), rng=np.random.default_rng(0), statistic=rmse_gap_of_the_certain
    )
    assert null.observed == pytest.approx(4 - np.sqrt(2.5))


def test_dealings_without_a_value_are_left_out_and_counted():
    def defined_where_a_holds_the_first(rows, labels):
        return float(rows[labels == "A"].mean()) if labels[0] == "A" else float("nan")

    rng = np.random.default_rng(0)
    options = {"rng": rng, "statistic": defined_where_a_holds_the_first}
    null = permutation_null([0.0, 1.0, 2.0], list("ABB"), **options)
    assert (null.null.tolist(), null.undefined, null.p) == ([0.0], 2, 1.0)
    assert np.isnan(permutation_null([0.0, 1.0, 2.0], list("BAB"), **options).p)


def test_ties_are_found_at_any_scale():
    for scale in (1e-15, 1.0, 1e15):
        rows = scale * np.array([0.1, 0.2, 0.3, 0.4])
        null = permutation_null(rows, list("ABAB"), rng=np.random.default_rng(0))
        # Gaps 0.2, 0.1, 0: the observed one (0.1) and all above are four of six dealings.
        assert null.p == pytest.approx(4 / 6)


def test_bad_input_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"two groups or more, got \['A'\] alone"):
        permutation_null([1, 2], ["A", "A"], rng=rng)
    with pytest.raises(ValueError, match="rows are empty"):
        permutation_null([], [], rng=rng)
    with pytest.raises(ValueError, match="1 of 2 rows are NaN"):
        permutation_null([1, np.nan], ["A", "B"], rng=rng)
    with pytest.raises(ValueError, match="got 2 and 1 labels"):
        permutation_null([1, 2], ["A"], rng=rng)
    with pytest.raises(ValueError, match="label of case 0 is None"):
        permutation_null([1, 2], [None, "A"], rng=rng)
    with pytest.raises(ValueError, match="draws must be 1 or more, got 0"):
        permutation_null([1, 2], ["A", "B"], rng=rng, draws=0)
