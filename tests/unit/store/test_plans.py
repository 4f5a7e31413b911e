"""Plans as they are stored, kept, closed and pruned."""

import math

import numpy as np
import pytest

from fair_strategy.store import cases, plans
from fair_strategy.store.plans import PlanRecord, PlanRow


def test_a_plan_comes_back_with_everything_it_was_made_from(empty):
    empty.sync("a", "b")
    record = PlanRecord(
        plan_id=None,
        strategy="weighted_entropy",
        model=None,
        settings_version=3,
        seed=2**62,
        weights={"a": 1.0},
        performance={"a": {"mean": 0.5, "interval": [0.1, 0.9]}},
        inputs={"candidates": [["a", "unknown", 0.1, ["volume"]]]},
        created_at=8.0,
        note="first",
    )
    rows = [
        PlanRow(0, "b", "unknown", 0.25, 0.5, 75.0, "implausible"),
        PlanRow(1, "a", "unknown", math.nan, math.nan, math.nan, ""),
    ]
    plan_id = plans.add_plan(empty.store, record, rows)
    found = plans.plan(empty.store, plan_id)
    assert found == PlanRecord(**vars(record) | {"plan_id": plan_id})
    assert plans.latest_plan(empty.store, "weighted_entropy") == found
    stored = plans.rows(empty.store, plan_id)
    assert stored[0] == rows[0]
    assert (stored[1].case_id, stored[1].reason) == ("a", "")
    assert all(map(math.isnan, (stored[1].score, stored[1].utility, stored[1].percentile)))


def test_a_snapshot_stays_as_long_as_a_plan_was_made_from_it(study):
    def snapshots():
        return study.store.read().execute("SELECT count(*) FROM plan_inputs").fetchone()[0]

    before = snapshots()
    shared = {"inputs": {"candidates": ["of both"]}}
    taken_from = study.plan("c1", strategy="random", **shared)
    study.plan("c2", strategy="entropy", **shared)
    assert snapshots() == before + 1
    assert study.take("ann", strategy="random") == "c1"
    for number in range(5):
        study.plan("c2", strategy="entropy", inputs={"candidates": [number]})
        study.plan("c2", strategy="random", inputs={"candidates": [number]})
    assert snapshots() == before + 1 + plans.KEPT_PLANS
    assert plans.plan(study.store, taken_from).inputs == shared["inputs"]


def test_numbers_of_numpy_come_back_as_numbers(study):
    record = plans.latest_plan(study.store, "weighted_entropy")
    row = PlanRow(np.int64(0), "c1", "a", np.float32(0.5), np.float32(0.25), np.float64(75), "")
    stored = plans.rows(study.store, plans.add_plan(study.store, record, [row]))
    assert stored == [PlanRow(0, "c1", "a", 0.5, 0.25, 75.0, "")]


def test_the_newest_plan_of_a_strategy_is_its_latest(study):
    other = study.plan("c0", strategy="random", model=None)
    newer = study.plan("c3", note="stamp")
    assert plans.latest_plan(study.store, "random").plan_id == other
    head = plans.plan_head(study.store, "weighted_entropy")
    assert (head.plan_id, head.model, head.note) == (newer, "model-a", "stamp")
    assert plans.plan_head(study.store, "entropy") is None
    assert plans.latest_plan(study.store, "entropy") is None


def test_a_new_plan_serves_from_then_on(study):
    assert study.take("ann") == "c0"
    study.plan("c4", "c5")
    assert study.take("bob") == "c4"


def test_plans_that_nothing_was_taken_from_are_pruned_and_the_others_stay(study):
    first = plans.latest_plan(study.store, "weighted_entropy").plan_id
    assert study.taken("ann").plan_id == first
    other = study.plan("c0", strategy="random")
    later = [study.plan("c1") for _ in range(5)]
    kept = [
        row[0] for row in study.store.read().execute("SELECT plan_id FROM plans ORDER BY plan_id")
    ]
    assert kept == [first, other, *later[-plans.KEPT_PLANS :]]
    assert len(plans.rows(study.store, first)) == 6
    with pytest.raises(LookupError, match=f"no plan {later[0]}"):
        plans.plan(study.store, later[0])
    listed = study.store.read().execute("SELECT DISTINCT plan_id FROM plan_rows ORDER BY plan_id")
    assert [row[0] for row in listed] == kept


def test_a_case_labelled_while_the_plan_was_made_is_not_handed_out(study):
    study.save("c0")
    study.plan("c0", "c1")
    assert study.take("ann") == "c1"


def test_a_row_for_an_unknown_case_leaves_no_half_plan(study):
    before = plans.plan_head(study.store, "weighted_entropy")
    with pytest.raises(Exception, match="FOREIGN KEY"):
        study.plan("c0", "zz")
    assert plans.plan_head(study.store, "weighted_entropy") == before


@pytest.mark.parametrize(
    "close",
    [
        lambda s: s.save("c0"),
        lambda s: cases.exclude(s.store, "c0", "artefact"),
        lambda s: cases.mark_unreadable(s.store, "c0", "10-1", "truncated"),
        lambda s: s.sync("c1", "c2", "c3", "c4", "c5"),
    ],
    ids=["labelled", "excluded", "unreadable", "gone"],
)
def test_a_case_that_can_no_longer_be_asked_for_is_passed_over(study, close):
    close(study)
    assert study.take("ann") == "c1"


@pytest.mark.parametrize(
    ("close", "reopen"),
    [
        (lambda s: s.save("c0"), lambda s: cases.delete_label(s.store, "c0", "final")),
        (
            lambda s: cases.exclude(s.store, "c0", "artefact"),
            lambda s: cases.exclude(s.store, "c0", None),
        ),
        (
            lambda s: cases.mark_unreadable(s.store, "c0", "10-1", "truncated"),
            lambda s: cases.add(s.store, s.scans("c0", fingerprint="10-2")[0]),
        ),
        (lambda s: s.sync("c1"), lambda s: s.sync("c0", "c1")),
    ],
    ids=["label deleted", "included", "replaced", "back"],
)
def test_a_case_that_can_be_asked_for_again_gets_its_place_back(study, close, reopen):
    close(study)
    reopen(study)
    assert study.take("ann") == "c0"


def test_a_draft_under_another_tag_leaves_the_case_in_the_plan(study):
    study.save("c0", tag="original")
    assert study.take("ann") == "c0"


def test_every_strategys_newest_plan_learns_of_a_label(study):
    study.plan("c0", "c2", strategy="random")
    study.save("c0")
    assert study.take("ann") == "c1"
    assert study.take("bob", strategy="random") == "c2"


def test_a_large_plan_is_seen_when_its_last_row_is_there(study, monkeypatch):
    monkeypatch.setattr(plans, "_ROWS_AT_ONCE", 2)
    real, seen = plans._insert_rows, []

    def noted(connection, plan_id, values):
        seen.append(plans.plan_head(study.store, "entropy"))
        real(connection, plan_id, values)

    monkeypatch.setattr(plans, "_insert_rows", noted)
    study.save("c1")
    ids = [f"c{n}" for n in range(6)]
    written = study.plan(*ids, strategy="entropy")
    assert seen == [None, None, None]
    assert plans.plan_head(study.store, "entropy").plan_id == written
    assert [row.case_id for row in plans.rows(study.store, written)] == ids
    taken = [study.take(f"reader {n}", strategy="entropy") for n in range(6)]
    assert taken == ["c0", "c2", "c3", "c4", "c5", None]


def test_a_plan_that_a_killed_process_left_half_written_is_never_followed_and_goes(
    study, monkeypatch
):
    monkeypatch.setattr(plans, "_ROWS_AT_ONCE", 2)
    real, left = plans._insert_rows, iter(range(2))

    def killed_in_the_second(connection, plan_id, values):
        if next(left) == 1:
            raise KeyboardInterrupt
        real(connection, plan_id, values)

    monkeypatch.setattr(plans, "_insert_rows", killed_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        study.plan("c0", "c1", "c2", strategy="entropy")
    monkeypatch.setattr(plans, "_insert_rows", real)
    half = study.store.read().execute("SELECT max(plan_id) FROM plans").fetchone()[0]
    assert len(plans.rows(study.store, half)) == 2
    assert study.take("ann", strategy="entropy") is None
    study.plan("c0", "c1", "c2", strategy="entropy")
    assert plans.rows(study.store, half) == []
    with pytest.raises(LookupError):
        plans.plan(study.store, half)


def test_large_plans_are_pruned_whole(study, monkeypatch):
    monkeypatch.setattr(plans, "_ROWS_AT_ONCE", 2)
    made = [study.plan(*[f"c{n}" for n in range(6)]) for _ in range(5)]
    kept = [plan_id for plan_id in made if plans.rows(study.store, plan_id)]
    assert kept == made[-3:]
    count = study.store.read().execute("SELECT count(*) FROM plan_rows").fetchone()[0]
    assert count == 3 * 6
