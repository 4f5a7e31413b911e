"""Fetched scans stay up to a bound; those that somebody needs stay beyond it."""

import os
import time

import pytest

from fair_strategy.data.bids import Scan
from fair_strategy.store import cases, plans
from fair_strategy.workflows.pacs.keeping import GRACE_S, make_room, mark_used, scans_stay
from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.study import open_study

SIZE = 1000
LONG_AGO = 10 * GRACE_S


@pytest.fixture
def kept(tmp_path, model_file):
    """A study of a PACS with so many fetched scans, the first used longest ago."""

    def study_with(count, *, keep):
        study = open_study(
            "http://127.0.0.1:9/dicom-web",
            state_dir=tmp_path / "state",
            shipped_model=model_file,
            pacs_keep_gb=keep * SIZE / 1e9,
        )
        scans = []
        for number in range(1, count + 1):
            folder = f"instances-{number % 2}"
            path = study.images_dir / "images" / folder / f"series-{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * SIZE)
            used_at = time.time() - LONG_AGO + number
            os.utime(path, (used_at, used_at))
            scans.append(Scan(path.name.removesuffix(".nii.gz"), f"sub-{number}", path, folder))
        cases.sync(study.store, scans)
        return study

    return study_with


def here(study):
    return sorted(int(p.name[7]) for p in study.images_dir.glob("images/*/series-*.nii.gz"))


def path_of(study, number):
    return cases.case(study.store, f"series-{number}").path


def test_those_used_longest_ago_go_until_the_rest_fits(kept):
    study = kept(5, keep=3)
    make_room(study)
    assert here(study) == [3, 4, 5]
    make_room(study)
    assert here(study) == [3, 4, 5]


def test_without_a_bound_all_stay(kept):
    study = kept(3, keep=0)
    make_room(study)
    assert here(study) == [1, 2, 3]


def test_one_that_was_used_or_fetched_just_now_stays(kept):
    study = kept(4, keep=1)
    assert mark_used(study, path_of(study, 1))
    assert not mark_used(study, study.images_dir / "images" / "no.nii.gz")
    make_room(study, but=path_of(study, 2))
    assert here(study) == [1, 2]


def test_one_that_a_reader_holds_stays_until_the_lease_is_over(kept):
    study = kept(3, keep=1)
    make_plans(study)
    now = time.monotonic()
    lease = {"lease_s": 600, "skip_s": 0, "shared_client": False}
    held = plans.take_next(study.store, "balanced_random", "anna", now=now, **lease)
    os.utime(path_of(study, held.case_id[7:]), (0, 0))  # used longest ago of all
    make_room(study)
    assert here(study) == [int(held.case_id[7:])]
    plans.release(study.store, held.case_id, "anna", now=now, cool_down_s=0)
    fetched = path_of(study, 1 + int(held.case_id[7:]) % 3)
    fetched.write_bytes(b"x" * SIZE)
    make_room(study, but=fetched)
    assert here(study) == [int(fetched.name[7])]


def test_while_a_training_needs_them_none_goes_and_then_the_bound_holds_again(kept):
    study = kept(4, keep=2)
    with scans_stay(study):
        with scans_stay(study):
            make_room(study)
        assert here(study) == [1, 2, 3, 4]
    assert here(study) == [3, 4]


def test_what_a_kill_cut_off_is_removed_and_what_is_being_fetched_is_not(kept):
    study = kept(1, keep=1)
    cut_off, coming = (study.images_dir / "images" / f / ".series.tmp" for f in ("a", "b"))
    for part in (cut_off, coming):
        part.parent.mkdir()
        part.write_bytes(b"x" * SIZE)
    os.utime(cut_off, (0, 0))
    make_room(study)
    assert not cut_off.exists()
    assert coming.exists()
    assert here(study) == [1]
