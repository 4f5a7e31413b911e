"""Several readers a case: who is offered what, what closes a case, what stays of whom."""

import dataclasses
import json
import sqlite3

import numpy as np
import pytest

from fair_strategy.store import UnknownCaseError, cases, plans, readings
from fair_strategy.store.erasure import erase_rows
from fair_strategy.store.readings import CONSENSUS, Agreement, reading_tag
from fair_strategy.store.settings import settings_version


def ask_for(study, readers):
    settings_version(study.store, json.dumps({"readers_per_case": readers}))


def read(study, case_id, client_id, *, digest="", created_at=10.0, **changes):
    record = study.label(
        case_id,
        reading_tag(client_id),
        client_id=client_id,
        digest=digest or f"{client_id} on {case_id}",
        created_at=created_at,
        **changes,
    )
    readings.save_reading(study.store, record)
    return record


def close(study, case_id, *, now=0.0, made_of=None, dice=0.75):
    found = readings.readings(study.store, case_id) if made_of is None else made_of
    names = sorted(record.client_id for record in found)
    pairs = [Agreement(case_id, names[0], name, dice, float("nan"), 20.0) for name in names[1:]]
    final = study.label(case_id, client_id=CONSENSUS, digest=f"made of {len(found)}")
    return readings.save_consensus(study.store, final, found, pairs, now=now)


def due(study, readers, now=0.0):
    return readings.unsettled(study.store, readers=readers, now=now)


@pytest.fixture
def double(study):
    ask_for(study, 2)
    return study


def test_a_case_stays_open_until_so_many_have_read_it_and_is_never_offered_twice_to_one(double):
    assert double.take("ann") == "c0"
    read(double, "c0", "ann")
    assert cases.unlabelled_ids(double.store)[0] == "c0"
    assert double.take("ann") == "c1"
    assert double.take("bob") == "c0"
    read(double, "c0", "bob")
    assert "c0" not in cases.unlabelled_ids(double.store)
    assert double.take("carl") == "c2"  # c0 waits for its final label, c1 is ann's


def test_what_readers_saw_is_told_until_their_case_has_its_final_label(double):
    read(double, "c0", "ann", seen_model="model-a")
    read(double, "c0", "bob", seen_model="model-b")
    read(double, "c1", "ann", seen_model="model-c")
    read(double, "c2", "ann", seen_model=None)
    assert readings.models_seen(double.store) == {"model-a", "model-b", "model-c"}
    assert close(double, "c0")
    assert readings.models_seen(double.store) == {"model-c"}


def test_one_reader_alone_gets_every_case_once_and_then_nothing(double):
    got = []
    while (case_id := double.take("ann")) is not None:
        got.append(case_id)
        read(double, case_id, "ann")
    assert got == [f"c{n}" for n in range(6)]
    assert len(cases.unlabelled_ids(double.store)) == 6


def test_a_started_case_comes_first_on_the_plan_row_of_its_first_reader(double):
    for expected in ("c0", "c1", "c2"):  # c2 is the audit slot
        assert double.take("ann") == expected
    read(double, "c2", "ann")
    double.plan("c5", "c4", "c3", "c2", "c1", "c0")
    taken = double.taken("bob")
    assert (taken.case_id, taken.plan_id, taken.position, taken.reason) == ("c2", 1, 2, "audit")
    assert taken.started
    assert plans.random_draws(double.store) == {"c2"}
    later = double.taken("carl")
    assert (later.case_id, later.plan_id, later.started) == ("c5", 2, False)


def test_a_started_case_that_a_reader_skips_goes_to_the_others_first(double):
    assert double.take("ann") == "c0"
    read(double, "c0", "ann")
    assert double.take("bob", now=1.0) == "c0"
    assert double.take("bob", now=2.0) == "c1"
    assert double.take("carl", now=3.0) == "c0"


def test_a_started_case_that_comes_back_after_a_skip_keeps_its_plan_row(double):
    for expected in ("c0", "c1", "c2"):  # c2 is the audit slot
        assert double.take("ann") == expected
    read(double, "c2", "ann")
    double.plan("c2")
    assert double.take("bob", now=1.0) == "c2"
    again = double.taken("bob", now=2.0)
    assert (again.case_id, again.plan_id, again.position, again.reason) == ("c2", 1, 2, "audit")
    assert again.started
    assert plans.random_draws(double.store) == {"c2"}


def test_a_skipped_started_case_takes_its_turn_among_the_other_skipped_ones(double):
    assert double.take("ann") == "c0"
    read(double, "c0", "ann")
    double.plan("c0", "c1", "c2")
    order = [double.take("bob", now=float(now), skip_s=1000.0) for now in range(6)]
    assert order == ["c0", "c1", "c2", "c0", "c1", "c2"]


def test_a_reading_ends_the_lease_of_its_reader_and_not_that_of_a_colleague(double):
    double.take("ann", now=0.0, lease_s=10.0)
    assert double.take("bob", now=20.0) == "c0"
    read(double, "c0", "ann")
    assert plans.lease_of(double.store, "c0").client_id == "bob"
    read(double, "c0", "bob")
    assert plans.lease_of(double.store, "c0") is None


def test_submitting_twice_replaces_ones_own_reading_and_no_other(double):
    read(double, "c0", "ann", digest="first")
    read(double, "c0", "bob")
    read(double, "c0", "ann", digest="second")
    found = {r.client_id: r.digest for r in readings.readings(double.store, "c0")}
    assert found == {"ann": "second", "bob": "bob on c0"}


def test_a_case_is_due_when_so_many_have_read_it_and_nobody_has_it_in_hand(double):
    read(double, "c0", "ann")
    assert due(double, 2) == []
    assert double.take("bob", now=0.0, lease_s=60.0) == "c0"
    read(double, "c0", "carl")
    assert due(double, 2, now=59.0) == []
    assert due(double, 2, now=60.0) == ["c0"]
    assert due(double, 3, now=60.0) == []


def test_the_final_label_is_made_once_and_again_after_a_reading_has_changed(double):
    read(double, "c0", "ann")
    read(double, "c0", "bob")
    assert close(double, "c0")
    assert cases.labelled_ids(double.store) == ["c0"]
    assert due(double, 2) == []
    read(double, "c0", "ann", digest="corrected")
    assert due(double, 2) == ["c0"]
    assert cases.labelled_ids(double.store) == ["c0"]


def test_a_final_label_made_of_readings_that_have_changed_since_is_not_taken(double):
    before = [read(double, "c0", "ann"), read(double, "c0", "bob")]
    read(double, "c0", "ann", digest="corrected")
    assert not close(double, "c0", made_of=before)
    assert cases.label(double.store, "c0") is None
    assert due(double, 2) == ["c0"]


def test_a_final_label_is_not_made_while_somebody_has_the_case(double):
    read(double, "c0", "ann")
    double.take("bob", now=0.0, lease_s=60.0)
    read(double, "c0", "carl")
    assert not close(double, "c0", now=59.0)
    assert plans.lease_of(double.store, "c0").client_id == "bob"
    assert close(double, "c0", now=60.0)


def test_agreement_is_that_of_the_first_final_label_until_a_reading_is_taken_out(double):
    read(double, "c0", "ann")
    read(double, "c0", "bob")
    close(double, "c0", dice=0.75)
    read(double, "c0", "ann", digest="after a look at the final label")
    close(double, "c0", dice=1.0)
    (kept,) = readings.agreements(double.store)
    assert (kept.first_client, kept.second_client, kept.dice) == ("ann", "bob", 0.75)
    assert np.isnan(kept.surface_distance_mm)
    cases.exclude(double.store, "c0", "blurred")
    assert readings.agreements(double.store) == []
    cases.exclude(double.store, "c0", None)
    cases.delete_label(double.store, "c0", reading_tag("ann"))
    assert readings.agreements(double.store) == []


def test_without_its_final_label_a_case_that_enough_have_read_is_due_and_not_open(double):
    read(double, "c0", "ann")
    read(double, "c0", "bob")
    close(double, "c0")
    cases.delete_label(double.store, "c0", "final")
    assert due(double, 2) == ["c0"]
    assert "c0" not in cases.unlabelled_ids(double.store)
    cases.delete_label(double.store, "c0", reading_tag("bob"))
    assert due(double, 2) == []
    assert double.take("bob") == "c0"


def test_labels_that_are_taken_out_together_leave_nothing_due_in_between(double):
    read(double, "c0", "ann")
    read(double, "c0", "bob")
    close(double, "c0")
    tags = ["final", reading_tag("ann"), reading_tag("bob")]
    with double.store.transaction() as connection:
        connection.execute(
            "CREATE TRIGGER late BEFORE DELETE ON readings "
            "BEGIN SELECT RAISE(ABORT, 'in between'); END"
        )
    with pytest.raises(sqlite3.Error, match="in between"):
        cases.delete_labels(double.store, "c0", tags)
    assert len(cases.labels(double.store)) == 3
    assert due(double, 2) == []
    with double.store.transaction() as connection:
        connection.execute("DROP TRIGGER late")
    assert cases.delete_labels(double.store, "c0", tags) == 3
    assert (cases.labels(double.store), due(double, 2)) == ([], [])
    assert "c0" in cases.unlabelled_ids(double.store)


def test_fewer_readers_than_before_make_half_read_cases_due_and_more_open_none(double):
    read(double, "c0", "ann")
    read(double, "c1", "ann")
    read(double, "c1", "bob")
    close(double, "c1")
    ask_for(double, 1)
    assert due(double, 1) == ["c0"]
    assert "c0" not in cases.unlabelled_ids(double.store)
    ask_for(double, 3)
    assert "c0" in cases.unlabelled_ids(double.store)
    assert "c1" not in cases.unlabelled_ids(double.store)


def test_two_readers_with_the_same_mask_have_each_their_own_work(double):
    assert double.take("ann") == "c0"
    read(double, "c0", "ann", digest="same", created_at=5e9)
    assert double.take("bob") == "c0"
    read(double, "c0", "bob", digest="same", created_at=6e9)
    found = cases.work(double.store)
    assert [(w.client_id, w.label_digest) for w in found] == [("ann", "same"), ("bob", "same")]
    assert found[1].seconds - found[0].seconds == pytest.approx(1e9, abs=60)


@pytest.mark.parametrize(("who_looked", "told"), [((), False), (("bob",), True)])
def test_a_final_label_tells_whether_any_of_its_readers_saw_the_hidden_prediction(
    double, who_looked, told
):
    assert [double.take("ann") for _ in range(3)] == ["c0", "c1", "c2"]  # c2 is an audit slot
    read(double, "c2", "ann")
    assert double.take("bob") == "c2"
    for client in who_looked:
        plans.reveal(double.store, "c2", client)
    read(double, "c2", "bob")
    close(double, "c2")
    found = {w.client_id: w for w in cases.work(double.store)}
    assert found[CONSENSUS].revealed is told
    assert (found[CONSENSUS].seconds, found[CONSENSUS].edited_mm3) == (None, None)


def test_of_a_final_label_without_a_known_reader_it_is_not_known_who_saw_the_prediction(double):
    assert [double.take("ann") for _ in range(3)] == ["c0", "c1", "c2"]
    read(double, "c2", "ann")
    read(double, "c2", "bob")  # never handed to them
    close(double, "c2")
    assert {w.client_id: w.revealed for w in cases.work(double.store)}[CONSENSUS] is None


def test_what_readers_must_not_see_is_what_others_made_of_an_open_or_leased_case(double):
    assert not readings.is_blind(double.store, "c0", now=0.0)
    read(double, "c0", "ann")
    assert readings.is_blind(double.store, "c0", now=0.0)
    read(double, "c0", "bob")
    assert readings.blind_cases(double.store, now=0.0) == {"c0"}
    close(double, "c0")
    assert readings.blind_cases(double.store, now=0.0) == set()
    double.save("c1")  # one reader's label, as ever
    assert not readings.is_blind(double.store, "c1", now=0.0)


def test_a_case_taken_again_after_its_final_label_is_blind_while_it_is_held(double):
    assert double.take("ann") == "c0"
    read(double, "c0", "ann")
    read(double, "c0", "bob")
    close(double, "c0")
    assert plans.take_again(double.store, "c0", "ann", now=0.0, lease_s=60.0) is not None
    assert readings.is_blind(double.store, "c0", now=59.0)
    assert readings.blind_cases(double.store, now=59.0) == {"c0"}
    assert not readings.is_blind(double.store, "c0", now=60.0)


def test_progress_counts_each_case_of_a_reader_once(double):
    read(double, "c0", "ann")
    read(double, "c0", "bob")
    close(double, "c0")
    read(double, "c1", "ann")
    double.save("c2", client_id="ann")
    assert cases.progress(double.store, "ann") == (2, 3, 3)  # c1 waits for others
    assert cases.progress(double.store, "bob") == (2, 4, 1)


def test_the_label_of_a_reader_is_their_own_and_the_last_one_is_found(double):
    read(double, "c0", "ann", created_at=1.0)
    read(double, "c0", "bob", created_at=3.0)
    double.save("c1", client_id="ann", created_at=2.0)
    double.save("c2", "draft", client_id="ann", created_at=9.0)
    assert readings.own_label(double.store, "c0", "ann").digest == "ann on c0"
    assert readings.own_label(double.store, "c1", "ann").tag == "final"
    assert readings.own_label(double.store, "c1", "bob") is None
    assert readings.last_labelled(double.store, "ann") == "c1"
    assert readings.last_labelled(double.store, "carl") is None


def test_an_unknown_case_cannot_be_read(double):
    with pytest.raises(UnknownCaseError, match="there is no case 'c9'"):
        read(double, "c9", "ann")


def test_tags_of_readers_are_told_from_others():
    assert readings.is_reading_tag(reading_tag("Dr. Müller / ward 3"))
    assert reading_tag("ann") != reading_tag("bob")
    assert not readings.is_reading_tag("reader1")
    assert not readings.is_reading_tag("final")


def test_an_erased_person_leaves_no_reading_and_no_agreement(double):
    read(double, "c0", "ann")
    read(double, "c0", "bob")
    close(double, "c0")
    read(double, "c1", "ann")
    erase_rows(double.store, "sub-c0", ["c0"])
    for table in ("readings", "agreements", "labels", "label_work"):
        rows = double.store.read().execute(f"SELECT case_id FROM {table}").fetchall()
        assert {row["case_id"] for row in rows} <= {"c1"}, table


def test_a_study_of_the_fourth_release_keeps_its_work_and_takes_several_readers(of_release):
    store = of_release(
        4,
        """INSERT INTO settings VALUES (1, '{"seed":0}', 1.0);
        INSERT INTO cases (case_id, subject_id, path, fingerprint) VALUES
            ('c0', 's0', '/c0.nii', '10-1'), ('c1', 's1', '/c1.nii', '10-1');
        INSERT INTO labels VALUES
            ('c0', 'final', '/m.nii.gz', '{}', 'ann', 50.0, 'old', NULL);
        INSERT INTO label_work VALUES ('c0', 'old', 'ann', 30.0, 8.0, 50.0, NULL)""",
    )
    assert cases.work(store) == [cases.WorkRecord("c0", "old", "ann", 30.0, 8.0, 50.0, None)]
    assert cases.unlabelled_ids(store) == ["c1"]  # settings of before ask for one reader
    record = dataclasses.replace(
        cases.label(store, "c0"), case_id="c1", tag=reading_tag("bob"), client_id="bob"
    )
    readings.save_reading(store, record)
    assert cases.unlabelled_ids(store) == []
    settings_version(store, json.dumps({"readers_per_case": 2}))
    assert cases.unlabelled_ids(store) == ["c1"]
