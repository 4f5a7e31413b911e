"""Unfinished masks: whose they are, what they leave alone, and when they are gone."""

import stat
import time

import numpy as np
import pytest

from fair_strategy.data.volumes import VolumeError, read_mask, write_mask
from fair_strategy.store import UnknownCaseError, cases
from fair_strategy.workflows import review
from fair_strategy.workflows.desk import next_case, submit
from fair_strategy.workflows.drafts import (
    DraftInfo,
    discard_draft,
    draft_info,
    read_draft,
    save_draft,
)
from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.study import StudyError
from tests.helpers import AFFINE, blob

SCAN = "sub-01_T1w"


@pytest.fixture
def study(make_study):
    study = make_study("AABB")
    make_plans(study)
    return study


@pytest.fixture
def mask(tmp_path):
    write_mask(tmp_path / "mask.nrrd", blob(1)[1], AFFINE)
    return tmp_path / "mask.nrrd"


def files(study):
    return [p for p in (study.state_dir / "drafts").rglob("*") if p.is_file()]


def test_a_draft_comes_back_to_its_reader_voxel_by_voxel(study, mask, tmp_path):
    save_draft(study, SCAN, "anna", mask)
    (tmp_path / "back.nii.gz").write_bytes(read_draft(study, SCAN, "anna"))
    back = read_mask(tmp_path / "back.nii.gz")
    assert np.array_equal(back.array, blob(1)[1])
    assert np.allclose(back.affine, AFFINE)


@pytest.mark.parametrize("other", ["ben", "Anna", "", "../anna", "anna/../anna"])
def test_no_other_client_reads_sees_or_removes_a_draft(study, mask, other):
    save_draft(study, SCAN, "anna", mask)
    assert read_draft(study, SCAN, other) is None
    assert draft_info(study, SCAN, other) == DraftInfo(exists=False)
    assert not discard_draft(study, SCAN, other)
    assert read_draft(study, SCAN, "anna") is not None


def test_a_draft_is_its_owners_file_and_tells_no_name(study, mask):
    save_draft(study, SCAN, "anna", mask)
    save_draft(study, SCAN, "anna/../../x", mask)
    assert len(files(study)) == 2
    for path in files(study):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.name == f"{SCAN}.nii.gz"
        assert "anna" not in str(path.relative_to(study.state_dir))


def test_a_draft_is_no_label_and_leaves_plans_and_leases_alone(study, mask):
    before = cases.unlabelled_ids(study.store)
    save_draft(study, SCAN, "anna", mask)
    assert cases.labels(study.store) == []
    assert cases.unlabelled_ids(study.store) == before
    assert not study.derivatives_root.exists()


def test_a_mask_of_another_grid_is_refused_and_the_draft_of_before_stays(study, mask, tmp_path):
    save_draft(study, SCAN, "anna", mask)
    before = read_draft(study, SCAN, "anna")
    write_mask(tmp_path / "other.nii.gz", np.ones((4, 4, 4), np.uint8), AFFINE)
    with pytest.raises(VolumeError, match="4, 4, 4"):
        save_draft(study, SCAN, "anna", tmp_path / "other.nii.gz")
    assert read_draft(study, SCAN, "anna") == before
    assert len(files(study)) == 1


def test_an_unknown_scan_has_no_draft(study, mask):
    for call in (read_draft, draft_info, discard_draft):
        with pytest.raises(UnknownCaseError, match="sub-77"):
            call(study, "sub-77_T1w", "anna")
    with pytest.raises(UnknownCaseError, match="sub-77"):
        save_draft(study, "sub-77_T1w", "anna", mask)


def test_the_time_spent_runs_from_handing_out_to_the_last_save(study, mask):
    assert save_draft(study, SCAN, "anna", mask).seconds_spent is None
    handed = next_case(study, "balanced_random", "anna").case_id
    saved = save_draft(study, handed, "anna", mask)
    assert saved.exists
    assert saved.saved_at <= time.time()
    assert 0 <= saved.seconds_spent < 60
    assert draft_info(study, handed, "anna") == saved


def ended(study, how, case_id, mask):
    if how == "submit":
        submit(study, case_id, mask, client_id="anna")
    elif how == "skip":
        assert review.skip(study, case_id, "anna", "not readable")
    else:
        review.exclude(study, case_id, "anna", "moved")


@pytest.mark.parametrize("how", ["submit", "skip", "exclude"])
def test_a_draft_is_gone_once_its_scan_is_done_with(study, mask, how):
    case_id = next_case(study, "balanced_random", "anna").case_id
    save_draft(study, case_id, "anna", mask)
    ended(study, how, case_id, mask)
    assert read_draft(study, case_id, "anna") is None
    assert files(study) == []


@pytest.mark.parametrize("how", ["submit", "exclude"])
def test_a_save_that_arrives_after_the_end_brings_no_draft_back(study, mask, how):
    case_id = next_case(study, "balanced_random", "anna").case_id
    ended(study, how, case_id, mask)
    with pytest.raises(StudyError, match="re-open"):
        save_draft(study, case_id, "anna", mask)
    review.reopen(study, "anna", case_id)
    assert save_draft(study, case_id, "anna", mask).exists


def test_a_colleagues_submission_leaves_ones_draft(study, mask):
    save_draft(study, SCAN, "anna", mask)
    submit(study, SCAN, mask, client_id="ben")
    assert read_draft(study, SCAN, "anna") is not None
