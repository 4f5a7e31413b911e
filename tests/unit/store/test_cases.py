"""Scans, their labels and their splits."""

import json
from pathlib import Path

import numpy as np
import pytest

from fair_strategy.data.bids import Scan
from fair_strategy.store import UnknownCaseError, cases, plans
from fair_strategy.store.cases import Changes


def test_a_first_sync_adds_every_scan_as_it_is(empty):
    assert empty.sync("b", "a") == Changes(added=("a", "b"), changed=(), gone=())
    record = cases.case(empty.store, "a")
    assert record == cases.CaseRecord(
        "a", "sub-a", Path("/images/a.nii"), "10-1", True, None, None, {}
    )


def test_a_walk_of_the_image_folder_can_be_synced(empty):
    scan = Scan("sub-01_T1w", "sub-01", Path("/x/sub-01_T1w.nii.gz"), "5-6")
    assert cases.sync(empty.store, [scan]).added == ("sub-01_T1w",)
    assert cases.case_by_path(empty.store, "/x/sub-01_T1w.nii.gz").subject_id == "sub-01"


def test_a_sync_tells_what_was_added_changed_and_gone(empty):
    empty.sync("a", "b", "c")
    scans = [*empty.scans("a", "d"), *empty.scans("b", fingerprint="10-2")]
    assert cases.sync(empty.store, scans) == Changes(("d",), ("b",), ("c",))
    assert cases.sync(empty.store, scans) == Changes((), (), ())
    assert [c.case_id for c in cases.cases(empty.store) if c.present] == ["a", "b", "d"]


def test_a_scan_that_went_and_came_back_keeps_label_and_info(empty):
    empty.sync("a", "b")
    empty.save("a")
    cases.update_info(empty.store, "a", {"site": 1})
    empty.sync("b")
    assert not cases.case(empty.store, "a").present
    assert cases.case_by_path(empty.store, "/images/a.nii") is None
    assert empty.sync("a", "b") == Changes((), ("a",), ())
    assert cases.case(empty.store, "a").info == {"site": 1}
    assert cases.labelled_ids(empty.store) == ["a"]


def test_an_unreadable_file_is_believed_again_once_it_is_replaced(empty):
    empty.sync("a")
    assert cases.mark_unreadable(empty.store, "a", "10-1", "truncated")
    empty.sync("a")
    assert cases.case(empty.store, "a").unreadable == "truncated"
    empty.sync("a", fingerprint="20-2")
    assert cases.case(empty.store, "a").unreadable is None


def test_a_replaced_file_is_not_marked_unreadable_for_its_predecessor(empty):
    empty.sync("a", fingerprint="20-2")
    assert not cases.mark_unreadable(empty.store, "a", "10-1", "truncated")
    assert cases.case(empty.store, "a").unreadable is None


def test_one_scan_can_be_added_without_the_others_going(empty):
    empty.sync("a")
    cases.add(empty.store, empty.scans("b")[0])
    assert [c.case_id for c in cases.cases(empty.store) if c.present] == ["a", "b"]


def test_info_is_merged_key_by_key_and_takes_numpy_numbers(empty):
    empty.sync("a")
    cases.update_info(empty.store, "a", {"x": np.float32(0.5), "keep": None})
    cases.update_info(empty.store, "a", {"x": 2, "y": "ä"})
    assert cases.case(empty.store, "a").info == {"x": 2, "keep": None, "y": "ä"}


@pytest.mark.parametrize(
    "use",
    [
        lambda s: cases.case(s.store, "zz"),
        lambda s: cases.update_info(s.store, "zz", {}),
        lambda s: cases.exclude(s.store, "zz", "why"),
        lambda s: s.save("zz"),
    ],
)
def test_an_unknown_case_is_an_error_with_its_id(empty, use):
    with pytest.raises(UnknownCaseError, match="no case 'zz'"):
        use(empty)


def test_unlabelled_are_the_present_readable_included_cases_without_final_label(empty):
    empty.sync("gone", "bad", "out", "done", "drafted", "free")
    empty.sync("bad", "out", "done", "drafted", "free")
    cases.mark_unreadable(empty.store, "bad", "10-1", "truncated")
    cases.exclude(empty.store, "out", "artefact")
    empty.save("done")
    empty.save("drafted", tag="original")
    assert cases.unlabelled_ids(empty.store) == ["drafted", "free"]
    cases.exclude(empty.store, "out", None)
    assert cases.unlabelled_ids(empty.store) == ["drafted", "free", "out"]


def test_a_label_comes_back_as_it_was_saved(study):
    record = study.save("c0", info={"idx": [1, 2], "note": "ü"}, seen_model="model-a")
    assert cases.label(study.store, "c0", "final") == record
    assert cases.label(study.store, "c0", "original") is None


def test_a_second_submission_replaces_the_first_whole(study):
    study.save("c0", info={"a": 1}, client_id="ann")
    second = study.save("c0", info={"b": 2}, client_id="bob", digest="other")
    assert cases.labels(study.store) == [second]


def test_labels_are_listed_by_tag(study):
    study.save("c1")
    study.save("c0", tag="original")
    study.save("c0")
    listed = [(r.case_id, r.tag) for r in cases.labels(study.store)]
    assert listed == [("c0", "final"), ("c0", "original"), ("c1", "final")]
    assert [r.case_id for r in cases.labels(study.store, "original")] == ["c0"]
    assert cases.labelled_ids(study.store) == ["c0", "c1"]
    assert cases.labelled_ids(study.store, "original") == ["c0"]


def test_label_info_is_merged_and_a_missing_label_is_an_error(study):
    study.save("c0", info={"a": 1})
    cases.update_label_info(study.store, "c0", "final", {"b": 2})
    assert cases.label(study.store, "c0").info == {"a": 1, "b": 2}
    with pytest.raises(UnknownCaseError, match="'c0' has no label 'original'"):
        cases.update_label_info(study.store, "c0", "original", {"b": 2})


def test_a_label_whose_info_cannot_be_stored_changes_nothing(study):
    before = study.save("c0")
    assert study.take("ann") == "c1"
    with pytest.raises(TypeError, match="cannot be stored as JSON"):
        study.save("c1", info={"what": object()})
    assert cases.labels(study.store) == [before]
    assert plans.lease_of(study.store, "c1") is not None


def test_deleting_a_label_removes_its_row_and_says_whether_there_was_one(study):
    study.save("c0")
    assert cases.delete_label(study.store, "c0", "final")
    assert not cases.delete_label(study.store, "c0", "final")
    assert cases.unlabelled_ids(study.store)[0] == "c0"


def test_a_frozen_split_grows_and_never_changes(empty):
    cases.freeze_split(empty.store, {"s1": "select", "s2": "audit"})
    cases.freeze_split(empty.store, {"s1": "select", "s3": "audit"})
    with pytest.raises(ValueError, match="s2 is frozen in the 'audit' half"):
        cases.freeze_split(empty.store, {"s4": "select", "s2": "select"})
    with pytest.raises(ValueError, match="'select' or 'audit'"):
        cases.freeze_split(empty.store, {"s5": "train"})
    assert cases.splits(empty.store) == {"s1": "select", "s2": "audit", "s3": "audit"}


def test_what_is_stored_as_json_is_plain_text_for_other_tools(study):
    study.save("c0", info={"a": np.int64(3), "b": np.array([1.0, 2.0])})
    text = study.store.read().execute("SELECT info FROM labels").fetchone()[0]
    assert json.loads(text) == {"a": 3, "b": [1.0, 2.0]}
