import numpy as np
import pytest
from scipy import stats

from fair_strategy.metrics.two_samples import welch_interval


def test_an_interval_worked_by_hand():
    # Means 0.9 and 0.6; variances 0.02 and 0.02 of n = 2: squares 0.01 each, standard error
    # sqrt(0.02) = 0.14142. Degrees of freedom 0.02^2 / (0.01^2 + 0.01^2) = 2; t(2, .975) = 4.30265.
    # 0.3 +- 0.60849.
    low, high = welch_interval([0.8, 1.0], [0.5, 0.7])
    assert (low, high) == pytest.approx((-0.308486, 0.908486), abs=1e-5)


def test_it_is_that_of_scipy_for_samples_of_unlike_size_and_spread():
    rng = np.random.default_rng(2)
    for n, m in ((5, 9), (2, 30), (12, 3)):
        a, b = rng.normal(0.85, 0.02, n), rng.normal(0.7, 0.1, m)
        expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
        assert welch_interval(a, b, level=0.9) == pytest.approx((expected.low, expected.high))


def test_one_case_has_no_interval_and_equal_cases_have_none_to_speak_of():
    assert np.isnan(welch_interval([0.9], [0.5, 0.6])).all()
    assert welch_interval([0.9, 0.9], [0.5, 0.5]) == pytest.approx((0.4, 0.4))


def test_a_level_outside_of_0_and_1_is_refused():
    with pytest.raises(ValueError, match="level"):
        welch_interval([0.9, 0.8], [0.5, 0.6], level=1.0)
