"""Strategies beside the weighted one, worked by hand."""

from collections import Counter

import numpy as np
import pytest

from fair_strategy.acquisition import strategies
from fair_strategy.acquisition.pool import Features, Pool, PoolCase
from fair_strategy.acquisition.strategies import (
    bald,
    can_order,
    core_set,
    masked_entropy,
    stochastic_batches,
    weighted_entropy,
)

NAN = float("nan")


def generator(seed=0):
    return np.random.default_rng(seed)


def pool(values, score="masked_mean", *, flagged=(), **options):
    """Cases a, b, c, ... of group A with one score each; None for a case without."""
    cases = tuple(
        PoolCase(
            "abcdefghijklmnopqrst"[n],
            "A",
            {} if value is None else {score: value},
            ("empty",) if n in flagged else (),
        )
        for n, value in enumerate(values)
    )
    return Pool(cases, {"A": 1.0}, **options)


def order(ranked):
    return "".join(row.case_id for row in ranked)


def test_bald_goes_by_mutual_information_and_not_by_entropy():
    cases = (
        PoolCase("calm", "A", {"masked_mean": 0.1, "mutual_information": 0.01}),
        PoolCase("noisy", "A", {"masked_mean": 0.6, "mutual_information": 0.02}),
        PoolCase("torn", "B", {"masked_mean": 0.4, "mutual_information": 0.30}),
    )
    both = Pool(cases, {"A": 9.0, "B": 0.1})
    ranked = bald(both, generator())
    assert [row.case_id for row in ranked] == ["torn", "noisy", "calm"]
    assert [row.utility for row in ranked] == [0.30, 0.02, 0.01]
    assert [row.case_id for row in masked_entropy(both, generator())] == ["noisy", "torn", "calm"]


def test_bald_serves_implausible_predictions_first_and_unscored_ones_last():
    some = pool([0.2, None, NAN, 0.3], "mutual_information", flagged=[2])
    assert order(bald(some, generator())) == "cdab"


def test_bald_needs_a_pool_that_was_scored_with_several_passes():
    assert can_order("bald", pool([0.2], "mutual_information"))
    assert not can_order("bald", pool([0.2]))


def on_a_line(places, labelled=(), **options):
    values = [0.1] * len(places)
    names = "abcdefghijklmnopqrst"
    return pool(
        values,
        features=Features.of({names[n]: [p] for n, p in enumerate(places) if p is not None}),
        labelled_features=Features.of({f"z{n}": [p] for n, p in enumerate(labelled)}),
        **options,
    )


def test_core_set_takes_what_the_labelled_cases_cover_worst():
    # Labelled at 0 and 20. 9 is 9 from 0; then 14 is 5 from 9 (6 from 20), then 4, then 19.
    ranked = core_set(on_a_line([4, 9, 14, 19], [0, 20]), generator())
    assert order(ranked) == "bcad"
    assert [row.utility for row in ranked] == [9, 5, 4, 1]
    assert {row.weight for row in ranked} == {1.0}
    assert np.isnan([row.case_entropy for row in ranked]).all()


def test_core_set_puts_cases_without_features_last_and_the_validation_set_first():
    some = on_a_line([4, None, 14, 1], [0], first=frozenset("d"))
    ranked = core_set(some, generator())
    assert order(ranked) == "dcab"
    assert [row.reason for row in ranked] == ["validation", "", "", ""]
    # The validation set is not trained on: at 1 it is no centre, so a keeps its 4 from 0.
    assert [row.utility for row in ranked[1:3]] == [14, 4]


def test_core_set_without_labels_begins_anywhere():
    heads = {order(core_set(on_a_line([1, 2, 3]), generator(seed)))[0] for seed in range(40)}
    assert heads == set("abc")


def test_core_set_picks_one_by_one_up_to_its_bound_and_then_by_distance(monkeypatch):
    places = [10, 9, 5, 1]
    # One by one: 10, 5 (5 from both), then 9 or 1, 1 from a centre each.
    assert order(core_set(on_a_line(places, [0]), generator())).startswith("ac")
    monkeypatch.setattr(strategies, "CORE_SET_PICKS", 0)
    assert order(core_set(on_a_line(places, [0]), generator())) == "abcd"


def test_core_set_cannot_order_a_pool_without_features():
    assert can_order("core_set", on_a_line([1]))
    assert not can_order("core_set", pool([0.1]))


class Unshuffled:
    """A generator whose permutation leaves everything in place."""

    def permutation(self, number):
        return np.arange(number)


def test_random_batches_go_by_their_mean_an_incomplete_one_last():
    # ab .25, cd .40, ef .30, g .9 alone.
    some = pool([0.1, 0.4, 0.0, 0.8, 0.3, 0.3, 0.9], quota_batch=2)
    ranked = stochastic_batches(some, Unshuffled())
    assert order(ranked) == "cdefabg"
    assert [row.utility for row in ranked] == pytest.approx([0.4, 0.4, 0.3, 0.3, 0.25, 0.25, 0.9])
    assert [row.case_entropy for row in ranked] == [0.0, 0.8, 0.3, 0.3, 0.1, 0.4, 0.9]


def test_random_batches_are_drawn_by_the_generator():
    some = pool([0.1, 0.2, 0.3, 0.4], quota_batch=2)
    drawn = generator(3).permutation(4)
    two = sorted([drawn[:2], drawn[2:]], key=lambda batch: -sum(batch))  # entropy = (n + 1) / 10
    expected = "".join("abcd"[n] for batch in two for n in batch)
    assert order(stochastic_batches(some, generator(3))) == expected
    mates = Counter(
        frozenset(order(stochastic_batches(some, generator(seed)))[:2]) for seed in range(300)
    )
    # a and d tie with b and c at .25: all other pairs with d or c beat their complement.
    assert set(mates) <= {frozenset(p) for p in ("ad", "bc", "bd", "cd")}
    assert len(mates) == 4


def test_random_batches_are_of_ten_where_the_study_has_no_size():
    values = [n / 100 for n in range(20)]
    ranked = stochastic_batches(pool(values), generator())
    utilities = [row.utility for row in ranked]
    assert utilities == [utilities[0]] * 10 + [utilities[10]] * 10
    assert utilities[0] > utilities[10]
    assert sum(utilities) / 20 == pytest.approx(np.mean(values))


def test_in_a_batch_an_implausible_prediction_counts_as_the_most_uncertain():
    # ab: (0.6 + 0.6) / 2 with b standing in at .6; cd: .45.
    some = pool([0.6, 0.01, 0.5, 0.4], flagged=[1], quota_batch=2)
    ranked = stochastic_batches(some, Unshuffled())
    assert [row.utility for row in ranked] == pytest.approx([0.6, 0.6, 0.45, 0.45])
    assert ranked[1].case_entropy == 0.01


def test_cases_without_a_score_are_in_no_batch():
    some = pool([None, 0.1, None, 0.3], quota_batch=2)
    ranked = stochastic_batches(some, generator())
    assert set(order(ranked)[:2]) == set("bd")
    assert set(order(ranked)[2:]) == set("ac")
    assert np.isnan([row.utility for row in ranked[2:]]).all()


def test_the_whole_volume_can_take_the_place_of_the_region_in_the_weighted_strategy_alone():
    cases = (
        PoolCase("wide", "A", {"masked_mean": 0.1, "entropy": 0.009}),
        PoolCase("deep", "A", {"masked_mean": 0.6, "entropy": 0.001}),
        PoolCase("flagged", "A", {"masked_mean": 0.0, "entropy": 0.0}, ("empty",)),
    )
    volume = Pool(cases, {"A": 1.0}, weighted_score="entropy")
    assert [r.case_id for r in weighted_entropy(volume, generator())] == ["flagged", "wide", "deep"]
    assert [r.case_id for r in masked_entropy(volume, generator())] == ["flagged", "deep", "wide"]


def test_features_are_equal_if_ids_and_rows_are_and_survive_exactly():
    one = Features.of({"b": [0.1, 2.0], "a": [3.0, 4.0]})
    assert one.case_ids == ("a", "b")
    assert one == Features.from_json(one.to_json())
    assert one.rows.dtype == np.float16
    assert one != Features.of({"b": [0.1, 2.0], "a": [3.0, 4.5]})
    assert one != Features.of({"b": [0.1, 2.0], "c": [3.0, 4.0]})
    assert one != "features"
    assert Features.from_json(Features().to_json()) == Features()
    with pytest.raises(ValueError, match="of one model: they differ in length"):
        Features.of({"a": [1.0], "b": [1.0, 2.0]})
