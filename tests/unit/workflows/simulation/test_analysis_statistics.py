"""Tests, areas, correlations and resampling of a simulation, against independent computations."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from fair_strategy.workflows.simulation.analysis_statistics import (
    area_under_budget,
    expanded_percentiles,
    partial_spearman,
    resampled_group_means,
    resampled_seeds,
    sign_flip_p,
    spearman,
)


def test_the_sign_flip_p_of_eight_equal_signs_is_the_smallest_there_is():
    # Of 2^8 patterns only the observed one and its mirror image reach the observed mean.
    assert sign_flip_p([0.1, 0.2, 0.05, 0.3, 0.12, 0.07, 0.09, 0.2]) == 2 / 256


def test_the_sign_flip_p_worked_by_hand():
    # Sums of +-1 +-2 +-4: 7 5 3 1 and their negatives; observed 1 + 2 - 4 = -1: all are as large.
    assert sign_flip_p([1, 2, -4]) == 1.0
    # Observed 4 + 2 - 1 = 5: 7, 5, -5, -7 of 8.
    assert sign_flip_p([4, 2, -1]) == 4 / 8


@pytest.mark.parametrize("n", [2, 5, 8])
def test_the_sign_flip_p_is_scipys_and_brute_forces(rng, n):
    for _ in range(10):
        given = rng.normal(0.4, 1, n).round(1)  # ties
        theirs = stats.permutation_test(
            (given,), lambda x, axis: x.mean(axis=axis), permutation_type="samples",
            n_resamples=np.inf, vectorized=True, rng=0,
        )  # fmt: skip
        patterns = [abs(np.dot(signs, given)) for signs in product([-1, 1], repeat=n)]
        by_force = np.mean(np.array(patterns) >= abs(given.sum()) - 1e-12)
        assert sign_flip_p(given) == pytest.approx(by_force, abs=1e-12)
        assert sign_flip_p(given) == pytest.approx(float(theirs.pvalue), abs=1e-12)


def test_under_the_null_the_sign_flip_p_is_uniform_on_its_grid():
    rng = np.random.default_rng(5)
    p = np.array([sign_flip_p(row) for row in rng.normal(0, 1, (1500, 8))])
    for level in (0.05, 0.1, 0.25, 0.5, 0.75):
        share, error = (p <= level + 1e-12).mean(), np.sqrt(level * (1 - level) / p.size)
        nearest = np.floor(level * 128) / 128  # p is a multiple of 2/256 where there are no ties
        assert abs(share - nearest) < 4 * error


def test_sign_flips_of_nothing_of_one_and_of_zeros():
    assert np.isnan(sign_flip_p([]))
    assert np.isnan(sign_flip_p([np.nan]))
    assert sign_flip_p([0.3]) == 1.0
    assert sign_flip_p([0.0, 0.0]) == 1.0
    assert sign_flip_p([0.1, np.nan, 0.2]) == sign_flip_p([0.1, 0.2])


def test_beyond_sixteen_differences_a_fixed_sample_of_patterns_stands_for_all(rng):
    given = rng.normal(0.45, 1, 20)
    exact_like = stats.permutation_test(
        (given,), lambda x, axis: x.mean(axis=axis), permutation_type="samples",
        n_resamples=40000, vectorized=True, rng=0,
    )  # fmt: skip
    assert sign_flip_p(given) == sign_flip_p(given)
    assert sign_flip_p(given) == pytest.approx(float(exact_like.pvalue), abs=0.01)


def test_the_area_under_the_budget_curve_worked_by_hand():
    # 6 to 10: mean of .5 and .7 is .6, times 4; 10 to 20: mean .75, times 10; over 14.
    expected = (0.6 * 4 + 0.75 * 10) / 14
    assert area_under_budget([6, 10, 20], [0.5, 0.7, 0.8]) == pytest.approx(expected)
    assert area_under_budget([20, 6, 10], [0.8, 0.5, 0.7]) == pytest.approx(expected)


def test_the_area_of_a_constant_is_the_constant_and_of_one_point_unknown():
    assert area_under_budget([6, 9, 30], [0.3, 0.3, 0.3]) == pytest.approx(0.3)
    assert np.isnan(area_under_budget([6], [0.3]))
    assert np.isnan(area_under_budget([6, 8], [0.3, np.nan]))


def test_partial_spearman_is_the_textbook_formula_of_the_three_correlations(rng):
    for _ in range(5):
        z = rng.normal(size=60)
        x, y = z + rng.normal(size=60), z + rng.normal(size=60)
        xy, xz, yz = (stats.spearmanr(a, b).statistic for a, b in ((x, y), (x, z), (y, z)))
        formula = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
        assert partial_spearman(x, y, given=z) == pytest.approx(formula, abs=1e-10)
        assert spearman(x, y) == pytest.approx(xy, abs=1e-12)


def test_what_only_quality_links_does_not_correlate_at_fixed_quality():
    rng = np.random.default_rng(3)
    dice = rng.uniform(0.5, 0.9, 4000)
    volume, score = dice + rng.normal(0, 0.05, 4000), 1 - dice + rng.normal(0, 0.05, 4000)
    assert spearman(score, volume) < -0.7
    assert abs(partial_spearman(score, volume, given=dice)) < 0.06


def test_correlations_of_too_few_or_constant_values_are_unknown():
    assert np.isnan(spearman([1, 2], [1, 2]))
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert np.isnan(partial_spearman([1, 2, 3], [1, 2, 3], given=[1, 2, 3]))
    assert np.isnan(partial_spearman([1, 2, 3, 4], [4, 1, 3, 2], given=[1, 2, 3, 4]))


def test_every_run_sees_the_same_drawn_test_cases(rng):
    scores = np.vstack([np.arange(6.0), np.arange(6.0) + 10])
    members = {"A": np.arange(3), "B": np.arange(3, 6)}
    means = resampled_group_means(scores, members, rng=rng, draws=50)
    assert means.shape == (50, 2, 2)
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 10)
    assert means[:, 0, 0].min() >= 0
    assert means[:, 0, 0].max() <= 2
    assert means[:, 0, 1].min() >= 3
    assert means[:, 0].std() > 0


def test_resampled_means_have_the_bootstraps_own_standard_error(rng):
    scores = rng.normal(0.8, 0.05, (1, 40))
    means = resampled_group_means(scores, {"A": np.arange(40)}, rng=rng, draws=4000)
    assert means.std() == pytest.approx(scores.std() / np.sqrt(40), rel=0.05)
    assert means.mean() == pytest.approx(scores.mean(), abs=1e-3)


def test_a_run_without_a_case_is_averaged_over_the_others(rng):
    scores = np.array([[1.0, np.nan, 1.0], [np.nan] * 3])
    means = resampled_group_means(scores, {"A": np.arange(3)}, rng=rng, draws=200)
    known = means[:, 0, 0][~np.isnan(means[:, 0, 0])]
    assert set(known) == {1.0}
    assert np.isnan(means[:, 1, 0]).all()


def test_seeds_are_drawn_alike_for_the_arms_that_are_compared(rng):
    first = rng.normal(size=(300, 5))
    own, other = resampled_seeds(np.stack([first, first + 2]), rng=rng)
    np.testing.assert_allclose(other - own, 2)
    assert own.std() > 0


def test_expanded_percentiles_worked_by_hand():
    # n = 8: t_{7, .025} = -2.36462, times sqrt(8/7) = -2.52789, Phi of it = .0057376.
    draws = np.linspace(0, 1, 100_001)
    low, high = expanded_percentiles(draws, seeds=8)
    assert low == pytest.approx(0.0057376, abs=2e-6)
    assert high == pytest.approx(1 - 0.0057376, abs=2e-6)
    assert expanded_percentiles(draws, seeds=10_000)[0] == pytest.approx(0.025, abs=1e-4)


def test_an_interval_of_one_seed_or_of_undefined_draws_is_unknown():
    assert np.isnan(expanded_percentiles(np.ones(10), seeds=1)).all()
    draws = np.r_[np.full(30, np.nan), np.ones(970)]
    assert np.isnan(expanded_percentiles(draws, seeds=8)).all()
    assert expanded_percentiles(draws[20:], seeds=8) == (1.0, 1.0)


def test_the_interval_of_a_paired_difference_covers_the_truth_with_eight_seeds():
    rng = np.random.default_rng(11)
    cases, seeds, trials = 40, 8, 250
    members = {"A": np.arange(cases), "B": np.arange(cases, 2 * cases)}
    hits = 0
    for _ in range(trials):
        luck = rng.normal(0, 0.05, 2 * cases)
        runs = [
            np.repeat(means + rng.normal(0, 0.02, (seeds, 2)), cases, axis=1) + luck
            for means in (np.array([0.90, 0.72]), np.array([0.89, 0.83]))
        ]
        scores = np.vstack(runs) + rng.normal(0, 0.02, (2 * seeds, 2 * cases))
        means = resampled_group_means(scores, members, rng=rng, draws=400)
        gaps = np.abs(means[..., 0] - means[..., 1])
        entropy, own = resampled_seeds(np.stack([gaps[:, :seeds], gaps[:, seeds:]]), rng=rng)
        low, high = expanded_percentiles(own - entropy, seeds=seeds)
        hits += low <= 0.06 - 0.18 <= high
    assert 0.90 <= hits / trials <= 0.99  # 95 % +- 3.6 standard errors
