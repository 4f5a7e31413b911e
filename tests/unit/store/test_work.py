"""What a label cost, what was revealed, why a case was given back, and handing it out again."""

import dataclasses
import time

import pytest

from fair_strategy.store import UnknownCaseError, cases, plans


@pytest.fixture
def clock(monkeypatch):
    """The wall clock of the store: ``clock.now`` is what it shows."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(time, "time", lambda: Clock.now)
    return Clock


def submit(study, case_id, client_id, clock, *, digest=None, edited_mm3=None):
    record = study.label(
        case_id,
        client_id=client_id,
        created_at=clock.now,
        digest=digest or f"{client_id}-{clock.now}",
    )
    cases.save_label(study.store, record, by_reader=True, edited_mm3=edited_mm3)
    return record


def take_again(study, case_id, client_id, *, now=0.0):
    return plans.take_again(study.store, case_id, client_id, now=now, lease_s=60.0)


def seconds(study):
    [row] = cases.work(study.store)
    return row.seconds


def test_the_time_of_a_label_runs_from_handing_out_to_submitting(study, clock):
    study.take("ann")
    clock.now += 75.0
    label = submit(study, "c0", "ann", clock, edited_mm3=16.0)
    assert cases.work(study.store) == [
        cases.WorkRecord("c0", label.digest, "ann", 75.0, 16.0, clock.now, None)
    ]


def test_a_clock_that_was_set_back_leaves_the_time_unknown(study, clock):
    study.take("ann")
    clock.now -= 500.0
    submit(study, "c0", "ann", clock)
    assert seconds(study) is None


def test_a_label_of_a_case_that_was_never_handed_to_its_client_has_no_time(study, clock):
    study.take("ann")
    clock.now += 5.0
    submit(study, "c0", "bob", clock)
    assert seconds(study) is None


def test_submitting_once_more_without_a_handout_counts_no_time_twice(study, clock):
    study.take("ann")
    clock.now += 60.0
    submit(study, "c0", "ann", clock, digest="same")
    clock.now += 60.0
    submit(study, "c0", "ann", clock, digest="same")
    assert seconds(study) == 60.0
    submit(study, "c0", "ann", clock, digest="another")
    assert seconds(study) is None
    assert len(cases.work(study.store, superseded=True)) == 2


def test_the_time_after_a_reopening_is_its_own_and_adds_up_for_the_same_mask(study, clock):
    study.take("ann")
    clock.now += 60.0
    submit(study, "c0", "ann", clock, digest="same")
    clock.now += 1000.0
    assert take_again(study, "c0", "ann").case_id == "c0"
    clock.now += 7.0
    submit(study, "c0", "ann", clock, digest="same")
    assert seconds(study) == 67.0
    take_again(study, "c0", "ann")
    clock.now += 9.0
    submit(study, "c0", "ann", clock, digest="corrected")
    assert seconds(study) == 9.0


def test_a_mask_found_in_the_folder_and_a_draft_tag_are_nobodys_work(study, clock):
    study.save("c0")
    record = study.label("c1", tag="draft")
    cases.save_label(study.store, record, by_reader=True)
    assert cases.work(study.store, superseded=True) == []


def test_a_label_and_its_work_are_written_together_or_not_at_all(study, clock):
    broken = dataclasses.replace(study.label("c0"), seen_model=object())
    with pytest.raises(Exception, match="type"):
        cases.save_label(study.store, broken, by_reader=True)
    assert cases.work(study.store, superseded=True) == []
    assert cases.label(study.store, "c0") is None


def test_only_a_case_from_an_audit_slot_is_revealed_and_once(study, clock):
    for client in ("ann", "bob", "eve"):
        study.take(client)  # c2, the third, is the audit slot
    assert plans.revealed(study.store, "c0", "ann") is None
    assert plans.revealed(study.store, "c2", "eve") is False
    for case_id, client in (("c0", "ann"), ("c2", "bob"), ("c2", "eve"), ("c2", "eve")):
        plans.reveal(study.store, case_id, client)
        clock.now += 1.0
    assert plans.revealed(study.store, "c0", "ann") is None
    assert plans.revealed(study.store, "c2", "bob") is None
    assert plans.revealed(study.store, "c2", "eve") is True
    rows = study.store.read().execute("SELECT * FROM reveals").fetchall()
    assert [tuple(row) for row in rows] == [("c2", "eve", 1002.0)]


def test_being_shown_the_prediction_of_an_audit_slot_by_any_way_is_a_reveal(study, clock):
    for client in ("ann", "bob", "eve"):
        study.take(client)
    plans.set_seen_model(study.store, "c2", "eve", "model-a")
    assert plans.revealed(study.store, "c2", "eve") is True
    submit(study, "c2", "eve", clock)
    [row] = cases.work(study.store)
    assert row.revealed is True


def test_a_reason_is_kept_with_the_skip_and_only_by_the_holder(study, clock):
    study.take("ann", now=0.0)
    names = {"now": 1.0, "cool_down_s": 30.0, "reason": "not readable"}
    assert not plans.release(study.store, "c0", "bob", **names)
    assert plans.release(study.store, "c0", "ann", **names)
    assert cases.skip_reasons(study.store) == [
        cases.SkipRecord("c0", "ann", "not readable", 1000.0)
    ]
    assert study.take("ann", now=2.0) == "c1"


def test_an_excluded_case_is_held_by_nobody_and_handed_to_nobody_until_it_is_put_back(study):
    study.take("ann", now=0.0)
    cases.exclude(study.store, "c0", "blurred", by="ann")
    record = cases.case(study.store, "c0")
    assert (record.excluded, record.excluded_by) == ("blurred", "ann")
    assert plans.lease_of(study.store, "c0") is None
    assert study.take("bob", now=1.0) == "c1"
    cases.exclude(study.store, "c0", None)
    record = cases.case(study.store, "c0")
    assert (record.excluded, record.excluded_by) == (None, None)
    assert study.take("eve", now=2.0) == "c0"


def test_a_case_taken_again_is_a_new_decision_on_the_same_row_and_keeps_its_label(study, clock):
    study.take("ann")
    label = submit(study, "c0", "ann", clock)
    study.take("ann")
    clock.now += 10.0
    again = take_again(study, "c0", "ann", now=5.0)
    newest, _, first = plans.decisions(study.store)
    assert (newest.case_id, newest.position, newest.plan_id) == ("c0", 0, first.plan_id)
    assert (again.decision_id, again.created_at) == (newest.decision_id, clock.now)
    assert cases.label(study.store, "c0") == label
    lease = plans.lease_of(study.store, "c0")
    assert (lease.client_id, lease.expires_at) == ("ann", 65.0)
    # What ann held goes back without a pause: it is hers again, or the next colleague's.
    assert plans.lease_of(study.store, "c1") is None
    assert study.take("ann", now=6.0) == "c1"


def test_taking_an_excluded_case_again_puts_it_back(study):
    study.take("ann")
    cases.exclude(study.store, "c0", "blurred", by="ann")
    assert take_again(study, "c0", "ann").case_id == "c0"
    assert cases.case(study.store, "c0").excluded is None
    assert "c0" in cases.unlabelled_ids(study.store)


def test_a_case_that_a_colleague_holds_or_that_was_never_ones_own_is_not_taken_again(study):
    study.take("ann", now=0.0, lease_s=60.0)
    assert study.take("bob", now=61.0) == "c0"
    assert take_again(study, "c0", "ann", now=62.0) is None
    assert plans.lease_of(study.store, "c0").client_id == "bob"
    with pytest.raises(UnknownCaseError, match="never handed out"):
        take_again(study, "c3", "ann", now=62.0)
    assert plans.lease_of(study.store, "c3") is None


def test_the_percentile_of_a_case_is_that_of_the_newest_plan_that_lists_it(study):
    assert plans.percentile_of(study.store, "c3") == 97.0
    study.plan("c3", "c4")
    assert plans.percentile_of(study.store, "c3") == 100.0
    assert plans.percentile_of(study.store, "c5") == 95.0
    assert plans.percentile_of(study.store, "nobody") != plans.percentile_of(study.store, "nobody")
