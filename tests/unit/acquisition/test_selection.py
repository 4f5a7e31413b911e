"""The order of serving."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from fair_strategy.acquisition.selection import (
    REASONS,
    Candidate,
    balanced_random,
    exact_shares,
    percentiles,
    quotas,
    rank,
)

WEIGHTS = {"A": 0.5, "B": 1.5}
NAN = float("nan")
POOLS = st.lists(
    st.tuples(
        st.sampled_from("ABC"),
        st.one_of(st.sampled_from([0.0, 0.3, 0.5]), st.floats(0, 1), st.just(NAN)),
        st.sampled_from([(), (), (), ("volume",)]),
    ),
    max_size=40,
)


def generator(seed=0):
    return np.random.default_rng(seed)


def pool(entropies):
    """Candidates a0, a1, ... of group A, and so on, from lists of entropies."""
    return [
        Candidate(f"{group.lower()}{index}", group, entropy)
        for group, values in entropies.items()
        for index, entropy in enumerate(values)
    ]


def order(candidates, weights=WEIGHTS, seed=0, **options):
    return [c.case_id for c in rank(candidates, weights, rng=generator(seed), **options)]


def test_the_utility_is_weight_times_entropy_highest_first():
    ranked = rank(pool({"A": [0.6, 0.2], "B": [0.3, 0.1]}), WEIGHTS, rng=generator())
    # A: 0.30, 0.10; B: 0.45, 0.15
    assert [c.case_id for c in ranked] == ["b0", "a0", "b1", "a1"]
    assert [c.utility for c in ranked] == pytest.approx([0.45, 0.30, 0.15, 0.10])
    assert [c.weight for c in ranked] == [1.5, 0.5, 1.5, 0.5]
    assert [c.case_entropy for c in ranked] == [0.3, 0.6, 0.1, 0.2]
    assert {c.reason for c in ranked} == {""}


@given(
    POOLS,
    st.one_of(st.none(), st.integers(1, 50)),
    st.one_of(st.none(), st.integers(1, 9)),
    st.integers(0, 5),
)
@settings(deadline=None, max_examples=120)
def test_every_candidate_comes_once_whatever_the_options_and_the_order_of_input(
    cases, quota_batch, audit_every, number_first
):
    candidates = [Candidate(f"c{i}", *case) for i, case in enumerate(cases)]
    options = {"quota_batch": quota_batch, "audit_every": audit_every}
    options["first"] = [f"c{i}" for i in range(number_first)]
    weights = {"A": 0.0, "B": 1.0, "C": 2.0}
    ranked = rank(candidates, weights, rng=generator(), **options)
    assert sorted(c.case_id for c in ranked) == sorted(c.case_id for c in candidates)
    assert {c.reason for c in ranked} <= set(REASONS)
    backwards = rank(candidates[::-1], weights, rng=generator(), **options)
    assert [c.case_id for c in backwards] == [c.case_id for c in ranked]
    sections = [_section(c) for c in ranked]
    assert sections == sorted(sections)


def _section(case):
    if case.reason == "validation":
        return 0
    if case.reason == "implausible":
        return 1
    return 3 if np.isnan(case.case_entropy) else 2


@given(POOLS)
@settings(deadline=None, max_examples=50)
def test_without_quotas_and_audits_the_order_is_that_of_a_sort(cases):
    candidates = [Candidate(f"c{i}", group, e) for i, (group, e, _) in enumerate(cases)]
    weights = {"A": 0.25, "B": 1.0, "C": 1.75}
    ranked = rank(candidates, weights, rng=generator())
    scored = [c.utility for c in ranked if not np.isnan(c.utility)]
    expected = [weights[g] * e for g, e, _ in cases if not np.isnan(e)]
    assert scored == sorted(expected, reverse=True)


def test_ties_are_broken_by_the_generator_and_not_by_the_names():
    candidates = pool({"A": [0.4] * 5})
    heads = Counter(order(candidates, seed=seed)[0] for seed in range(400))
    assert len(heads) == 5
    assert stats.chisquare(list(heads.values())).pvalue > 1e-3
    assert order(candidates, seed=3) == order(candidates, seed=3)


def test_a_weight_of_zero_leaves_the_order_by_entropy():
    candidates = pool({"A": [0.1, 0.6, 0.3], "B": [0.2]})
    assert order(candidates, {"A": 0.0, "B": 2.0}) == ["b0", "a1", "a2", "a0"]


def test_validation_cases_come_first_and_in_random_order():
    candidates = pool({"A": [0.9, 0.1, 0.2, NAN], "B": [0.5]})
    first = ["a1", "a3", "a2", "labelled-already"]
    heads = {tuple(order(candidates, first=first, seed=seed)[:3]) for seed in range(60)}
    assert all(set(head) == {"a1", "a2", "a3"} for head in heads)
    assert len(heads) == 6
    ranked = rank(candidates, WEIGHTS, rng=generator(), first=first)
    assert [c.reason for c in ranked] == ["validation"] * 3 + [""] * 2


def test_implausible_cases_come_before_the_scored_with_the_largest_entropy_of_the_pool():
    candidates = [
        *pool({"A": [0.6], "B": [0.1]}),
        Candidate("x", "A", 0.01, ("empty",)),
        Candidate("y", "B", 0.02, ("volume", "side")),
        Candidate("z", "B", NAN, ("empty",)),
    ]
    ranked = rank(candidates, WEIGHTS, rng=generator())
    assert {c.case_id for c in ranked[:2]} == {"y", "z"}
    assert [c.case_id for c in ranked[2:]] == ["x", "a0", "b0"]
    assert [c.utility for c in ranked[:3]] == pytest.approx([0.9, 0.9, 0.3])
    assert [c.reason for c in ranked] == ["implausible"] * 3 + [""] * 2
    assert next(c for c in ranked if c.case_id == "x").case_entropy == 0.01


def test_an_implausible_case_of_the_highest_entropy_keeps_it():
    ranked = rank(
        [Candidate("x", "A", 0.7, ("volume",)), Candidate("y", "A", 0.2)], WEIGHTS, rng=generator()
    )
    assert ranked[0].utility == pytest.approx(0.35)


def test_cases_without_a_score_come_last_in_random_order():
    candidates = pool({"A": [NAN] * 4 + [0.0], "B": [NAN]})
    tails = Counter(order(candidates, seed=seed)[1] for seed in range(300))
    assert len(tails) == 5
    ranked = rank(candidates, WEIGHTS, rng=generator())
    assert ranked[0].case_id == "a4"
    assert all(np.isnan(c.utility) for c in ranked[1:])


def test_flagged_cases_without_any_score_are_ordered_by_weight():
    candidates = [Candidate("x", "A", NAN, ("empty",)), Candidate("y", "B", NAN, ("empty",))]
    assert order(candidates) == ["y", "x"]


def test_a_batch_of_four_at_weights_one_to_three_holds_one_and_three():
    # By utility alone all of B would come first: 1.5 x 0.5 > 0.5 x 1.
    candidates = pool(
        {"A": [1.0 - i / 100 for i in range(8)], "B": [0.7 - i / 100 for i in range(8)]}
    )
    assert order(candidates)[:8] == [f"b{i}" for i in range(8)]
    ranked = rank(candidates, WEIGHTS, rng=generator(), quota_batch=4)
    ids = [c.case_id for c in ranked]
    for start in (0, 4):
        assert Counter(i[0] for i in ids[start : start + 4]) == {"a": 1, "b": 3}
    assert [i for i in ids[:8] if i[0] == "b"] == [f"b{n}" for n in range(6)]
    assert [i for i in ids[:8] if i[0] == "a"] == ["a0", "a1"]
    assert {c.case_id: c.reason for c in ranked[:8]} == {
        i: "quota" if i[0] == "a" else "" for i in ids[:8]
    }
    # Two of B are left for the third batch: A fills it.
    assert Counter(i[0] for i in ids[8:12]) == {"a": 2, "b": 2}
    assert ids[12:] == ["a4", "a5", "a6", "a7"]


def test_a_batch_without_conflict_is_in_plain_order_without_a_reason():
    candidates = pool({"A": [0.9, 0.3], "B": [0.3, 0.1]})
    ranked = rank(candidates, {"A": 1.0, "B": 1.0}, rng=generator(), quota_batch=4)
    assert [c.utility for c in ranked] == [0.9, 0.3, 0.3, 0.1]
    assert {c.reason for c in ranked} == {""}


def test_a_group_that_weighs_nothing_is_served_when_the_others_are_gone():
    candidates = pool({"A": [0.9, 0.8, 0.7], "B": [0.3]})
    assert order(candidates, {"A": 0.0, "B": 2.0}, quota_batch=2) == ["b0", "a0", "a1", "a2"]


def test_a_batch_larger_than_the_pool_serves_the_pool():
    # Utilities 0.6, 0.45, 0.3.
    candidates = pool({"A": [0.9], "B": [0.4, 0.2]})
    assert order(candidates, quota_batch=100) == ["b0", "a0", "b1"]


def test_an_empty_pool_gives_an_empty_order():
    assert rank([], {}, rng=generator(), quota_batch=3, audit_every=2, first=["x"]) == []


def test_every_fourth_place_is_an_audit_drawn_evenly_from_what_is_left_of_the_group():
    entropies = [1 - i / 100 for i in range(12)]
    candidates = pool({"A": entropies})
    drawn: Counter[str] = Counter()
    starts: Counter[int] = Counter()
    for seed in range(800):
        ranked = rank(candidates, {"A": 1.0}, rng=generator(seed), audit_every=4)
        audits = [place for place, c in enumerate(ranked) if c.reason == "audit"]
        start = audits[0]
        assert audits == [start, start + 4, start + 8]
        assert [c.case_id for c in ranked[:start]] == ["a0", "a1", "a2"][:start]
        starts[start] += 1
        if start == 3:
            drawn[ranked[3].case_id] += 1
        rest = [c.case_id for c in ranked if c.reason != "audit"]
        assert rest == sorted(rest, key=lambda case_id: int(case_id[1:]))
    assert set(starts) == {0, 1, 2, 3}
    assert stats.chisquare(list(starts.values())).pvalue > 1e-3
    assert set(drawn) == {f"a{i}" for i in range(3, 12)}
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-3


def test_audit_groups_follow_the_weights_with_and_without_batches():
    candidates = pool({"A": [0.9] * 30, "B": [0.1] * 30})
    for options in ({}, {"quota_batch": 8}):
        groups: Counter[str] = Counter()
        for seed in range(300):
            ranked = rank(candidates, WEIGHTS, rng=generator(seed), audit_every=8, **options)
            groups[next(c.subgroup for c in ranked if c.reason == "audit")] += 1
        assert groups["B"] / 300 == pytest.approx(0.75, abs=0.08)


def test_an_audit_slot_counts_in_its_batch():
    candidates = pool(
        {"A": [0.9 - i / 100 for i in range(20)], "B": [0.5 - i / 100 for i in range(20)]}
    )
    for seed in range(20):
        ranked = rank(candidates, WEIGHTS, rng=generator(seed), quota_batch=8, audit_every=8)
        for start in (0, 8, 16):
            batch = ranked[start : start + 8]
            assert Counter(c.subgroup for c in batch) == {"A": 2, "B": 6}
            assert [c.reason for c in batch].count("audit") == 1


def test_an_audit_at_every_place_is_a_random_order():
    candidates = pool({"A": [0.9, 0.5], "B": [0.4]})
    ranked = [rank(candidates, WEIGHTS, rng=generator(s), audit_every=1) for s in range(400)]
    assert {c.reason for r in ranked for c in r} == {"audit"}
    assert len({tuple(c.case_id for c in r) for r in ranked}) == 6


def counted_by_batch(ranked, size):
    """How many of each group the order holds after each batch."""
    seen, counts = Counter(), []
    for start in range(0, len(ranked), size):
        seen.update(c.subgroup for c in ranked[start : start + size])
        counts.append(dict(seen))
    return counts


@given(
    st.lists(st.floats(0.05, 5.0), min_size=2, max_size=5),
    st.integers(1, 12),
    st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=60)
def test_over_batches_every_group_gets_its_share_to_less_than_two_places(weights, size, seed):
    named = dict(zip("ABCDE", weights, strict=False))
    batches = 12
    candidates = pool({group: [0.5] * size * batches for group in named})
    ranked = rank(candidates, named, rng=generator(seed), quota_batch=size, audit_every=3)
    # One place for where the plan starts, one for where it has come to; half of each for two.
    bound = 1 if len(named) == 2 else 2
    for number, seen in enumerate(counted_by_batch(ranked[: size * batches], size), start=1):
        for group, weight in named.items():
            share = number * size * weight / sum(weights)
            assert abs(seen.get(group, 0) - share) <= bound + 1e-6


def test_a_group_whose_quota_rounds_to_nothing_gets_its_share_of_places_and_of_audits():
    # B's share of a batch of 10 is 0.4: by itself each batch would round it to 0.
    candidates = pool({"A": [0.9] * 60, "B": [0.1] * 60})
    weights = {"A": 1.92, "B": 0.08}
    assert quotas(10, weights, {"A": 60, "B": 60}, generator()) == {"A": 10, "B": 0}
    in_first_batch, audits = 0, Counter()
    for seed in range(150):
        ranked = rank(candidates, weights, rng=generator(seed), quota_batch=10, audit_every=2)
        of_b = [c.subgroup for c in ranked[:50]].count("B")
        assert 1 <= of_b <= 3  # 5 batches of 0.4 are 2 places
        in_first_batch += [c.subgroup for c in ranked[:10]].count("B")
        audits.update(c.subgroup for c in ranked[:50] if c.reason == "audit")
    assert in_first_batch / 150 == pytest.approx(0.4, abs=0.12)
    assert sum(audits.values()) == 150 * 25
    assert audits["B"] / sum(audits.values()) == pytest.approx(0.04, abs=0.01)


def test_equal_weights_make_every_batch_half_and_half_with_the_most_uncertain_of_each_first():
    candidates = pool(
        {"A": [0.9 - i / 100 for i in range(20)], "B": [0.3 - i / 100 for i in range(20)]}
    )
    for seed in range(20):
        ranked = rank(candidates, {"A": 1.0, "B": 1.0}, rng=generator(seed), quota_batch=10)
        for start in (0, 10, 20, 30):
            batch = [c.case_id for c in ranked[start : start + 10]]
            for group in "ab":
                own = [i for i in batch if i[0] == group]
                assert own == [f"{group}{i}" for i in range(start // 2, start // 2 + 5)]
            turns = "".join(i[0] for i in batch)
            assert turns in ("ababababab", "bababababa")


@pytest.mark.parametrize(("weights", "of_b"), [((1.0, 1.0), 0.5), ((0.8, 1.2), 0.6)])
@pytest.mark.parametrize("served", [1, 2, 3])
def test_a_batch_that_a_new_plan_cuts_short_keeps_its_shares(weights, of_b, served):
    # Every case of A is more uncertain than any of B.
    candidates = pool(
        {"A": [0.9 - i / 100 for i in range(20)], "B": [0.3 - i / 100 for i in range(20)]}
    )
    drawn = Counter()
    for seed in range(600):
        ranked = rank(
            candidates, dict(zip("AB", weights, strict=True)), rng=generator(seed), quota_batch=4
        )
        drawn.update(c.subgroup for c in ranked[:served])
    assert drawn["B"] / drawn.total() == pytest.approx(of_b, abs=0.05)


def test_what_is_owed_decides_where_the_shares_are_equal():
    left = {"A": 9, "B": 9}
    for seed in range(20):
        even = {"A": 1.0, "B": 1.0}
        shared = quotas(3, even, left, generator(seed), owed={"A": -0.5, "B": 0.5})
        assert shared == {"A": 1, "B": 2}
    # Owed more than there is: the last case of B, and the others go to A.
    assert quotas(3, even, {"A": 9, "B": 1}, generator(), owed={"B": 2.0}) == {"A": 2, "B": 1}
    # Given far in advance: nothing, and never less than nothing.
    assert quotas(2, even, left, generator(), owed={"B": -7.0}) == {"A": 2, "B": 0}
    # Weight 0 gets nothing, whatever it is owed, while others have cases.
    assert quotas(2, {"A": 1, "B": 0}, left, generator(), owed={"B": 5.0}) == {"A": 2, "B": 0}


@given(
    st.integers(0, 30),
    st.dictionaries(
        st.sampled_from("ABCDE"),
        st.tuples(st.floats(0, 3), st.integers(0, 9), st.floats(-3, 3)),
    ),
)
@settings(deadline=None, max_examples=150)
def test_quotas_fill_the_batch_whatever_is_owed(size, groups):
    weights, left, owed = ({g: v[k] for g, v in groups.items()} for k in range(3))
    shared = quotas(size, weights, left, generator(), owed=owed)
    assert sum(shared.values()) == min(size, sum(left.values()))
    assert all(0 <= shared[group] <= left[group] for group in left)
    exact = exact_shares(size, weights, left)
    assert sum(exact.values()) == pytest.approx(min(size, sum(left.values())))
    assert all(0 <= exact[group] <= left[group] + 1e-9 for group in left)


@pytest.mark.parametrize(
    ("size", "weights", "left", "expected"),
    [
        # 10 places at 5:3:2.
        (10, {"A": 5, "B": 3, "C": 2}, {"A": 99, "B": 99, "C": 99}, {"A": 5, "B": 3, "C": 2}),
        # 4.17, 2.33, 1.5 of 8: floors 4, 2, 1; the place left goes to C's 0.5.
        (8, {"A": 25, "B": 14, "C": 9}, {"A": 99, "B": 99, "C": 99}, {"A": 4, "B": 2, "C": 2}),
        # A has one case only: its other places go to B and C at 3:2.
        (6, {"A": 5, "B": 3, "C": 2}, {"A": 1, "B": 9, "C": 9}, {"A": 1, "B": 3, "C": 2}),
        (4, {"A": 0, "B": 1}, {"A": 9, "B": 9}, {"A": 0, "B": 4}),
        (4, {"A": 0, "B": 1}, {"A": 9, "B": 3}, {"A": 1, "B": 3}),
        (4, {"A": 0, "B": 0}, {"A": 9, "B": 9}, {"A": 2, "B": 2}),
        (9, {"A": 1, "B": 1}, {"A": 2, "B": 0}, {"A": 2, "B": 0}),
        (0, {"A": 1}, {"A": 2}, {"A": 0}),
        (3, {"A": 1}, {}, {}),
    ],
)
def test_quotas_worked_by_hand(size, weights, left, expected):
    assert quotas(size, weights, left, generator()) == expected


@given(
    st.integers(0, 30),
    st.dictionaries(
        st.sampled_from("ABCDE"),
        st.tuples(st.sampled_from([0.0, 0.1, 1.0, 2.5]), st.integers(0, 9)),
    ),
)
@settings(deadline=None, max_examples=150)
def test_quotas_fill_the_batch_and_stay_within_the_groups(size, groups):
    weights = {name: weight for name, (weight, _) in groups.items()}
    left = {name: number for name, (_, number) in groups.items()}
    shared = quotas(size, weights, left, generator())
    assert sum(shared.values()) == min(size, sum(left.values()))
    assert all(0 <= shared[name] <= left[name] for name in left)
    total = sum(weights.values())
    if total and all(number >= size for number in left.values()):
        for name, number in shared.items():  # the quota rule of the largest remainder
            assert abs(number - size * weights[name] / total) < 1


def test_equal_remainders_are_drawn_evenly():
    winners = Counter(
        max(shared, key=shared.get)
        for shared in (
            quotas(1, {"A": 1, "B": 1, "C": 1}, dict.fromkeys("ABC", 5), generator(s))
            for s in range(300)
        )
    )
    assert stats.chisquare(list(winners.values())).pvalue > 1e-3
    assert len(winners) == 3


@pytest.mark.parametrize(
    ("candidates", "weights", "options", "message"),
    [
        (pool({"A": [0.1]}) * 2, WEIGHTS, {}, r"must be unique, got \['a0'\] more than once"),
        (pool({"Z": [0.1]}), WEIGHTS, {}, r"no weight for subgroup 'Z'; weights has \['A', 'B'\]"),
        (
            pool({"A": [-0.1]}),
            WEIGHTS,
            {},
            "case_entropy of a0 must be 0 or more, or NaN, got -0.1",
        ),
        (pool({"A": [np.inf]}), WEIGHTS, {}, "case_entropy of a0 must be"),
        (pool({"A": [0.1]}), {"A": NAN}, {}, "weight of 'A' must be 0 or more, got nan"),
        (pool({"A": [0.1]}), {"A": -1.0}, {}, "weight of 'A' must be 0 or more"),
        ([], {}, {"quota_batch": 0}, "quota_batch must be 1 or more, or None, got 0"),
        ([], {}, {"audit_every": 0}, "audit_every must be 1 or more, or None, got 0"),
    ],
)
def test_bad_arguments_are_refused(candidates, weights, options, message):
    with pytest.raises(ValueError, match=message):
        rank(candidates, weights, rng=generator(), **options)


def test_balanced_random_takes_one_of_each_group_in_turn():
    ids = [f"a{i}" for i in range(6)] + [f"b{i}" for i in range(3)] + ["c0"]
    found = balanced_random(ids, [i[0] for i in ids], rng=generator())
    assert sorted(found) == sorted(ids)
    assert sorted(i[0] for i in found[:3]) == ["a", "b", "c"]
    assert sorted(i[0] for i in found[3:5]) == sorted(i[0] for i in found[5:7]) == ["a", "b"]
    assert [i[0] for i in found[7:]] == ["a"] * 3


def test_balanced_random_depends_on_the_generator_only():
    ids, groups = ["x", "y", "z"], ["A", "B", "A"]
    expected = balanced_random(ids, groups, rng=generator(5))
    assert balanced_random(ids[::-1], groups[::-1], rng=generator(5)) == expected
    heads = Counter(balanced_random(ids, groups, rng=generator(s))[0] for s in range(400))
    assert heads["y"] / 400 == pytest.approx(0.5, abs=0.08)
    assert heads["x"] / 400 == pytest.approx(0.25, abs=0.08)


def test_balanced_random_of_nothing_is_nothing_and_bad_input_is_refused():
    assert balanced_random([], [], rng=generator()) == []
    with pytest.raises(ValueError, match="2 case_ids and 1 groups"):
        balanced_random(["a", "b"], ["A"], rng=generator())
    with pytest.raises(ValueError, match="must be unique"):
        balanced_random(["a", "a"], ["A", "B"], rng=generator())


def test_percentiles_worked_by_hand():
    # 0.1 has half of itself below: 1/8; the two of 0.3: 1 + 2/2 of 4; 0.9: 3.5 of 4.
    assert percentiles([0.3, 0.9, 0.3, 0.1]).tolist() == [50.0, 87.5, 50.0, 12.5]
    np.testing.assert_equal(percentiles([NAN, 7.0]), [NAN, 50.0])
    assert percentiles([]).shape == (0,)
    assert np.isnan(percentiles([NAN, NAN])).all()
    with pytest.raises(ValueError, match="one-dimensional"):
        percentiles([[1.0]])


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75]), min_size=1))
@settings(deadline=None, max_examples=40)
def test_percentiles_agree_with_scipys_mean_of_ranks(values):
    expected = [stats.percentileofscore(values, value, kind="mean") for value in values]
    np.testing.assert_allclose(percentiles(values), expected)
