"""Greedy k-center and random batches."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats
from scipy.spatial.distance import cdist

from fair_strategy.acquisition.diversity import k_center_greedy, random_batches

NOBODY = np.empty((0, 1))


def line(*places):
    return np.array(places, dtype=np.float64)[:, None]


def generator(seed=0):
    return np.random.default_rng(seed)


def test_on_a_line_each_pick_is_the_farthest_from_all_centres():
    # From 0 the farthest is 12. Between the two, 5 is 5 from 0 and 7 from 12; 8 is 4 from 12: 5.
    # Then 8 is 3 from 5, 2 is 2 from 0, 11 is 1 from 12.
    points = line(2, 5, 8, 11, 12)
    order, distances = k_center_greedy(points, line(0), count=5, rng=generator())
    assert points[order, 0].tolist() == [12, 5, 8, 2, 11]
    assert distances.tolist() == [12, 5, 3, 2, 1]


def test_ties_are_broken_by_the_generator_alone():
    # 1 and -1 are as far from 0; whatever comes first, the other is then 1 from 0 still.
    heads = Counter()
    for seed in range(400):
        order, distances = k_center_greedy(line(1, -1), line(0), count=2, rng=generator(seed))
        assert distances.tolist() == [1, 1]
        heads[int(order[0])] += 1
    assert stats.chisquare(list(heads.values())).pvalue > 1e-3
    one = k_center_greedy(line(*[3] * 9), line(0), count=3, rng=generator(5))[0]
    assert (
        one.tolist()
        == k_center_greedy(line(*[3] * 9), line(0), count=3, rng=generator(5))[0].tolist()
    )


def test_without_centres_the_first_pick_is_drawn_evenly():
    heads = Counter()
    for seed in range(600):
        order, distances = k_center_greedy(line(0, 1, 9), NOBODY, count=2, rng=generator(seed))
        assert distances[0] == np.inf
        # From 0 or 1 the farthest is 9; from 9 it is 0.
        assert order[1] == {0: 2, 1: 2, 2: 0}[int(order[0])]
        heads[int(order[0])] += 1
    assert len(heads) == 3
    assert stats.chisquare(list(heads.values())).pvalue > 1e-3


def test_after_the_picks_the_others_follow_by_their_distance():
    # From 0, the one pick is 10. Distances to the nearest of 0 and 10: 4, 3, 2, 1.
    points = line(1, 4, 8, 10, 3)
    order, distances = k_center_greedy(points, line(0), count=1, rng=generator())
    assert points[order, 0].tolist() == [10, 4, 3, 8, 1]
    assert distances.tolist() == [10, 4, 3, 2, 1]


def test_no_pick_is_the_plain_order_by_distance_to_the_chosen():
    order, distances = k_center_greedy(line(1, 5, 9), line(0, 8), count=0, rng=generator())
    assert order.tolist() in ([1, 0, 2], [1, 2, 0])
    assert distances.tolist() == [3, 1, 1]


@given(st.integers(0, 2**32), st.integers(0, 12), st.integers(0, 4), st.integers(0, 15))
@settings(deadline=None, max_examples=80)
def test_every_point_comes_once_and_as_far_as_an_independent_computation_says(seed, n, m, count):
    rng = np.random.default_rng(seed)
    points, chosen = rng.normal(size=(n, 3)), rng.normal(size=(m, 3))
    order, distances = k_center_greedy(points, chosen, count=count, rng=generator(seed))
    assert sorted(order.tolist()) == list(range(n))
    for place in range(n):
        picked = order[: min(place, count)]
        centres = np.concatenate([chosen, points[picked]])
        if not len(centres):
            assert distances[place] == np.inf
            continue
        nearest = cdist(points, centres).min(axis=1)
        assert distances[place] == pytest.approx(nearest[order[place]])
        assert distances[place] >= nearest[order[place:]].max() - 1e-9  # the farthest of the rest


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_the_picks_cover_the_pool_within_twice_the_best_radius(seed):
    # The bound of greedy k-center (Gonzalez 1985), against every choice of two of eight.
    points = np.random.default_rng(seed).normal(size=(8, 2))
    order, _ = k_center_greedy(points, np.empty((0, 2)), count=2, rng=generator(seed))
    apart = cdist(points, points)
    best = min(apart[:, [a, b]].min(axis=1).max() for a in range(8) for b in range(a + 1, 8))
    assert apart[:, order[:2]].min(axis=1).max() <= 2 * best + 1e-9


def test_nothing_to_order_is_no_order_whatever_is_chosen():
    order, distances = k_center_greedy(np.empty((0, 0)), line(1), count=3, rng=generator())
    assert order.shape == distances.shape == (0,)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_half_precision_and_whole_numbers_are_taken_and_not_written_into(dtype):
    points, chosen = np.array([[3], [1], [7]], dtype), np.array([[0]], dtype)
    points.setflags(write=False)
    order, distances = k_center_greedy(points, chosen, count=3, rng=generator())
    # 7; then 3 (3 from 0) and 1.
    assert order.tolist() == [2, 0, 1]
    assert distances.tolist() == [7, 3, 1]


def test_squares_of_half_precision_do_not_overflow():
    points = np.array([[60000.0], [-60000.0]], np.float16)
    _, distances = k_center_greedy(points, points[:1], count=2, rng=generator())
    assert distances[0] == pytest.approx(2 * float(points[0, 0]))


@pytest.mark.parametrize(
    ("features", "chosen", "count", "message"),
    [
        (line(1, np.nan), NOBODY, 1, r"features must be \(N, D\) and finite, got shape \(2, 1\)"),
        (line(1), line(np.inf), 1, "chosen must be"),
        ([1.0, 2.0], NOBODY, 1, r"got shape \(2,\)"),
        ([["a"]], NOBODY, 1, "features must be"),
        (line(1), [[1.0, 2.0]], 1, "features have 1 columns and chosen 2"),
        (line(1), NOBODY, -1, "count must be 0 or more, got -1"),
    ],
)
def test_bad_arguments_are_refused(features, chosen, count, message):
    with pytest.raises(ValueError, match=message):
        k_center_greedy(features, chosen, count=count, rng=generator())


def test_random_batches_hold_everyone_once_and_only_the_last_is_incomplete():
    batches = random_batches(4, 10, generator())
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(np.concatenate(batches).tolist()) == list(range(10))
    assert random_batches(4, 0, generator()) == []
    with pytest.raises(ValueError, match="size must be 1 or more, got 0"):
        random_batches(0, 3, generator())


def test_everyone_is_as_likely_to_be_in_the_first_batch():
    first = Counter(int(i) for seed in range(600) for i in random_batches(2, 6, generator(seed))[0])
    assert stats.chisquare(list(first.values())).pvalue > 1e-3
