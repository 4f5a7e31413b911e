"""Every place that may name a person is emptied, and nobody else loses anything."""

import shutil
from contextlib import suppress

import pytest

from fair_strategy.config import StudySettings
from fair_strategy.data.bids import Scan
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.data.volumes import write_mask
from fair_strategy.store import archive, cases, scores
from fair_strategy.store.database import backup
from fair_strategy.store.recovery import backups
from fair_strategy.store.scores import ModelRecord
from fair_strategy.workflows.desk import submit
from fair_strategy.workflows.erasure import BEGUN, erase_subject
from fair_strategy.workflows.intake import prepare
from fair_strategy.workflows.masks import place_of_mask
from fair_strategy.workflows.overview.counts import counts
from fair_strategy.workflows.replacing import KEPT
from fair_strategy.workflows.scoring import score_study
from fair_strategy.workflows.showing import entropy_volume, original
from fair_strategy.workflows.study import StudyError, open_study
from tests.helpers import AFFINE, blob, write_cohort
from tests.killing import killed_at_every_step

PERSON, CASE = "sub-02", "sub-02_T1w"


def take_away(study, subject):
    shutil.rmtree(study.images_dir / subject)
    shutil.rmtree(study.images_dir / "derivatives" / "labels" / subject, ignore_errors=True)
    table = study.images_dir / "participants.tsv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if not line.startswith(subject)))


def naming(study, text):
    """Paths below the state directory and the masks' folder that name somebody, or hold it."""
    study.store.close()  # the write-ahead log is then in the database
    return {
        path.name
        for root in (study.state_dir, study.derivatives_root)
        for path in root.rglob("*")
        if text in path.name or (path.is_file() and text.encode() in path.read_bytes())
    }


def test_outlines_and_maps_made_of_a_prediction_go(make_study):
    study = make_study("AB")
    score_study(study)
    original(study, CASE)
    entropy_volume(study, CASE)
    original(study, "sub-01_T1w")
    take_away(study, PERSON)
    erase_subject(study, PERSON)
    assert naming(study, PERSON) == set()
    assert [p.name[:10] for p in study.state_dir.glob("cache/*/*")] == ["sub-01_T1w"]


def test_a_mask_without_a_row_and_what_a_kill_cut_off_go_and_so_do_their_folders(make_study):
    study = make_study("AB")
    mask = place_of_mask(study, CASE, "final")
    write_mask(mask, blob(2)[1], AFFINE)  # as a kill before the first row leaves it
    mask.with_name(f".{mask.name}.0a1b2c.tmp").write_bytes(b"half")
    other = place_of_mask(study, "sub-01_T1w", "final")
    write_mask(other, blob(1)[1], AFFINE)
    take_away(study, PERSON)
    erase_subject(study, PERSON)
    assert naming(study, PERSON) == set()
    assert other.exists()


def test_values_and_the_log_name_nobody_and_a_kept_figure_does_not_give_the_person_away(make_study):
    study = make_study("AAAAAA", labelled=6)
    before = counts(study, min_cell=3).groups
    assert [group.labelled for group in before] == [6]
    (study.state_dir / "worker.log").write_text(f"{CASE}: scored\n")
    take_away(study, PERSON)
    erase_subject(study, PERSON)
    scores.add_model(study.store, ModelRecord("new", study.store.path, "trained", 1.0, {}))
    scores.publish(study.store, "new")
    after = counts(study, min_cell=3)
    assert after.groups == before
    assert "fewer than 3 scans changed" in after.refreshed.sentence
    assert naming(study, PERSON) == set()


def test_kept_masks_of_a_scan_whose_name_ends_alike_stay(tmp_path, model_file):
    images = write_cohort(tmp_path / "bids", "AB")
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, name in enumerate(("1", "x_1", "7_1"), start=1):
        source = images / f"sub-{min(number, 2):02d}" / "anat"
        shutil.copy(next(source.iterdir()), flat / f"{name}.nii.gz")
    study = open_study(
        flat,
        StudySettings(validation_per_group=0),
        state_dir=tmp_path / "state",
        shipped_model=model_file,
    )
    prepare(study)
    for case_id in ("1", "x_1", "7_1"):
        for number in (1, 2):
            write_mask(tmp_path / "mask.nii.gz", blob(number)[1], AFFINE)
            submit(study, case_id, tmp_path / "mask.nii.gz", client_id="anna")
    (flat / "1.nii.gz").unlink()
    erase_subject(study, "1")
    kept = [path.name.partition("_")[2] for path in (study.state_dir / KEPT).iterdir()]
    ending = "hemi-L_label-caudate_desc-final_mask.nii.gz"
    assert sorted(kept) == [f"7_1_{ending}", f"x_1_{ending}"]
    assert not place_of_mask(study, "1", "final").exists()
    assert place_of_mask(study, "x_1", "final").exists()
    assert place_of_mask(study, "7_1", "final").exists()


@pytest.fixture
def from_pacs(tmp_path, model_file):
    """A study of two series of a PACS that is not asked; what was fetched lies there."""
    study = open_study(
        "http://127.0.0.1:9/dicom-web", state_dir=tmp_path / "state", shipped_model=model_file
    )
    scans = []
    for name in ("1", "2"):
        path = study.images_dir / "images" / "instances-9" / f"series-{name}.nii.gz"
        scans.append(Scan(f"series-{name}", f"person-{name}", path, "instances-9"))
        for folder in ("segmentations", "images/instances-8"):
            write_mask(study.images_dir / folder / path.name, blob(1)[1], AFFINE)
        archive.note_segmentation(study.store, f"1.2.{name}", f"mask of series-{name}")
    cases.sync(study.store, scans)
    return study


def test_a_pacs_that_cannot_be_asked_may_still_have_the_person(from_pacs, monkeypatch):
    monkeypatch.setattr("fair_strategy.data.dicom.archive.WAITS_S", (0.01, 0.01))
    with pytest.raises(ArchiveUnavailable, match="cannot be reached"):
        erase_subject(from_pacs, "person-1")
    assert cases.case(from_pacs.store, "series-1").present
    assert len(list(from_pacs.images_dir.rglob("series-1.nii.gz"))) == 2
    assert not (from_pacs.state_dir / BEGUN).exists()


@pytest.fixture
def labelled(make_study):
    """A study of a person with a label of their own, one of before, and an audit."""
    study = make_study("AB")
    mask = study.state_dir / "drawn.nrrd"
    for seed in (2, 5):
        write_mask(mask, blob(seed)[1], AFFINE)
        submit(study, CASE, mask, client_id="anna")
    mask.unlink()
    (study.state_dir / "audits").mkdir()
    (study.state_dir / "audits" / "cases.csv").write_text(CASE)
    copy = backup(study.store)
    for log in ("-wal", "-shm"):  # of a copy that somebody opened
        copy.with_name(f"{copy.name}{log}").write_text(CASE)
    take_away(study, PERSON)
    return study


def test_killed_at_any_step_it_is_ended_by_the_next_call(labelled):
    steps = 0
    for _ in killed_at_every_step(
        lambda: erase_subject(labelled, PERSON), labelled.store, labelled.images_dir.parent
    ):
        steps += 1
        with suppress(StudyError):  # no such person: it had ended
            erased = erase_subject(labelled, PERSON)
            assert erased.scans == 1
            assert erased.files >= 2
        assert naming(labelled, PERSON) == set()
        assert cases.case(labelled.store, "sub-01_T1w").present
        assert len(backups(labelled.state_dir)) == 1
    assert steps > 20


@pytest.mark.parametrize("content", ["", "{", "[]", '{"subject_id": "sub-00"}', "\x00\xff"])
def test_what_is_no_erasure_removes_nothing_and_is_said(labelled, content):
    (labelled.state_dir / BEGUN).write_text(content, encoding="latin-1")
    before = naming(labelled, PERSON)
    with pytest.raises(StudyError, match="cut off"):
        erase_subject(labelled, PERSON)
    assert naming(labelled, PERSON) == before


def test_what_a_kill_left_is_ended_by_the_erasure_of_another_person(labelled):
    take_away(labelled, "sub-01")
    for _ in killed_at_every_step(
        lambda: erase_subject(labelled, PERSON), labelled.store, labelled.images_dir.parent
    ):
        if (labelled.state_dir / BEGUN).exists():
            erase_subject(labelled, "sub-01")
            assert naming(labelled, PERSON) == naming(labelled, "sub-01") == set()
            break
    else:
        pytest.fail("it was never begun")
