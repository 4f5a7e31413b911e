"""Each figure of the dashboard from a few numbers, worked by hand."""

from pathlib import Path

import pytest

from fair_strategy.store.comparisons import ComparisonRecord
from fair_strategy.store.models import ModelRecord
from fair_strategy.store.readings import Agreement
from fair_strategy.store.work import WorkRecord
from fair_strategy.workflows.overview.agreement import agreed_groups
from fair_strategy.workflows.overview.counts import counted
from fair_strategy.workflows.overview.performance import Terms, above, measured_version
from fair_strategy.workflows.overview.training import trained_model
from fair_strategy.workflows.overview.work import worked_groups

NAN = float("nan")
MODEL = ModelRecord("c" * 64, Path("model.pt"), "trained", 1000.0, {})


def compared(case_id: str, dice: float) -> ComparisonRecord:
    return ComparisonRecord(
        case_id, MODEL.checksum, "digest", dice, 1.0,
        seen=False, unchanged=False, selection_probability=None, created_at=0.0,
    )  # fmt: skip


def version(dice: dict[str, list[float]], *, floor: float | None = None, min_cell: int = 2):
    rows, subgroups = [], {}
    for group, values in dice.items():
        subgroups[f"{group}-not-measured"] = group
        for number, value in enumerate(values):
            subgroups[f"{group}{number}"] = group
            rows.append(compared(f"{group}{number}", value))
    return above(measured_version(3, MODEL, rows, Terms(min_cell, subgroups)), floor)


def test_means_intervals_and_gap_of_two_subgroups():
    # A: mean 0.9, SD sqrt(0.02) = 0.141421, / sqrt 2 = 0.1, t(1, .975) = 12.7062: +- 1.27062.
    # B: mean 0.6. Gap 0.3; with a floor of 0.05 the excess is 0.25. Welch: +- 0.608486.
    found = version({"A": [0.8, 1.0], "B": [0.5, 0.7]}, floor=0.05)
    a, b = found.groups
    assert (a.subgroup, a.n, a.mean) == ("A", 2, pytest.approx(0.9))
    assert (a.low, a.high) == (pytest.approx(-0.37062, abs=1e-4), pytest.approx(2.17062, abs=1e-4))
    assert (b.n, b.mean) == (2, pytest.approx(0.6))
    gap = found.gap
    assert (gap.best_group, gap.worst_group) == ("A", "B")
    assert gap.value == pytest.approx(0.3)
    assert gap.excess == pytest.approx(0.25)
    assert (gap.low, gap.high) == (
        pytest.approx(-0.308487, abs=1e-6),
        pytest.approx(0.908487, abs=1e-6),
    )
    assert gap.excess_low == pytest.approx(-0.358487, abs=1e-6)


def test_without_a_floor_there_is_a_gap_and_no_excess():
    gap = version({"A": [0.8, 1.0], "B": [0.5, 0.7]}).gap
    assert (gap.excess, gap.excess_low, gap.excess_high) == (None, None, None)


def test_a_small_subgroup_takes_the_next_with_it_and_the_gap_too():
    found = version({"A": [0.9] * 9, "B": [0.8] * 4, "C": [0.7] * 6}, min_cell=5)
    assert [(g.subgroup, g.suppressed, g.n) for g in found.groups] == [
        ("A", False, 9), ("B", True, None), ("C", True, None),
    ]  # fmt: skip
    assert all(g.mean is None and g.low is None for g in found.groups if g.suppressed)
    assert found.gap is None
    assert "fewer than 5" in found.note


def test_an_absent_subgroup_is_there_with_n_0_and_undefined_dice_is_left_out():
    found = version({"A": [0.9, 0.8, NAN], "B": []})
    a, b = found.groups
    assert (a.n, a.mean) == (2, pytest.approx(0.85))
    assert (b.subgroup, b.n, b.mean, b.suppressed) == ("B", 0, None, False)
    assert found.gap is None
    assert found.note == "fewer than two subgroups have a measured case"


def test_one_case_has_a_mean_and_no_interval():
    (a,) = version({"A": [0.9]}, min_cell=1).groups
    assert (a.mean, a.low, a.high) == (0.9, None, None)


def test_places_are_counted_by_subgroup():
    subgroups = {f"a{i}": "A" for i in range(12)} | {f"b{i}": "B" for i in range(12)}
    places = {f"a{i}": "labelled" if i < 6 else "pool" for i in range(12)}
    places |= {f"b{i}": "labelled" if i < 7 else "pool" for i in range(12)}
    a, b = counted(places, subgroups, min_cell=5)
    assert (a.subgroup, a.labelled, a.pool, a.excluded) == ("A", 6, 6, 0)
    assert (b.labelled, b.pool, b.excluded) == (7, 5, 0)


def test_one_excluded_scan_is_hidden_with_three_more_cells():
    subgroups = {f"a{i}": "A" for i in range(20)} | {f"b{i}": "B" for i in range(20)}
    places = dict.fromkeys(subgroups, "pool") | {f"a{i}": "labelled" for i in range(8)}
    places |= {f"b{i}": "labelled" for i in range(9)} | {"b19": "excluded"}
    # A: 8 labelled, 12 pool, 0 excluded; B: 9, 10, 1. Covers of the 1: with labelled 8 + 9 + 0,
    # with pool 12 + 10 + 0. The first hides fewer.
    a, b = counted(places, subgroups, min_cell=5)
    assert (a.labelled, a.pool, a.excluded) == (None, 12, None)
    assert (b.labelled, b.pool, b.excluded) == (None, 10, None)


def test_a_study_without_scans_has_no_rows():
    assert counted({}, {}, min_cell=5) == ()
    assert worked_groups([], {}, min_cell=5) == ()


def test_time_and_edits_are_medians_with_quartiles_of_what_is_known():
    subgroups = {f"a{i}": "A" for i in range(5)} | {f"b{i}": "B" for i in range(5)}
    rows = [WorkRecord(f"a{i}", "d", "r", 60.0 * (i + 1), 100.0, 0.0, None) for i in range(5)]
    rows += [WorkRecord(f"b{i}", "d", "r", 30.0, None if i else 5.0, 0.0, None) for i in range(5)]
    a, b = worked_groups(rows, subgroups, min_cell=5)
    # 60 120 180 240 300: median 180, quartiles 120 and 240.
    assert (a.timed, a.seconds.low, a.seconds.median, a.seconds.high) == (5, 120, 180, 240)
    assert (b.timed, b.seconds.median) == (5, 30)
    # One edit of B is known: hidden, and A's five with it.
    assert (a.edited, a.edited_mm3, b.edited, b.edited_mm3) == (None, None, None, None)


def test_a_scan_with_several_labels_counts_once_with_their_mean():
    subgroups = {f"a{i}": "A" for i in range(5)} | {f"b{i}": "B" for i in range(5)}
    rows = [WorkRecord(f"a{i}", r, r, 60.0, None, 0.0, None) for i in range(5) for r in "xy"]
    rows += [WorkRecord(f"b{i}", r, r, 60.0, None, 0.0, None) for i in range(3) for r in "xy"]
    # Six labels of three persons: they stay hidden, and A's with them.
    assert [g.timed for g in worked_groups(rows, subgroups, min_cell=5)] == [None, None]
    rows += [WorkRecord(f"b{i}", "x", "x", 30.0, None, 0.0, None) for i in (3, 4)]
    rows += [WorkRecord(f"b{i}", "y", "y", 50.0, None, 0.0, None) for i in (3, 4)]
    rows += [WorkRecord("b0", "z", "consensus", None, None, 0.0, None)]
    a, b = worked_groups(rows, subgroups, min_cell=5)
    # 60 60 60 and twice (30 + 50) / 2: median 60, lower quartile 40.
    assert (a.timed, b.timed, b.seconds.low, b.seconds.median) == (5, 5, 40, 60)


def agreed(case_id, dice, surface_distance_mm, pair="xy"):
    return Agreement(case_id, *pair, dice, surface_distance_mm, 0.0)


def test_agreement_is_the_mean_of_the_pairs_of_a_scan_and_then_median_and_quartiles():
    subgroups = {f"a{i}": "A" for i in range(5)} | {f"b{i}": "B" for i in range(5)}
    pairs = [agreed(f"a{i}", 0.5 + 0.1 * i, 1.0) for i in range(4)]
    # a4: pairs of 0.8, 0.9 and 1.0, mean 0.9; one distance of 2 mm and two that are not defined.
    pairs += [agreed("a4", d, s, p) for d, s, p in ((0.8, 2.0, "xy"), (0.9, NAN, "xz"),
                                                    (1.0, NAN, "yz"))]  # fmt: skip
    pairs += [agreed(f"b{i}", 0.75, NAN if i < 5 else 1.0) for i in range(5)]
    a, b = agreed_groups(pairs, subgroups, min_cell=5)
    # 0.5 0.6 0.7 0.8 0.9; distances 1 1 1 1 2.
    assert (a.n, a.n_surface, b.n, b.n_surface) == (5, 5, 5, 0)
    assert a.dice.median == pytest.approx(0.7)
    assert (a.dice.low, a.dice.high) == (pytest.approx(0.6), pytest.approx(0.8))
    assert a.surface_distance_mm.high == pytest.approx(1.0)
    assert b.surface_distance_mm is None


def test_agreement_of_a_few_scans_is_hidden_and_that_of_the_next_subgroup_with_it():
    subgroups = {f"{g}{i}": g.upper() for g in "abc" for i in range(9)}
    pairs = [agreed(f"a{i}", 0.9, 1.0, p) for i in range(9) for p in ("xy", "xz", "yz")]
    pairs += [agreed(f"b{i}", 0.9, 1.0, p) for i in range(4) for p in ("xy", "xz", "yz")]
    pairs += [agreed(f"c{i}", 0.9, 1.0) for i in range(6)]
    found = agreed_groups(pairs, subgroups, min_cell=5)
    assert [(g.subgroup, g.n, g.dice is None) for g in found] == [
        ("A", 9, False), ("B", None, True), ("C", None, True),
    ]  # fmt: skip
    assert agreed_groups([], {}, min_cell=5) == ()


STATISTICS = {
    "training_cases": 11,
    "steps": 40,
    "best_step": 30,
    "loss": 0.3,
    "overall": 0.8,
    "best_metric": 0.7,
    "by_group": {"A": {"mean": 0.9, "n": 5}, "B": {"mean": 0.7, "n": 5}},
    "objective": {
        "name": "group_dro",
        "cases": {"A": 6, "B": 5},
        "history": [{"step": 20, "loss": {"A": 0.4, "B": None}, "q": {"A": 0.4, "B": 0.6}}],
    },
}


def trained(**changed):
    record = ModelRecord("c" * 64, Path("m.pt"), "trained", 1000.0, STATISTICS | changed)
    return trained_model(2, record, current=True, min_cell=5)


def test_training_tells_its_course_by_subgroup():
    found = trained()
    assert (found.number, found.training_cases, found.steps, found.current) == (2, 11, 40, True)
    assert (found.dice, found.worst_group_dice, found.loss) == (0.8, 0.7, 0.3)
    (row,) = found.progress
    assert (row.step, row.loss, row.q) == (20, {"A": 0.4, "B": None}, {"A": 0.4, "B": 0.6})
    assert found.note == ""


def test_training_on_few_cases_of_a_subgroup_tells_nothing_by_subgroup():
    found = trained(objective=STATISTICS["objective"] | {"cases": {"A": 6, "B": 2}})
    (row,) = found.progress
    assert (row.loss, row.q) == ({}, {})
    assert "loss and q suppressed" in found.note


def test_a_validation_on_few_cases_of_a_subgroup_tells_no_dice():
    found = trained(by_group={"A": {"mean": 0.9, "n": 5}, "B": {"mean": 0.7, "n": 4}})
    assert (found.dice, found.worst_group_dice) == (None, None)
    assert "Dice suppressed" in found.note


def test_a_shipped_model_has_no_training_to_tell():
    record = ModelRecord("c" * 64, Path("m.pt"), "shipped", 1000.0, {})
    found = trained_model(1, record, current=False, min_cell=5)
    assert (found.objective, found.loss, found.dice, found.progress) == (None, None, None, ())
