"""One suite that every query strategy passes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fair_strategy.acquisition.pool import (
    MUTUAL_INFORMATION,
    WHOLE_VOLUME,
    Features,
    Pool,
    PoolCase,
)
from fair_strategy.acquisition.strategies import (
    NEEDS_FEATURES,
    NEEDS_PASSES,
    NEEDS_SCORES,
    STRATEGIES,
    can_order,
)

every_strategy = pytest.mark.parametrize("name", STRATEGIES)


def pool_of(entropies, groups, *, first=(), flagged=(), scored=True, **options):
    cases = tuple(
        PoolCase(
            f"sub-{i:02d}_T1w",
            group,
            {"masked_mean": e, WHOLE_VOLUME: e / 100, MUTUAL_INFORMATION: e / 10} if scored else {},
            ("empty",) if i in flagged else (),
        )
        for i, (e, group) in enumerate(zip(entropies, groups, strict=True))
    )
    weights = {"A": 0.5, "B": 1.5, "unknown": 1.0}
    if scored and "features" not in options:
        options["features"] = features_of(cases)
        options["labelled_features"] = Features.of({"sub-90_T1w": [0.0, 0.0]})
    return Pool(cases, weights, first=frozenset(cases[i].case_id for i in first), **options)


def features_of(cases):
    """Of all but every sixth case; those of equal entropy are equal."""
    some = (c for n, c in enumerate(cases) if n % 6 != 5 or len(cases) == 20)
    return Features.of({c.case_id: [np.nan_to_num(c.entropies["masked_mean"]), 1] for c in some})


def ids(ranked):
    return [row.case_id for row in ranked]


@every_strategy
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_case_stands_in_the_order_exactly_once(name, data):
    n = data.draw(st.integers(0, 30))
    pool = pool_of(
        data.draw(st.lists(st.floats(0, 0.69), min_size=n, max_size=n)),
        data.draw(st.lists(st.sampled_from(["A", "B", "unknown"]), min_size=n, max_size=n)),
        first=[i for i in range(n) if i % 7 == 3],
        flagged=[i for i in range(n) if i % 5 == 2],
        quota_batch=data.draw(st.integers(0, 6)),
        audit_every=data.draw(st.integers(0, 4)),
    )
    order = ids(STRATEGIES[name](pool, np.random.default_rng(0)))
    assert sorted(order) == sorted(c.case_id for c in pool.cases)


@every_strategy
def test_the_same_seed_gives_the_same_order_whatever_the_order_of_the_pool(name):
    pool = pool_of([0.3] * 12, "AB" * 6, quota_batch=4, audit_every=3, first=[5])
    turned = replace(pool, cases=pool.cases[::-1])
    one = ids(STRATEGIES[name](pool, np.random.default_rng(7)))
    assert one == ids(STRATEGIES[name](turned, np.random.default_rng(7)))


@every_strategy
def test_ties_are_broken_by_the_seed_and_not_by_the_name(name):
    pool = pool_of([0.3] * 20, "A" * 20)
    orders = {tuple(ids(STRATEGIES[name](pool, np.random.default_rng(s)))) for s in range(5)}
    assert len(orders) == 5


@every_strategy
def test_the_validation_set_is_handed_out_before_all_others(name):
    pool = pool_of([0.1, 0.2, 0.3, 0.4], "ABAB", first=[0, 1], flagged=[3])
    ranked = STRATEGIES[name](pool, np.random.default_rng(1))
    assert set(ids(ranked)[:2]) == {"sub-00_T1w", "sub-01_T1w"}
    assert [row.reason for row in ranked[:2]] == ["validation"] * 2


@every_strategy
def test_a_pool_survives_the_way_through_json(name):
    pool = pool_of([0.1, 0.2, 0.3, 0.4], "ABAB", first=[1], flagged=[2], quota_batch=2)
    with_features = name in NEEDS_FEATURES
    again = Pool.from_json(json.loads(json.dumps(pool.to_json(with_features=with_features))))
    if not with_features:
        assert len(again.features) == len(again.labelled_features) == 0
        again = replace(again, features=pool.features, labelled_features=pool.labelled_features)
    assert again == pool
    assert ids(STRATEGIES[name](again, np.random.default_rng(3))) == ids(
        STRATEGIES[name](pool, np.random.default_rng(3))
    )


@every_strategy
def test_an_unscored_pool_still_has_an_order(name):
    pool = pool_of([0.1] * 6, "ABABAB", scored=False)
    assert len(STRATEGIES[name](pool, np.random.default_rng(0))) == 6
    assert can_order(name, pool) == (name not in NEEDS_SCORES)


@every_strategy
def test_weight_and_utility_are_numbers_or_nan_and_the_order_writes_into_nothing(name):
    pool = pool_of([0.3, 0.1, 0.2, 0.4, 0.6, 0.5], "ABABAB", flagged=[1], quota_batch=2)
    before = pool.to_json()
    for row in STRATEGIES[name](pool, np.random.default_rng(0)):
        assert row.weight >= 0
        assert np.isnan(row.utility) or 0 <= row.utility < np.inf
    assert pool.to_json() == before


@every_strategy
def test_a_plan_kept_by_an_earlier_release_is_still_read(name):
    pool = pool_of([0.1, 0.2, 0.3, 0.4], "ABAB", quota_batch=2)
    plain = pool.to_json(with_features=False)
    del plain["weighted_score"]
    again = Pool.from_json(plain)
    if name not in NEEDS_FEATURES:
        assert ids(STRATEGIES[name](again, np.random.default_rng(3))) == ids(
            STRATEGIES[name](pool, np.random.default_rng(3))
        )
    assert again.cases == pool.cases


def test_the_default_strategy_comes_first():
    assert list(STRATEGIES) == [
        *("weighted_entropy", "masked_entropy", "entropy", "balanced_random", "random"),
        *("bald", "core_set", "stochastic_batches"),
    ]
    assert set(STRATEGIES) >= NEEDS_SCORES >= NEEDS_PASSES | NEEDS_FEATURES


def test_weights_turn_the_order_of_entropy_around():
    # utilities: A .6 x .5 = .3, B .4 x 1.5 = .6
    pool = pool_of([0.6, 0.4], "AB")
    rng = np.random.default_rng(0)
    assert ids(STRATEGIES["masked_entropy"](pool, rng)) == ["sub-00_T1w", "sub-01_T1w"]
    assert ids(STRATEGIES["weighted_entropy"](pool, rng)) == ["sub-01_T1w", "sub-00_T1w"]


def test_a_confident_empty_prediction_goes_ahead_of_uncertain_ones():
    pool = pool_of([float("nan"), 0.6, 0.5], "AAA", flagged=[0])
    for name in ("weighted_entropy", "masked_entropy"):
        first = STRATEGIES[name](pool, np.random.default_rng(0))[0]
        assert (first.case_id, first.reason) == ("sub-00_T1w", "implausible")


def test_standard_entropy_knows_neither_flags_nor_weights():
    pool = pool_of([0.01, 0.6, 0.5], "BAA", flagged=[0])
    order = ids(STRATEGIES["entropy"](pool, np.random.default_rng(0)))
    assert order == ["sub-01_T1w", "sub-02_T1w", "sub-00_T1w"]


def test_balanced_random_takes_the_subgroups_in_turn():
    pool = pool_of([0.1] * 9, "AAAAAABBB")
    ranked = STRATEGIES["balanced_random"](pool, np.random.default_rng(0))
    for turn in range(3):
        assert {row.subgroup for row in ranked[2 * turn : 2 * turn + 2]} == {"A", "B"}
