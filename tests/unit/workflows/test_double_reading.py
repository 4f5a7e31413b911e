"""Two or three readers a scan, from Next Sample to the final label."""

import logging
import shutil
import threading

import numpy as np
import pytest

from fair_strategy.config import SettingsError, parse_conf
from fair_strategy.data.volumes import Mask, read_mask, write_mask
from fair_strategy.store import cases, plans, readings
from fair_strategy.store.readings import CONSENSUS, reading_tag
from fair_strategy.workflows import review
from fair_strategy.workflows.desk import SHARED_CLIENT, next_case, pending_work, submit
from fair_strategy.workflows.double_reading import due_cases, own_label_file, settle_all
from fair_strategy.workflows.drafts import draft_info, save_draft
from fair_strategy.workflows.erasure import erase_subject
from fair_strategy.workflows.intake import IMPORTER, prepare
from fair_strategy.workflows.masks import store_mask
from fair_strategy.workflows.overview.agreement import agreement
from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.replacing import replacing
from fair_strategy.workflows.rounds import training_cases
from fair_strategy.workflows.study import StudyError
from tests.helpers import AFFINE, SHAPE
from tests.unit.workflows.readers import with_readers

STRATEGY = "random"


def box(*, shift: int = 0) -> np.ndarray:
    """8 x 8 x 8 voxels, moved along the first axis."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[6 + shift : 14 + shift, 8:16, 8:16] = 1
    return mask


@pytest.fixture
def hand_in(tmp_path):
    """`hand_in(study, case_id, client, mask)`: submit as the stock client does."""

    def call(study, case_id, client_id, mask, tag="final"):
        path = tmp_path / "submission.nii.gz"
        write_mask(path, mask, AFFINE)
        return submit(study, case_id, path, tag=tag, client_id=client_id)

    return call


@pytest.fixture
def several(make_study):
    """`several(3, "AABB")`: a planned study whose scans are read by three."""

    def make(readers, groups="AB", **settings):
        study = make_study(groups, readers_per_case=readers, **settings)
        make_plans(study)
        return study

    return make


def final_mask(study, case_id):
    label = cases.label(study.store, case_id)
    return None if label is None else read_mask(label.path).array


def test_two_readers_make_a_final_label_and_training_sees_nothing_before(several, hand_in):
    study = several(2)
    case_id = next_case(study, STRATEGY, "anna").case_id
    first = hand_in(study, case_id, "anna", box())
    assert first.tag == reading_tag("anna")
    assert cases.label(study.store, case_id) is None
    assert training_cases(study) == ([], [])
    assert next_case(study, STRATEGY, "anna").case_id != case_id
    assert next_case(study, STRATEGY, "ben").case_id == case_id
    hand_in(study, case_id, "ben", box(shift=2))
    final = cases.label(study.store, case_id)
    assert (final.client_id, final.info) == (CONSENSUS, {"consensus": "staple", "readers": 2})
    np.testing.assert_array_equal(final_mask(study, case_id), box() & box(shift=2))
    training, _ = training_cases(study)
    assert [case.label for case in training] == [final.path]
    assert read_mask(first.path).array.sum() == 512  # each reader's own stays


@pytest.mark.parametrize("method", ["staple", "majority"])
def test_of_three_readers_two_who_agree_decide(several, hand_in, method):
    study = several(3, consensus=method)
    for client, shift in (("anna", 0), ("ben", 4), ("carl", 0)):
        case_id = next_case(study, STRATEGY, client).case_id
        hand_in(study, case_id, client, box(shift=shift))
    np.testing.assert_array_equal(final_mask(study, case_id), box())


def test_agreement_of_the_pairs_is_what_one_finds_by_hand(several, hand_in):
    study = several(3)
    dot, far = np.zeros((2, *SHAPE), np.uint8)
    dot[10, 10, 10] = far[13, 10, 10] = 1
    both = dot | far
    for client, mask in (("anna", dot), ("ben", far), ("carl", both)):
        case_id = next_case(study, STRATEGY, client).case_id
        hand_in(study, case_id, client, mask)
    found = {(a.first_client, a.second_client): a for a in readings.agreements(study.store)}
    # One voxel and another, 3 x 2 mm away: no overlap. One voxel and both: 2 x 1 / (1 + 2); of the
    # three surface voxels, two lie on the other's surface and one 6 mm from it.
    assert {pair: a.dice for pair, a in found.items()} == {
        ("anna", "ben"): 0.0,
        ("anna", "carl"): pytest.approx(2 / 3),
        ("ben", "carl"): pytest.approx(2 / 3),
    }
    assert {pair: a.surface_distance_mm for pair, a in found.items()} == {
        ("anna", "ben"): 6.0,
        ("anna", "carl"): 2.0,
        ("ben", "carl"): 2.0,
    }


def test_people_who_share_an_id_are_asked_for_their_names(several, hand_in):
    study = several(2)
    for client in (SHARED_CLIENT, ""):
        with pytest.raises(StudyError, match="choose a client id of your own"):
            next_case(study, STRATEGY, client)
        with pytest.raises(StudyError, match="choose a client id of your own"):
            hand_in(study, "sub-01_T1w", client, box())
    assert readings.readings(study.store, "sub-01_T1w") == []


@pytest.mark.parametrize("readers", [1, 2])
def test_nobody_writes_under_the_tag_of_a_reader(several, hand_in, readers):
    study = several(readers)
    hand_in(study, "sub-01_T1w", "anna", box())
    with pytest.raises(StudyError, match="submit as 'final'"):
        hand_in(study, "sub-01_T1w", "ben", box(shift=2), tag=reading_tag("anna"))


def test_a_reader_who_submits_twice_replaces_their_own(several, hand_in):
    study = several(2)
    hand_in(study, "sub-01_T1w", "anna", box())
    hand_in(study, "sub-01_T1w", "anna", box(shift=4))
    assert cases.label(study.store, "sub-01_T1w") is None
    (own,) = readings.readings(study.store, "sub-01_T1w")
    np.testing.assert_array_equal(read_mask(own.path).array, box(shift=4))


def test_a_correction_after_the_end_changes_the_final_label_and_not_the_agreement(several, hand_in):
    study = several(2)
    for client, shift in (("anna", 0), ("ben", 2)):
        case_id = next_case(study, STRATEGY, client).case_id
        hand_in(study, case_id, client, box(shift=shift))
    assert review.reopen(study, "ben").case_id == case_id
    np.testing.assert_array_equal(read_mask(own_label_file(study, case_id, "ben")).array,
                                  box(shift=2))  # fmt: skip
    hand_in(study, case_id, "ben", box())
    np.testing.assert_array_equal(final_mask(study, case_id), box())
    (kept,) = readings.agreements(study.store)
    assert kept.dice == 0.75  # 2 x 6 / (8 + 8), of what they made before either could look


def test_a_reading_can_be_opened_again_before_the_others_are_there(several, hand_in):
    study = several(2)
    case_id = next_case(study, STRATEGY, "anna").case_id
    hand_in(study, case_id, "anna", box())
    assert review.reopen(study, "anna").case_id == case_id
    assert next_case(study, STRATEGY, "ben").case_id != case_id
    with pytest.raises(StudyError, match="only what you submitted"):
        review.reopen(study, "ben", case_id)
    hand_in(study, case_id, "anna", box(shift=2))
    assert next_case(study, STRATEGY, "ben").case_id == case_id


def test_a_reader_sees_their_own_label_and_no_other(several, hand_in):
    study = several(2)
    record = hand_in(study, "sub-01_T1w", "anna", box())
    assert own_label_file(study, "sub-01_T1w", "anna") == record.path
    assert own_label_file(study, "sub-01_T1w", "ben") is None
    record.path.unlink()
    assert own_label_file(study, "sub-01_T1w", "anna") is None


def test_no_draft_comes_back_after_the_reading(several, hand_in, tmp_path):
    study = several(2)
    case_id = next_case(study, STRATEGY, "anna").case_id
    draft = tmp_path / "draft.nii.gz"
    write_mask(draft, box(), AFFINE)
    save_draft(study, case_id, "anna", draft)
    hand_in(study, case_id, "anna", box())
    assert not draft_info(study, case_id, "anna").exists
    with pytest.raises(StudyError, match="re-open it"):
        save_draft(study, case_id, "anna", draft)
    assert next_case(study, STRATEGY, "ben").case_id == case_id
    assert save_draft(study, case_id, "ben", draft).exists


def test_fewer_readers_than_before_are_enough_for_what_they_read(several, hand_in):
    study = several(3)
    alone = hand_in(study, "sub-01_T1w", "anna", box())
    for client, shift in (("anna", 0), ("ben", 2)):
        hand_in(study, "sub-02_T1w", client, box(shift=shift))
    lower = with_readers(study, 1)
    assert sorted(due_cases(lower)) == ["sub-01_T1w", "sub-02_T1w"]
    assert settle_all(lower) == 2
    assert cases.label(lower.store, "sub-01_T1w").digest == alone.digest
    np.testing.assert_array_equal(final_mask(lower, "sub-02_T1w"), box() & box(shift=2))
    # A label that comes later joins those that are there.
    hand_in(lower, "sub-01_T1w", "ben", box(shift=2))
    np.testing.assert_array_equal(final_mask(lower, "sub-01_T1w"), box() & box(shift=2))
    assert settle_all(lower) == 0


def test_more_readers_than_before_leave_final_labels_as_they_are(several, hand_in):
    study = several(1)
    hand_in(study, "sub-01_T1w", "anna", box())
    higher = with_readers(study, 2)
    make_plans(higher)
    assert settle_all(higher) == 0
    assert cases.label(higher.store, "sub-01_T1w").client_id == "anna"
    assert next_case(higher, STRATEGY, "ben").case_id == "sub-02_T1w"


def test_a_single_readers_final_label_is_corrected_though_more_are_asked_for_now(several, hand_in):
    study = several(1)
    case_id = next_case(study, STRATEGY, "anna").case_id
    hand_in(study, case_id, "anna", box())
    higher = with_readers(study, 2)
    assert review.reopen(higher, "anna").case_id == case_id
    hand_in(higher, case_id, "anna", box(shift=2))
    assert cases.label(higher.store, case_id).client_id == "anna"
    np.testing.assert_array_equal(final_mask(higher, case_id), box(shift=2))
    assert readings.readings(higher.store, case_id) == []


def test_an_imported_final_label_is_replaced_by_a_correction_and_not_read_anew(several, hand_in):
    study = several(2, labelled=1)
    assert cases.label(study.store, "sub-01_T1w").client_id == IMPORTER
    hand_in(study, "sub-01_T1w", "anna", box())
    assert cases.label(study.store, "sub-01_T1w").client_id == "anna"
    np.testing.assert_array_equal(final_mask(study, "sub-01_T1w"), box())


def test_a_reading_that_is_gone_holds_up_nothing_and_is_said(several, hand_in, tmp_path, caplog):
    study = several(2)
    first = hand_in(study, "sub-01_T1w", "anna", box())
    shutil.move(first.path, tmp_path / "kept.nii.gz")
    with caplog.at_level(logging.ERROR):
        hand_in(study, "sub-01_T1w", "ben", box())
        assert settle_all(study) == 0
    assert "sub-01_T1w: no final label could be made" in caplog.text
    assert len(readings.readings(study.store, "sub-01_T1w")) == 2
    before = pending_work(study)["uncompared"]
    shutil.move(tmp_path / "kept.nii.gz", first.path)
    assert settle_all(study) == 1
    assert pending_work(study)["uncompared"] == before - 1


def test_a_store_that_takes_no_final_label_fails_no_submission(several, hand_in, tmp_path, caplog):
    study = several(2)
    draft = tmp_path / "draft.nii.gz"
    write_mask(draft, box(), AFFINE)
    hand_in(study, "sub-01_T1w", "anna", box())
    assert next_case(study, STRATEGY, "ben").case_id == "sub-01_T1w"
    save_draft(study, "sub-01_T1w", "ben", draft)
    with study.store.transaction() as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON labels WHEN NEW.tag = 'final' "
            "BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        )
    with caplog.at_level(logging.ERROR):
        hand_in(study, "sub-01_T1w", "ben", box())
    assert "no final label could be made of its readings: disk is full" in caplog.text
    assert not draft_info(study, "sub-01_T1w", "ben").exists
    assert cases.label(study.store, "sub-01_T1w") is None
    with study.store.transaction() as connection:
        connection.execute("DROP TRIGGER full")
    assert settle_all(study) == 1
    np.testing.assert_array_equal(final_mask(study, "sub-01_T1w"), box())


def test_no_final_label_is_made_of_a_mask_whose_submission_is_still_to_fail(several, hand_in):
    study = several(3)
    for client in ("anna", "ben"):
        hand_in(study, "sub-01_T1w", client, box())
    both = with_readers(study, 2)
    own = readings.own_label(both.store, "sub-01_T1w", "anna")
    affine = read_mask(own.path).affine

    def submission_that_fails():
        with replacing(both, own.path):
            store_mask(both, "sub-01_T1w", Mask(box(shift=4), affine), tag=own.tag)
            assert settle_all(both) == 0
            raise OSError("no row")

    with pytest.raises(OSError, match="no row"):
        submission_that_fails()
    assert cases.label(both.store, "sub-01_T1w") is None
    assert settle_all(both) == 1
    np.testing.assert_array_equal(final_mask(both, "sub-01_T1w"), box())


def test_a_final_label_whose_file_is_gone_is_made_again_at_the_next_start(several, hand_in):
    study = several(2)
    for client in ("anna", "ben"):
        hand_in(study, "sub-01_T1w", client, box())
    cases.label(study.store, "sub-01_T1w").path.unlink()
    assert not any("masks are gone" in note for note in prepare(study))
    assert settle_all(study) == 1
    np.testing.assert_array_equal(final_mask(study, "sub-01_T1w"), box())


def test_a_late_reading_makes_no_final_label_while_a_colleague_is_at_work(several, hand_in):
    study = several(2)
    case_id = next_case(study, STRATEGY, "anna", now=-1e9).case_id  # her lease has run out
    assert next_case(study, STRATEGY, "ben").case_id == case_id
    hand_in(study, case_id, "carl", box())
    hand_in(study, case_id, "anna", box(shift=2))
    assert cases.label(study.store, case_id) is None
    assert plans.lease_of(study.store, case_id).client_id == "ben"
    hand_in(study, case_id, "ben", box())
    assert cases.label(study.store, case_id).info["readers"] == 3
    np.testing.assert_array_equal(final_mask(study, case_id), box())


def test_threads_that_settle_at_once_make_one_final_label(several, hand_in):
    study = several(2)
    hand_in(study, "sub-01_T1w", "anna", box())
    hand_in(with_readers(study, 3), "sub-01_T1w", "ben", box(shift=2))
    both, made = with_readers(study, 2), []
    threads = [threading.Thread(target=lambda: made.append(settle_all(both))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [0, 0, 0, 1]


def test_the_final_label_tells_the_model_that_all_its_readers_saw(several, hand_in):
    study = several(2)
    for number, (mine, theirs, told) in enumerate((("a", "a", "a"), ("a", "b", None)), start=1):
        case_id = f"sub-0{number}_T1w"
        for client, model in (("anna", mine), ("ben", theirs)):
            plans.set_seen_model(study.store, case_id, client, model)
            hand_in(study, case_id, client, box())
        assert cases.label(study.store, case_id).seen_model == told


def test_an_erased_person_leaves_no_readers_mask(several, hand_in):
    study = several(2)
    for client, shift in (("anna", 0), ("anna", 1), ("ben", 0)):
        hand_in(study, "sub-01_T1w", client, box(shift=shift))
    files = [r.path for r in cases.labels(study.store)]
    assert len(files) == 3
    shutil.rmtree(study.images_dir / "sub-01")
    table = study.images_dir / "participants.tsv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if not line.startswith("sub-01")))
    erase_subject(study, "sub-01")
    assert not any(path.exists() for path in files)
    assert not [
        *study.state_dir.rglob("*sub-01*"),
        *study.derivatives_root.rglob("*sub-01*.nii.gz"),
    ]


@pytest.mark.parametrize("number", ["0", "21", "two"])
def test_a_number_of_readers_that_cannot_be_is_refused(number):
    with pytest.raises(SettingsError, match="readers_per_case"):
        parse_conf({"readers_per_case": number})


def test_agreement_by_subgroup_waits_for_enough_scans_and_then_for_the_next_model(several, hand_in):
    study = several(2, "AAAAAABBBBBB")
    ids = [f"sub-{number:02d}_T1w" for number in range(1, 13)]

    def read_by_both(*chosen):
        for case_id in chosen:
            hand_in(study, case_id, "anna", box())
            hand_in(study, case_id, "ben", box(shift=2 if case_id < ids[6] else 4))

    read_by_both(*ids[:4])
    assert agreement(study, min_cell=5).groups == ()
    read_by_both(ids[4], *ids[6:11])
    a, b = agreement(study, min_cell=5).groups
    assert (a.subgroup, a.n, a.dice.median) == ("A", 5, 0.75)
    assert (b.subgroup, b.n, b.dice.median) == ("B", 5, 0.5)
    read_by_both(ids[5])
    assert agreement(study, min_cell=5).groups == (a, b)
