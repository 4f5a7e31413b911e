"""Risk-coverage curves and detection of errors: by hand, scikit-learn, all orders, the edges."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from fair_strategy.metrics.uncertainty import (
    error_association,
    error_detection,
    risk_coverage,
    risk_coverage_by_group,
)

BY_GROUP = [risk_coverage_by_group, error_detection, error_association]
CASES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=12)


def split(cases):
    first, second = zip(*cases, strict=True)
    return np.array(first, float), np.array(second, float)


def test_the_curve_of_four_cases_worked_by_hand():
    curve = risk_coverage([0.2, 0.0, 1.0, 0.4], [1, 2, 3, 4])
    # Sums 0.2, 0.2, 1.2, 1.6 over 1, 2, 3, 4.
    assert curve.risk == pytest.approx([0.2, 0.1, 0.4, 0.4])
    assert curve.coverage == pytest.approx([0.25, 0.5, 0.75, 1])
    assert curve.aurc == pytest.approx(1.1 / 4)
    # Oracle 0, .2, .4, 1: risks 0, .1, .2, .4.
    assert curve.e_aurc == pytest.approx((1.1 - 0.7) / 4)


def test_the_order_of_the_oracle_has_no_excess_and_the_reverse_the_most():
    risk = np.array([0.1, 0.5, 0.3, 0.9])
    assert risk_coverage(risk, risk).e_aurc == 0
    excess = [risk_coverage(risk, order).e_aurc for order in permutations(range(4))]
    assert max(excess) == pytest.approx(risk_coverage(risk, -risk).e_aurc)


def test_a_tie_takes_the_mean_over_all_its_orders():
    risk, doubt = np.array([0.0, 1.0, 0.3, 0.8]), np.array([1, 2, 2, 2])
    curves = []
    for order in permutations([1, 2, 3]):
        curves.append(np.cumsum(risk[[0, *order]]) / np.arange(1, 5))
    tied = risk_coverage(risk, doubt)
    assert tied.risk == pytest.approx(np.mean(curves, axis=0))
    assert tied.aurc == pytest.approx(np.mean(curves))


def test_an_uncertainty_that_tells_nothing_has_a_flat_curve():
    curve = risk_coverage([0, 0, 1, 1], [7, 7, 7, 7])
    assert curve.risk == pytest.approx([0.5] * 4)
    assert curve.aurc == pytest.approx(0.5)


@given(CASES)
@settings(deadline=None, max_examples=30)
def test_curves_are_bounded_and_do_not_depend_on_order_or_scale(cases):
    risk, doubt = split(cases)
    curve = risk_coverage(risk, doubt)
    assert curve.risk[-1] == pytest.approx(risk.mean())
    assert risk.min() - 1e-9 <= curve.aurc <= risk.max() + 1e-9
    assert curve.e_aurc >= 0
    again = risk_coverage(risk[::-1], np.exp(doubt[::-1]))
    assert again.risk == pytest.approx(curve.risk)
    assert again.e_aurc == pytest.approx(curve.e_aurc)
    assert risk_coverage(3 * risk, doubt).aurc == pytest.approx(3 * curve.aurc)


def test_the_curves_of_groups_are_those_of_their_own_cases():
    risk, doubt = [0.1, 0.5, 0.3, 0.9], [1, 2, 0, 4]
    curves = risk_coverage_by_group(risk, doubt, list("ABBA"), known_groups=["C"])
    assert list(curves) == ["A", "B", "C"]
    assert curves["B"].risk.tolist() == risk_coverage([0.5, 0.3], [2, 0]).risk.tolist()
    assert curves["C"].n == 0
    assert np.isnan([curves["C"].aurc, curves["C"].e_aurc]).all()
    alone = risk_coverage_by_group([0.4], [1], ["A"])["A"]
    assert (alone.aurc, alone.e_aurc, alone.n) == (0.4, 0, 1)


def test_detection_of_errors_worked_by_hand():
    # A: wrong 3 and 1, right 2, 1, 0: 4.5 of 6 pairs; precision 1 at recall 1/2, 2/4 at 1.
    # B: both wrong cases are the most uncertain.
    error = [1, 1, 0, 0, 0, 1, 1, 0]
    doubt = [3, 1, 2, 1, 0, 9, 8, 7]
    found = error_detection(error, doubt, list("AAAAABBB"))
    assert (found["A"].n, found["A"].errors) == (5, 2)
    assert (found["A"].auroc, found["A"].auprc) == (pytest.approx(0.75), pytest.approx(0.75))
    assert (found["B"].auroc, found["B"].auprc) == (1, 1)


def test_detection_agrees_with_scikit_learn_in_each_group():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    error, doubt = rng.random(60) < 0.4, rng.integers(0, 9, 60)
    groups = rng.choice(list("AB"), 60)
    for name, found in error_detection(error, doubt, groups).items():
        own = groups == name
        area = metrics.roc_auc_score(error[own], doubt[own])
        assert found.auroc == pytest.approx(area)
        area = metrics.average_precision_score(error[own], doubt[own])
        assert found.auprc == pytest.approx(area)


def test_a_group_without_errors_or_with_nothing_else_has_no_detection():
    found = error_detection([0, 0, 1, 1, 1, 0], range(6), list("AABBCC"), known_groups=["D"])
    for name, errors in (("A", 0), ("B", 2), ("D", 0)):
        assert found[name].errors == errors
        assert np.isnan([found[name].auroc, found[name].auprc]).all()
    assert found["C"].auroc == 0
    assert found["D"].n == 0


def test_association_agrees_with_scipy_in_each_group():
    rng = np.random.default_rng(0)
    error, doubt = rng.random(40), rng.integers(0, 5, 40)
    groups = rng.choice(list("AB"), 40)
    for name, found in error_association(error, doubt, groups).items():
        own = groups == name
        assert found.n == own.sum()
        assert found.pearson == pytest.approx(stats.pearsonr(error[own], doubt[own]).statistic)
        assert found.spearman == pytest.approx(stats.spearmanr(error[own], doubt[own]).statistic)


def test_association_of_few_or_constant_values_is_nan():
    found = error_association(
        [0.1, 0.2, 0.5, 0.6, 0.7, 0.1], [1, 2, 3, 3, 3, 9], list("AABBBC"), known_groups=["D"]
    )
    for name, n in (("A", 2), ("B", 3), ("C", 1), ("D", 0)):
        assert found[name].n == n
        assert np.isnan([found[name].pearson, found[name].spearman]).all()


def test_a_curve_refuses_bad_input():
    with pytest.raises(ValueError, match="risks are empty"):
        risk_coverage([], [])
    with pytest.raises(ValueError, match="1 of 2 uncertainties are NaN"):
        risk_coverage([0, 1], [np.nan, 1])
    with pytest.raises(ValueError, match="0 of 1 risks are NaN and 1 are infinite"):
        risk_coverage([np.inf], [1])
    with pytest.raises(ValueError, match=r"risk and uncertainty .* got \(2,\) and \(1,\)"):
        risk_coverage([0, 1], [1])
    with pytest.raises(ValueError, match="risks must have 1 axes"):
        risk_coverage([[0, 1]], [[1, 2]])


@pytest.mark.parametrize("measure", BY_GROUP)
def test_measures_by_group_refuse_bad_input(measure):
    with pytest.raises(ValueError, match="got 2 and 1 labels"):
        measure([0, 1], [1, 2], ["A"])
    with pytest.raises(ValueError, match="label of case 0 is None"):
        measure([0, 1], [1, 2], [None, "A"])
    with pytest.raises(ValueError, match="1 of 2 uncertainties are NaN"):
        measure([0, 1], [1, np.nan], ["A", "A"])
    with pytest.raises(ValueError, match="must have one shape"):
        measure([0, 1], [1], ["A", "A"])
    with pytest.raises(ValueError, match="are empty"):
        measure([], [], [])
