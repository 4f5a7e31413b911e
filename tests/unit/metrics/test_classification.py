"""Accuracies and areas under curves: by hand, scikit-learn, and the edges."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fair_strategy.metrics.classification import (
    accuracy,
    auroc,
    average_precision,
    balanced_accuracy,
    macro_auroc,
)

CASES = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30)
CLASSES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


def split(cases):
    first, second = zip(*cases, strict=True)
    return np.array(first, float), np.array(second)


def test_the_roc_area_is_the_share_of_pairs_in_order_with_ties_half():
    # Positives 3, 1; negatives 2, 1, 0. Pairs: 3 beats 3; 1 beats 0, ties 1, loses to 2: 4.5 / 6.
    assert auroc([3, 1, 2, 1, 0], [1, 1, 0, 0, 0]) == pytest.approx(4.5 / 6)


def test_the_average_precision_worked_by_hand():
    # 3: precision 1 at recall 1/2; 2: none; tie of 1 (one of two positive): 2/4 at recall 1.
    assert average_precision([3, 1, 2, 1, 0], [1, 1, 0, 0, 0]) == pytest.approx(0.5 * 1 + 0.5 * 0.5)


@given(CASES)
@settings(deadline=None, max_examples=30)
def test_both_areas_agree_with_scikit_learn(cases):
    metrics = pytest.importorskip("sklearn.metrics")
    score, positive = split(cases)
    if positive.any():
        expected = metrics.average_precision_score(positive, score)
        assert average_precision(score, positive) == pytest.approx(expected)
    if positive.any() and not positive.all():
        area = auroc(score, positive)
        assert area == pytest.approx(metrics.roc_auc_score(positive, score))
        assert auroc(-score, positive) == pytest.approx(1 - area)
        assert auroc(np.exp(score), positive) == area  # only the order counts


@given(CLASSES)
@settings(deadline=None, max_examples=30)
def test_both_accuracies_agree_with_scikit_learn(cases):
    metrics = pytest.importorskip("sklearn.metrics")
    reference, predicted = split(cases)
    assert accuracy(reference, predicted) == pytest.approx(
        metrics.accuracy_score(reference, predicted)
    )
    recalls = metrics.recall_score(
        reference, predicted, labels=np.unique(reference), average="macro"
    )
    assert balanced_accuracy(reference, predicted) == pytest.approx(recalls)


def test_the_balanced_accuracy_counts_each_class_once():
    # Class 0: 3 of 4; class 1: 0 of 1.
    reference, predicted = [0, 0, 0, 0, 1], [0, 0, 0, 1, 0]
    assert balanced_accuracy(reference, predicted) == pytest.approx(0.375)
    assert accuracy(reference, predicted) == pytest.approx(0.6)


def test_the_macro_area_agrees_with_scikit_learns_one_against_the_rest():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(3), 40)
    reference = rng.integers(0, 3, 40)
    expected = metrics.roc_auc_score(reference, probs, multi_class="ovr", average="macro")
    assert macro_auroc(reference, probs) == pytest.approx(expected)


def test_areas_that_need_both_kinds_are_nan_without():
    assert np.isnan(auroc([0.1, 0.2], [1, 1]))
    assert np.isnan(auroc([0.1, 0.2], [0, 0]))
    assert np.isnan(average_precision([0.1, 0.2], [0, 0]))
    assert average_precision([0.1, 0.2], [1, 1]) == 1
    assert np.isnan(macro_auroc([0, 1], [[0.5, 0.5, 0.0], [0.2, 0.8, 0.0]]))  # no case of class 2


def test_bad_input_is_refused():
    for measure in (auroc, average_precision):
        with pytest.raises(ValueError, match="scores are empty"):
            measure([], [])
        with pytest.raises(ValueError, match="1 of 1 scores are NaN"):
            measure([np.nan], [1])
        with pytest.raises(ValueError, match=r"score and positive .* got \(1,\) and \(2,\)"):
            measure([1.0], [1, 0])
    for measure in (accuracy, balanced_accuracy):
        with pytest.raises(ValueError, match="reference classes are empty"):
            measure([], [])
        with pytest.raises(ValueError, match="reference and predicted must have one shape"):
            measure([1], [1, 0])
    with pytest.raises(ValueError, match=r"those of case 1 sum to 0\.9"):
        macro_auroc([0, 1], [[0.5, 0.5], [0.2, 0.7]])
    with pytest.raises(ValueError, match="reference classes must be 0 to 1, got 2"):
        macro_auroc([0, 2], [[0.5, 0.5], [0.2, 0.8]])
    with pytest.raises(ValueError, match="got 1 cases and 2 rows"):
        macro_auroc([0], [[0.5, 0.5], [0.2, 0.8]])
    with pytest.raises(ValueError, match=r"probabilities must lie in \[0, 1\]"):
        macro_auroc([0], [[-1.0, 2.0]])
