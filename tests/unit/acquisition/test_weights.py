"""Rules for the groups' weights."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fair_strategy.acquisition.weights import RULES, group_weights

D = {"A": 0.9, "B": 0.6, "C": 0.8}
NEEDED = {
    "reducible_error": {"attainable": {"A": 0.95, "B": 0.85, "C": 0.8, "unknown": 0.9}},
    "inverse_frequency": {"labelled_counts": {"A": 8, "B": 2, "C": 4}},
}
PERFORMANCES = st.dictionaries(
    st.sampled_from(["A", "B", "C", "unknown"]),
    st.one_of(st.floats(0, 1), st.just(float("nan"))),
    min_size=1,
)


def weigh(performance, rule, **options):
    return group_weights(performance, rule=rule, **{**NEEDED.get(rule, {}), **options})


@pytest.mark.parametrize(
    ("rule", "raw"),
    [
        ("uniform", [1, 1, 1]),
        ("error_proportional", [1, 4, 2]),  # errors 0.1, 0.4, 0.2
        ("reducible_error", [0.05, 0.25, 0.0]),
        ("inverse_performance", [1 / 0.9, 1 / 0.6, 1 / 0.8]),
        ("softmax", [np.exp(1), np.exp(4), np.exp(2)]),  # errors / 0.1
        ("exponentiated", [np.exp(0.1), np.exp(0.4), np.exp(0.2)]),
        ("inverse_frequency", [1 / 8, 1 / 2, 1 / 4]),
        ("worst_group", [0, 1, 0]),
    ],
)
def test_every_rule_worked_by_hand(rule, raw):
    expected = dict(zip("ABC", 3 * np.array(raw) / np.sum(raw), strict=True))
    assert weigh(D, rule) == pytest.approx(expected)


@pytest.mark.parametrize("rule", RULES)
@given(performance=PERFORMANCES)
@settings(deadline=None, max_examples=60)
def test_weights_are_finite_not_negative_of_mean_one_and_named(rule, performance):
    weights = weigh(performance, rule)
    assert list(weights) == sorted(performance)
    values = np.array(list(weights.values()))
    assert np.isfinite(values).all()
    assert (values >= 0).all()
    assert values.mean() == pytest.approx(1)


@pytest.mark.parametrize(
    "rule", ["error_proportional", "inverse_performance", "softmax", "exponentiated", "worst_group"]
)
@given(performance=PERFORMANCES)
@settings(deadline=None, max_examples=40)
def test_a_group_that_performs_worse_never_weighs_less(rule, performance):
    weights = weigh(performance, rule)
    known = sorted((name for name in performance if performance[name] >= 0), key=performance.get)
    for worse, better in pairwise(known):
        assert weights[worse] >= weights[better] * (1 - 1e-12)
    for name in set(performance) - set(known):  # never below the worst observed group's
        assert all(weights[name] >= weights[other] * (1 - 1e-12) for other in known)


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_the_groups_does_not_matter(rule):
    assert weigh(dict(reversed(D.items())), rule) == weigh(D, rule)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("performance", [0.0, 0.7, 1.0, float("nan")])
def test_one_group_weighs_one(rule, performance):
    assert weigh({"unknown": performance}, rule) == {"unknown": 1.0}


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "inverse_frequency"])
def test_nothing_known_is_uniform(rule):
    assert weigh({"A": np.nan, "B": np.nan}, rule) == {"A": 1.0, "B": 1.0}


@pytest.mark.parametrize("rule", ["error_proportional", "reducible_error"])
def test_nothing_left_to_gain_is_uniform(rule):
    assert weigh({"A": 1.0, "B": 1.0}, rule) == {"A": 1.0, "B": 1.0}


@pytest.mark.parametrize("rule", ["error_proportional", "inverse_performance", "softmax"])
def test_a_group_without_cases_weighs_as_the_worst_observed_one(rule):
    weights = weigh({"A": 0.9, "B": 0.6, "unknown": np.nan}, rule)
    assert weights["unknown"] == weights["B"] > weights["A"]


def test_a_perfect_group_gets_no_weight_by_its_error():
    assert weigh({"A": 1.0, "B": 0.6}, "error_proportional") == {"A": 0.0, "B": 2.0}


def test_a_performance_of_zero_takes_all_the_weight_of_the_inverse():
    assert weigh({"A": 0.5, "B": 0.0, "C": 0.0}, "inverse_performance") == {
        "A": 0.0,
        "B": 1.5,
        "C": 1.5,
    }
    nearly = weigh({"A": 0.5, "B": 1e-300, "C": 1e-300}, "inverse_performance")
    assert nearly == pytest.approx({"A": 0.0, "B": 1.5, "C": 1.5})


def test_attainable_below_performance_is_no_negative_weight():
    weights = weigh({"A": 0.9, "B": 0.6}, "reducible_error", attainable={"A": 0.8, "B": 0.7})
    assert weights == {"A": 0.0, "B": 2.0}


def test_a_group_without_an_attainable_value_gets_the_best_of_the_others():
    some = {"A": 0.95, "B": 0.8, "C": np.nan}
    weights = weigh(
        {"A": 0.9, "B": 0.6, "C": 0.7, "unknown": 0.75}, "reducible_error", attainable=some
    )
    raw = np.array([0.05, 0.2, 0.25, 0.2])
    assert list(weights.values()) == pytest.approx(4 * raw / raw.sum())


def test_a_colder_softmax_is_sharper_down_to_the_worst_group_alone():
    sharpness = [weigh(D, "softmax", temperature=t)["B"] for t in (100, 1, 0.1, 0.01, 1e-320)]
    assert sharpness == sorted(sharpness)
    assert sharpness[0] == pytest.approx(1, abs=0.01)
    assert weigh(D, "softmax", temperature=1e-320) == {"A": 0.0, "B": 3.0, "C": 0.0}


def test_exponentiated_steps_add_up():
    once = weigh(D, "exponentiated", eta=1.0)
    twice = weigh(D, "exponentiated", eta=1.0, previous=once)
    assert twice == pytest.approx(weigh(D, "exponentiated", eta=2.0))
    assert weigh(D, "exponentiated", eta=0.0, previous=once) == pytest.approx(once)


def test_exponentiated_survives_a_huge_step_and_a_weight_of_zero():
    previous = {"A": 3.0, "B": 0.0, "C": 0.0}
    assert weigh(D, "exponentiated", eta=1e6, previous=previous) == previous
    assert weigh(D, "exponentiated", eta=1e6) == {"A": 0.0, "B": 3.0, "C": 0.0}


def test_a_group_that_is_new_enters_exponentiated_with_the_mean_of_the_others():
    weights = weigh(D, "exponentiated", eta=0.0, previous={"A": 0.5, "C": 1.5})
    assert weights == pytest.approx({"A": 0.5, "B": 1.0, "C": 1.5})


def test_a_group_without_labels_counts_as_one_label():
    weights = group_weights(D, rule="inverse_frequency", labelled_counts={"A": 2, "B": 1})
    assert weights == pytest.approx({"A": 0.6, "B": 1.2, "C": 1.2})


def test_the_worst_group_without_candidates_hands_over_to_the_next():
    assert weigh(D, "worst_group", candidate_counts={"A": 5, "C": 1}) == {
        "A": 0.0,
        "B": 0.0,
        "C": 3.0,
    }
    assert set(weigh(D, "worst_group", candidate_counts={}).values()) == {1.0}


def test_equally_bad_groups_share():
    assert weigh({"A": 0.6, "B": 0.6, "C": 0.9}, "worst_group") == {"A": 1.5, "B": 1.5, "C": 0.0}


def test_performances_are_not_written_into():
    performance = {"B": np.nan, "A": 0.5}
    weigh(performance, "softmax")
    assert list(performance) == ["B", "A"]
    assert np.isnan(performance["B"])


@pytest.mark.parametrize(
    ("performance", "options", "message"),
    [
        ({}, {"rule": "uniform"}, "names no group"),
        ({"A": 1.2}, {"rule": "uniform"}, r"of 'A' must lie in \[0, 1\] or be NaN, got 1.2"),
        ({"A": -0.1}, {"rule": "uniform"}, r"of 'A' must lie in \[0, 1\]"),
        ({"A": np.inf}, {"rule": "uniform"}, r"of 'A' must lie in \[0, 1\]"),
        (D, {"rule": "best"}, "rule must be one of uniform, error_proportional, .*, got 'best'"),
        (D, {"rule": "reducible_error"}, "'reducible_error' needs attainable, got None"),
        (D, {"rule": "inverse_frequency"}, "'inverse_frequency' needs labelled_counts, got None"),
        (D, {"rule": "reducible_error", "attainable": {}}, "attainable must name one of"),
        (D, {"rule": "reducible_error", "attainable": {"A": 90}}, r"attainable must lie in \[0, 1"),
        (D, {"rule": "softmax", "temperature": 0}, "temperature must be above 0, got 0"),
        (D, {"rule": "exponentiated", "eta": -1}, "eta must be 0 or more, got -1"),
        (D, {"rule": "exponentiated", "previous": {"A": -1}}, "previous must hold weights of 0"),
        (D, {"rule": "inverse_frequency", "labelled_counts": {"A": -1}}, "labelled_counts must"),
        (D, {"rule": "worst_group", "candidate_counts": {"A": -1}}, "candidate_counts must hold"),
    ],
)
def test_bad_arguments_are_refused(performance, options, message):
    with pytest.raises(ValueError, match=message):
        group_weights(performance, **options)
