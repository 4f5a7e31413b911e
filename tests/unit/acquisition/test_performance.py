"""Performance of a group: mean, interval, shrunk mean."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import integrate, stats

from fair_strategy.acquisition.performance import (
    BETWEEN_GROUP_SCALE,
    FALLBACK_SD,
    group_performance,
)

CASES = st.lists(st.tuples(st.floats(0, 1), st.sampled_from("ABC")), min_size=1)


def performance(samples, **options):
    scores = [score for values in samples.values() for score in values]
    groups = [name for name, values in samples.items() for _ in values]
    return group_performance(scores, groups, known_groups=samples, **options)


def test_mean_and_interval_of_three_cases_worked_by_hand():
    b = performance({"A": [0.9, 0.8], "B": [0.4, 0.5, 0.6]})["B"]
    assert (b.subgroup, b.n, b.mean) == ("B", 3, pytest.approx(0.5))
    half = 4.302653 * 0.1 / np.sqrt(3)  # t of 2 degrees, SD 0.1
    assert b.interval == pytest.approx((0.5 - half, 0.5 + half), rel=1e-6)


def test_the_interval_agrees_with_scipys():
    sample = [0.2, 0.5, 0.9, 0.4]
    expected = stats.t.interval(0.8, 3, loc=np.mean(sample), scale=stats.sem(sample))
    assert performance({"A": sample}, level=0.8)["A"].interval == pytest.approx(expected)


def test_inverse_selection_probabilities_undo_a_biased_choice():
    # Of eight cases at 0.9 and eight at 0.5 (mean 0.7), two and eight were chosen.
    scores, weights = [0.9] * 2 + [0.5] * 8, [4.0] * 2 + [1.0] * 8
    found = group_performance(scores, ["A"] * 10, known_groups=["A"], weights=weights)["A"]
    assert found.mean == pytest.approx(0.7)
    assert found.n == 10
    plain = group_performance(scores, ["A"] * 10, known_groups=["A"])["A"]
    assert plain.mean == pytest.approx(0.58)


def test_the_weighted_standard_error_worked_by_hand():
    found = group_performance([1.0, 0.0], ["A", "A"], known_groups=[], weights=[3.0, 1.0])["A"]
    # Mean 0.75; sum (w (s - m))^2 = 0.75^2 + 0.75^2; times n / (n - 1) = 2: 2.25; root 1.5; / 4.
    assert found.mean == pytest.approx(0.75)
    assert (found.interval[1] - found.interval[0]) / 2 == pytest.approx(12.706205 * 0.375)


def test_equal_weights_change_nothing():
    scores, groups = [0.9, 0.7, 0.4, 0.5], ["A", "A", "B", "B"]
    plain = group_performance(scores, groups, known_groups=[])
    weighted = group_performance(scores, groups, known_groups=[], weights=[7.0] * 4)
    for name in plain:
        assert weighted[name].mean == pytest.approx(plain[name].mean)
        assert weighted[name].interval == pytest.approx(plain[name].interval)
        assert weighted[name].shrunk == pytest.approx(plain[name].shrunk)


def test_the_shrunk_mean_agrees_with_an_integral_over_the_prior():
    """Two groups of one case: the posterior mean, integrated by quadrature instead of a grid."""
    y, variance = np.array([0.9, 0.5]), FALLBACK_SD**2

    def likelihood(tau):
        # With mu flat: y1 - y2 ~ N(0, 2 (variance + tau^2)).
        prior = stats.halfcauchy.pdf(tau, scale=BETWEEN_GROUP_SCALE)
        return prior * stats.norm.pdf(y[0] - y[1], scale=np.sqrt(2 * (variance + tau**2)))

    def weighted_share(tau):
        return likelihood(tau) * variance / (variance + tau**2)

    pooling = (
        integrate.quad(weighted_share, 0, np.inf)[0] / integrate.quad(likelihood, 0, np.inf)[0]
    )
    expected = pooling * y.mean() + (1 - pooling) * y
    found = performance({"A": [0.9], "B": [0.5]})
    assert [found["A"].shrunk, found["B"].shrunk] == pytest.approx(expected, abs=1e-3)


def test_shrinking_fades_as_cases_come_in():
    rest = {"A": [0.88, 0.9, 0.92] * 10}
    few = performance({**rest, "B": [0.5, 0.7]})["B"]
    many = performance({**rest, "B": [0.5, 0.7] * 40})["B"]
    assert 0.6 < few.shrunk < 0.9
    assert 0.6 < many.shrunk < few.shrunk
    assert many.shrunk == pytest.approx(0.6, abs=0.005)


def test_groups_that_differ_within_noise_are_not_pooled_fully():
    found = performance({"A": [0.8, 0.6, 0.9, 0.7], "B": [0.7, 0.8, 0.85, 0.75]})
    assert found["A"].mean < found["A"].shrunk < found["B"].shrunk < found["B"].mean


@given(CASES)
@settings(deadline=None, max_examples=60)
def test_shrunk_means_stay_between_the_groups_and_keep_to_their_side_of_the_pool(cases):
    scores, groups = zip(*cases, strict=True)
    found = group_performance(scores, groups, known_groups=["A", "B", "C", "unknown"])
    assert list(found) == ["A", "B", "C", "unknown"]
    means = [p.mean for p in found.values() if p.n]
    assert all(min(means) - 1e-12 <= p.shrunk <= max(means) + 1e-12 for p in found.values())
    assert found["unknown"].shrunk <= min(means)
    assert sum(p.n for p in found.values()) == len(scores)


@given(CASES, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=20)
def test_the_order_of_the_cases_does_not_matter(cases, random):
    shuffled = list(cases)
    random.shuffle(shuffled)
    first, second = (
        group_performance(*zip(*c, strict=True), known_groups=[]) for c in (cases, shuffled)
    )
    assert {n: p.shrunk for n, p in first.items()} == pytest.approx(
        {n: p.shrunk for n, p in second.items()}
    )


def test_an_absent_group_is_nan_by_its_name_with_the_worst_observed_mean_as_its_bound():
    found = performance({"A": [0.9, 0.8], "B": [0.3, 0.5], "unknown": []})["unknown"]
    assert found.n == 0
    assert np.isnan([found.mean, *found.interval]).all()
    assert found.shrunk == pytest.approx(0.4)


def test_one_case_in_a_group_has_a_mean_and_no_interval():
    found = performance({"A": [0.9, 0.8], "B": [0.3]})["B"]
    assert (found.n, found.mean) == (1, 0.3)
    assert np.isnan(found.interval).all()
    assert 0.3 < found.shrunk < 0.85


def test_one_group_alone_is_not_shrunk():
    assert performance({"A": [0.9]})["A"].shrunk == pytest.approx(0.9)


def test_equal_scores_within_the_groups_are_no_certainty():
    found = performance({"A": [1.0, 1.0], "B": [0.5, 0.5]})
    assert 0.5 < found["B"].shrunk < found["A"].shrunk < 1.0


def test_without_any_case_all_groups_are_unknown():
    found = group_performance([], [], known_groups=["A", "B"])
    assert [p.n for p in found.values()] == [0, 0]
    assert np.isnan([p.shrunk for p in found.values()]).all()


def test_a_group_that_was_not_announced_is_reported_too():
    assert list(group_performance([0.5], ["Z"], known_groups=["A"])) == ["A", "Z"]


@pytest.mark.parametrize(
    ("scores", "groups", "options", "message"),
    [
        ([0.5, np.nan], ["A", "A"], {}, "1 of 2 scores are NaN"),
        ([0.5], ["A", "B"], {}, "must be as many"),
        ([0.5], ["A"], {"weights": [0.0]}, "weights must be 1 positive numbers"),
        ([0.5], ["A"], {"weights": [1.0, 1.0]}, "weights must be 1 positive numbers"),
        ([0.5], ["A"], {"weights": [np.nan]}, "weights must be 1 positive numbers"),
        ([0.5], ["A"], {"level": 0}, "level must lie between 0 and 1"),
    ],
)
def test_bad_arguments_are_refused(scores, groups, options, message):
    with pytest.raises(ValueError, match=message):
        group_performance(scores, groups, known_groups=[], **options)
