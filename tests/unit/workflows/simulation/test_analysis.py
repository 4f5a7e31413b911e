"""The analysis of made tables: planted effects, independent numbers, what is missing."""

import numpy as np
import pandas as pd
import pytest
from scipy import integrate

from fair_strategy.metrics import fairness
from fair_strategy.workflows.simulation.analysis import analyse
from fair_strategy.workflows.simulation.analysis_tables import (
    COLUMNS,
    TableError,
    read_tables,
)
from tests.simulation_tables import RUN_JSON, made, write

SMALL = {"biases": ("strong",), "rounds": 3, "n_test": 30}


@pytest.fixture(scope="module")
def strong(tmp_path_factory):
    return write(tmp_path_factory.mktemp("strong"), made(**SMALL))


@pytest.fixture(scope="module")
def tables(strong):
    return read_tables(strong)


@pytest.fixture(scope="module")
def found(tables):
    return analyse(tables)


@pytest.fixture
def parts():
    return made(biases=("strong",), rounds=2, n_test=6, seeds=3)


def only(table, **wanted):
    for name, value in wanted.items():
        table = table[table[name] == value]
    assert len(table) == 1, wanted
    return table.iloc[0]


def final_gaps(tables, arm):
    """|A - B| of each seed's mean test Dice in the last round, from cases.csv alone."""
    cases = tables.cases[(tables.cases.arm == arm)]
    cases = cases[cases["round"] == cases["round"].max()]
    means = cases.groupby(["seed", "subgroup"]).dice.mean().unstack()
    return (means.A - means.B).abs()


def test_gap_and_reduction_are_those_of_the_cases_themselves(tables, found):
    own, entropy = final_gaps(tables, "weighted_entropy"), final_gaps(tables, "entropy")
    floor = final_gaps(tables, "whole_pool")
    row = only(found.summary, arm="weighted_entropy")
    assert row.gap == pytest.approx(own.mean(), abs=1e-12)
    assert row.excess == pytest.approx((own - floor).mean(), abs=1e-12)
    assert row.gap_reduction == pytest.approx(1 - own.mean() / entropy.mean(), abs=1e-12)
    ratio = (own - floor).mean() / (entropy - floor).mean()
    assert row.excess_reduction == pytest.approx(1 - ratio, abs=1e-12)


def test_the_measures_of_a_round_are_those_over_its_cases(tables, found):
    cases = tables.cases[(tables.cases.arm == "random") & (tables.cases.seed == 2)]
    cases = cases[cases["round"] == 3]
    row = only(found.measures, arm="random", seed=2, round=3)
    scores, groups = cases.dice, list(cases.subgroup)
    assert row.overall == pytest.approx(scores.mean(), abs=1e-12)
    assert row.ser == pytest.approx(fairness.skewed_error_ratio(scores, groups), abs=1e-9)
    for variant in ("fairseg", "std"):
        expected = fairness.equity_scaled(scores, groups, variant=variant)
        assert row[f"equity_{variant}"] == pytest.approx(expected, abs=1e-12)
    assert (row.worst, row.worst_group) == (
        pytest.approx(scores[cases.subgroup == "B"].mean(), abs=1e-12),
        "B",
    )


def test_measures_over_cases_weigh_groups_by_their_number_of_test_cases(tmp_path, parts):
    rounds = parts["rounds"]
    rounds.loc[rounds.subgroup == "A", "n_test"] = 9
    rounds.loc[rounds.subgroup == "B", "n_test"] = 3
    found = analyse(read_tables(write(tmp_path, parts)))
    own = rounds[(rounds.arm == "random") & (rounds.seed == 1) & (rounds["round"] == 1)]
    a, b = own.dice
    row = only(found.measures, arm="random", seed=1, round=1)
    assert row.overall == pytest.approx((9 * a + 3 * b) / 12)


def test_the_planted_order_comes_out_and_its_intervals_lie_on_the_right_side(found):
    summary = found.summary.set_index("arm")
    assert summary.gap["weighted_entropy"] < summary.gap["random"] < summary.gap["entropy"]
    row = summary.loc["weighted_entropy"]
    assert 0.2 < row.gap_reduction_low < row.gap_reduction < row.gap_reduction_high < 1
    assert row.gap_low < row.gap < row.gap_high
    test = only(found.tests, arm="weighted_entropy", reference="entropy", measure="gap")
    assert (test.p, test.seeds) == (2 / 256, 8)
    assert test.high < 0


def test_paired_differences_are_those_of_the_seeds(tables, found):
    difference = final_gaps(tables, "random") - final_gaps(tables, "balanced_random")
    row = only(found.tests, arm="random", reference="balanced_random", measure="gap")
    assert row.difference == pytest.approx(difference.mean(), abs=1e-12)
    excess = only(found.tests, arm="random", reference="balanced_random", measure="excess")
    assert excess.p == row.p  # both arms have the same floor


def test_without_an_effect_no_arm_is_told_from_another(tmp_path):
    null = made(**SMALL, effect=0.0, generator=3)
    found = analyse(read_tables(write(tmp_path, null)))
    tests = found.tests[found.tests.measure == "gap"]
    assert len(tests) == 12  # of 5 arms: 2 others against 3 references, each of these against 2
    assert (tests.p <= 0.05).sum() <= 2
    row = only(found.summary, arm="weighted_entropy")
    assert row.gap_reduction_low < 0 < row.gap_reduction_high


def test_levelling_down_is_flagged_where_a_group_loses_more_than_a_hundredth(tmp_path, parts):
    rounds = parts["rounds"]
    last = (rounds["round"] == 2) & (rounds.subgroup == "A")
    rounds.loc[last, "dice"] = 0.90
    rounds.loc[last & (rounds.arm == "weighted_entropy"), "dice"] = 0.895
    rounds.loc[last & (rounds.arm == "random"), "dice"] = 0.885
    groups = analyse(read_tables(write(tmp_path, parts))).groups
    fine = only(groups, arm="weighted_entropy", subgroup="A")
    assert (fine.to_entropy, fine.down) == (pytest.approx(-0.005), False)
    lower = only(groups, arm="random", subgroup="A")
    assert (lower.to_balanced_random, lower.down) == (pytest.approx(-0.015), True)


def test_the_area_of_an_arm_is_the_mean_of_its_seeds_areas(tables, found):
    runs = found.measures[(found.measures.arm == "entropy")]
    areas = [
        integrate.trapezoid(run.gap, run.n_labelled) / (run.n_labelled.max() - run.n_labelled.min())
        for _, run in runs.groupby("seed")
    ]
    assert only(found.summary, arm="entropy").aubc_gap == pytest.approx(np.mean(areas))


def test_a_score_that_follows_volume_is_told_from_one_that_follows_quality(found):
    volume = found.volume[found.volume.model == "first"].set_index("score")
    assert volume.fixed_quality["masked_sum"] > 0.8
    assert abs(volume.fixed_quality["masked_mean"]) < 0.3
    assert set(volume.runs) == {8}  # the first model is shared: each seed counts once


def test_composition_counts_the_labelled_scans(found):
    first = found.composition[found.composition["round"] == 0]
    assert set(first[first.subgroup == "B"].labelled) == {1.0}
    sums = found.composition.groupby(["arm", "round"]).share.sum()
    np.testing.assert_allclose(sums, 1)


def test_another_arm_changes_no_number_of_the_others(tmp_path, found):
    fewer = made(**SMALL, arms=("weighted_entropy", "entropy", "random"))
    other = analyse(read_tables(write(tmp_path, fewer)))
    columns = ["gap", "gap_low", "gap_high", "gap_reduction_low", "excess_reduction_high"]
    for arm in ("weighted_entropy", "random"):
        assert list(only(other.summary, arm=arm)[columns]) == list(
            only(found.summary, arm=arm)[columns]
        )


# -------------------------------------------------------------------- what is missing


def test_a_run_that_is_still_going_is_compared_in_the_seeds_that_are_done(tmp_path, parts):
    going = parts["rounds"]
    behind = (going.arm == "weighted_entropy") & (going.seed == 2) & (going["round"] == 2)
    parts["rounds"] = going[~behind]
    found = analyse(read_tables(write(tmp_path, parts)))
    row = only(found.summary, arm="weighted_entropy")
    assert (row.seeds, row.gap_reduction_seeds) == (2, 2)
    assert only(found.summary, arm="entropy").seeds == 3
    assert any("weighted_entropy 2 of 3" in note for note in found.notes)


def test_without_a_whole_pool_model_there_is_no_excess_and_that_is_said(tmp_path):
    parts = made(biases=("strong",), rounds=2, n_test=6, seeds=3, whole_pool=False)
    found = analyse(read_tables(write(tmp_path, parts)))
    row = only(found.summary, arm="weighted_entropy")
    assert np.isnan([row.excess, row.excess_low, row.excess_reduction]).all()
    assert not np.isnan(row.gap_low)
    assert any("no floor" in note for note in found.notes)


def test_an_arm_planned_for_fewer_seeds_is_compared_in_those_and_is_not_called_unfinished(
    tmp_path, parts
):
    for name, table in parts.items():
        parts[name] = table[~((table.arm == "masked_entropy") & (table.seed > 1))]
    tables = read_tables(write(tmp_path, parts))
    found = analyse(tables)
    row = only(found.summary, arm="masked_entropy")
    own, entropy = final_gaps(tables, "masked_entropy"), final_gaps(tables, "entropy")
    assert row.gap_reduction == pytest.approx(1 - own.mean() / entropy[:2].mean())
    assert (row.seeds, row.gap_reduction_seeds) == (2, 2)
    assert found.notes == ()


def test_no_reduction_is_told_against_an_excess_that_may_be_nothing(tmp_path, parts):
    for name in ("rounds", "cases"):
        table = parts[name]
        floor = table[table.arm == "whole_pool"]
        keys = ["seed", "subgroup"] if name == "rounds" else ["seed", "case_id"]
        same = table.merge(floor[[*keys, "dice"]], on=keys, how="left", suffixes=("", "_floor"))
        is_last = (same.arm == "entropy") & (same["round"] == 2)
        table["dice"] = np.where(is_last, same.dice_floor + 1e-9, same.dice)
    found = analyse(read_tables(write(tmp_path, parts)))
    row = only(found.summary, arm="random")
    assert np.isnan([row.excess_reduction, row.excess_reduction_low]).all()
    assert not np.isnan([row.gap_reduction, row.excess_low]).any()


def test_an_arm_of_one_bias_only_is_in_that_bias_only(tmp_path):
    parts = made(rounds=2, n_test=6, seeds=2)
    for name, table in parts.items():
        parts[name] = table[~((table.bias == "weak") & (table.arm == "entropy"))]
    found = analyse(read_tables(write(tmp_path, parts)))
    weak = found.summary[found.summary.bias == "weak"]
    assert "entropy" not in set(weak.arm)
    assert weak.gap_reduction.isna().all()
    assert any("weak bias" in note and "entropy" in note for note in found.notes)


def test_a_group_that_has_no_surface_distance_leaves_the_rest_standing(tmp_path, parts):
    parts["rounds"]["surface_distance_mm"] = np.nan
    parts["cases"]["surface_distance_mm"] = np.nan
    found = analyse(read_tables(write(tmp_path, parts)))
    assert found.summary.gap_mm.isna().all()
    assert found.summary.gap.notna().all()
    row = only(found.groups, arm="random", subgroup="B")
    assert row.without_mm == 3 * 6


def test_one_seed_gives_numbers_but_no_interval(tmp_path):
    parts = made(biases=("strong",), rounds=2, n_test=6, seeds=1)
    found = analyse(read_tables(write(tmp_path, parts)))
    row = only(found.summary, arm="weighted_entropy")
    assert row.gap > 0
    assert np.isnan([row.gap_low, row.gap_reduction_low]).all()
    assert any("one seed" in note for note in found.notes)


def test_whole_brains_are_a_setting_of_their_own_with_their_own_floor(tmp_path, parts):
    brain = {"weighted_entropy": "weighted_brain", "entropy": "entropy_brain"}
    brain["whole_pool"] = "whole_pool_brain"
    for name, table in parts.items():
        copy = table[table.arm.isin(brain)].assign(arm=lambda t: t.arm.map(brain))
        if name in ("rounds", "cases"):
            low = (copy.arm == "whole_pool_brain") & (copy.subgroup == "B")
            copy.loc[low, "dice"] -= 0.1
        parts[name] = pd.concat([table, copy], ignore_index=True)
    arms = {name: {"field_of_view": "brain"} for name in brain.values()}
    run = {**RUN_JSON, "configuration": {"arms": arms}}
    found = analyse(read_tables(write(tmp_path, parts, run)))
    assert found.settings() == [("strong", "imbalanced"), ("strong", "imbalanced, brain")]
    roles = found.roles["strong", "imbalanced, brain"]
    assert (roles["headline"], roles["entropy"]) == ("weighted_brain", "entropy_brain")
    usual = only(found.summary, arm="weighted_entropy")
    other = only(found.summary, arm="weighted_brain")
    assert other.gap == usual.gap
    assert other.excess == pytest.approx(usual.excess - 0.1)


def test_weights_carried_over_are_a_setting_without_a_floor_of_its_own(tmp_path, parts):
    carried = {"weighted_entropy": "carry_over", "entropy": "entropy_carry_over"}
    for name, table in parts.items():
        copy = table[table.arm.isin(carried)].assign(arm=lambda t: t.arm.map(carried))
        parts[name] = pd.concat([table, copy], ignore_index=True)
    arms = {name: {"carry_over": True} for name in carried.values()}
    found = analyse(
        read_tables(write(tmp_path, parts, {**RUN_JSON, "configuration": {"arms": arms}}))
    )
    apart = ("strong", "imbalanced, weights carried over")
    assert found.settings() == [("strong", "imbalanced"), apart]
    assert found.roles[apart]["entropy"] == "entropy_carry_over"
    usual = only(found.summary, arm="weighted_entropy")
    other = only(found.summary, arm="carry_over")
    assert (other.gap, other.gap_reduction) == (usual.gap, usual.gap_reduction)
    assert np.isnan(other.excess)
    assert not np.isnan(usual.excess)


def test_the_headline_may_be_another_arm_but_one_that_exists(tables):
    assert (
        analyse(tables, headline="masked_entropy").roles["strong", "imbalanced"]["headline"]
        == "masked_entropy"
    )
    with pytest.raises(ValueError, match=r"arm 'best': expected one of weighted_entropy, entropy"):
        analyse(tables, headline="best")


# -------------------------------------------------------------------- tables that are refused


@pytest.mark.parametrize("name", COLUMNS)
def test_a_missing_table_and_missing_columns_are_named(tmp_path, parts, name):
    out = write(tmp_path, {**parts, name: parts[name].drop(columns=["seed", "subgroup"])})
    with pytest.raises(TableError, match=rf"{name}\.csv: the columns seed, subgroup are missing"):
        read_tables(out)
    (out / f"{name}.csv").unlink()
    with pytest.raises(TableError, match=rf"{name}\.csv: expected the table .*found none"):
        read_tables(out)


def test_a_bad_value_is_named_with_its_line(tmp_path, parts):
    parts["rounds"]["dice"] = parts["rounds"].dice.astype(object)
    parts["rounds"].loc[1, "dice"] = "high"
    with pytest.raises(TableError, match=r"rounds\.csv line 3: dice must be a number .* 'high'"):
        read_tables(write(tmp_path, parts))


def test_a_run_of_one_round_twice_is_refused(tmp_path, parts):
    parts["rounds"] = pd.concat([parts["rounds"], parts["rounds"].iloc[:1]])
    with pytest.raises(TableError, match=r"a second row of bias strong, start imbalanced"):
        read_tables(write(tmp_path, parts))


def test_tables_without_any_round_say_so(tmp_path, parts):
    with pytest.raises(TableError, match="no finished round yet"):
        read_tables(write(tmp_path, {**parts, "rounds": parts["rounds"].iloc[:0]}))


def test_the_whole_pool_alone_is_no_comparison(tmp_path, parts):
    floor = {name: table[table.arm == "whole_pool"] for name, table in parts.items()}
    with pytest.raises(TableError, match="no arm but the whole pool's"):
        analyse(read_tables(write(tmp_path, floor)))


def test_a_subgroup_called_na_is_a_name_and_not_a_missing_value(tmp_path, parts):
    for name in ("rounds", "cases", "selected", "scores"):
        parts[name]["subgroup"] = parts[name].subgroup.replace("A", "NA")
    found = analyse(read_tables(write(tmp_path, parts)))
    assert set(found.groups.subgroup) == {"NA", "B"}
