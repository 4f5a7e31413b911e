"""What is fetched of a real archive stays within a bound, and comes again when it is needed."""

import zipfile

import numpy as np
import pytest

from fair_strategy.config import StudySettings
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.data.volumes import read_image, read_mask, write_image, write_mask
from fair_strategy.host import worker
from fair_strategy.host.datastore import StudyDatastore
from fair_strategy.store import cases, readings, scores
from fair_strategy.store.recovery import RESTORED
from fair_strategy.store.settings import set_value
from fair_strategy.workflows import desk
from fair_strategy.workflows.double_reading import due_cases, settle_all
from fair_strategy.workflows.intake import prepare
from fair_strategy.workflows.pacs import keeping
from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.rebuilding import rebuild
from fair_strategy.workflows.rounds import train_round
from fair_strategy.workflows.scoring import ensure_prediction, score_study
from fair_strategy.workflows.sources import image_path
from fair_strategy.workflows.study import open_study
from tests.app import cohorts
from tests.pacs.conftest import AFFINE, scan_series, stored_scan

COUNT = 4


@pytest.fixture(autouse=True)
def no_grace(moments, monkeypatch):
    monkeypatch.setattr(keeping, "GRACE_S", 0.0)


@pytest.fixture
def study_of(orthanc, tmp_path):
    """A study of four series, of which the disk may hold `keep`."""
    cohorts.write_model(tmp_path / "pretrained.pt")
    for number in range(1, COUNT + 1):
        orthanc.store(scan_series(number)[1])

    def opened(url, *, keep, **settings):
        study = open_study(
            f"{url}/dicom-web",
            StudySettings(**{"validation_per_group": 0, **settings}),
            state_dir=tmp_path / "state",
            shipped_model=tmp_path / "pretrained.pt",
            pacs_timeout_s=2.0,
            pacs_keep_gb=keep * size_of_one(tmp_path) / 1e9,
        )
        prepare(study)
        return study

    return opened


def size_of_one(tmp_path):
    """Bytes of the largest scan as it is kept, so that `keep` of any fit."""
    sizes = []
    for number in range(1, COUNT + 1):
        array = stored_scan(number)
        write_image(tmp_path / "one.nii.gz", array, AFFINE, dtype=array.dtype)
        sizes.append((tmp_path / "one.nii.gz").stat().st_size)
    return max(sizes) * 1.02


def here(study):
    return {p.name.removesuffix(".nii.gz") for p in study.images_dir.glob("images/*/*.nii.gz")}


def records(study):
    return cases.cases(study.store)


def submit_all(study, tmp_path, client_id="anna"):
    for record in records(study):
        write_mask(tmp_path / "mask.nrrd", cohorts.scan(1)[1], AFFINE)
        desk.submit(study, record.case_id, tmp_path / "mask.nrrd", client_id=client_id)


def test_the_bound_holds_and_a_removed_scan_comes_again_without_being_scored_anew(
    orthanc, proxy, study_of
):
    study = study_of(proxy.url, keep=2)
    assert score_study(study).scored == COUNT
    assert len(here(study)) == 2
    removed = next(r for r in records(study) if r.case_id not in here(study))
    model = scores.current_checksum(study.store)
    before = scores.scores(study.store, model, study.settings_hash)[removed.case_id]
    proxy.asked.clear()
    found = read_image(image_path(study, removed)).array
    assert len(proxy.asked) == 1
    assert any(np.array_equal(found, stored_scan(n)) for n in range(1, COUNT + 1))
    assert removed.case_id in here(study)
    assert len(here(study)) == 2
    assert prepare(study) is not None
    assert cases.case(study.store, removed.case_id) == removed
    assert score_study(study).scored == 0
    assert scores.scores(study.store, model, study.settings_hash)[removed.case_id] == before
    proxy.spoil("refuse")
    for record in records(study):  # predictions need no scan
        assert ensure_prediction(study, record.case_id).fingerprint == record.fingerprint


def test_the_scan_of_a_reader_stays_while_others_come_and_go(orthanc, study_of):
    study = study_of(orthanc.url, keep=1)
    make_plans(study)
    held = desk.next_case(study, "random", "anna")
    path = image_path(study, cases.case(study.store, held.case_id))
    written = path.stat().st_ino
    for record in records(study):
        if record.case_id != held.case_id:
            image_path(study, record)
            assert here(study) == {held.case_id, record.case_id}
    assert path.stat().st_ino == written


def test_a_training_has_all_its_scans_and_leaves_no_more_than_the_bound(
    orthanc, study_of, tmp_path
):
    study = study_of(orthanc.url, keep=1)
    submit_all(study, tmp_path)
    assert len(here(study)) == 1
    assert train_round(study, steps=1, track=False)["training_cases"] == COUNT
    assert len(here(study)) == 1


def test_an_export_holds_every_scan(orthanc, study_of, tmp_path):
    study = study_of(orthanc.url, keep=1)
    submit_all(study, tmp_path)
    exported = StudyDatastore(study).get_dataset_archive(None)
    with zipfile.ZipFile(exported) as archive:
        names = set(archive.namelist())
    assert {f"image/{record.case_id}.nii.gz" for record in records(study)} < names
    assert sum(name.startswith("label/") for name in names) == COUNT


def test_a_restored_database_takes_masks_over_although_no_scan_can_be_fetched(
    orthanc, study_of, tmp_path
):
    study = study_of(orthanc.url, keep=1)
    submit_all(study, tmp_path)
    for record in records(study):  # as if the copy was older than the labels
        cases.delete_label(study.store, record.case_id, "final")
    set_value(study.store, RESTORED, "state.sqlite3.corrupt-1")
    orthanc.stop()
    rebuild(study)
    assert len(cases.labelled_ids(study.store)) == COUNT


def test_a_consensus_needs_no_archive_where_its_scan_was_removed(orthanc, study_of, tmp_path):
    study = study_of(orthanc.url, keep=1, readers_per_case=3, consensus="majority")
    for client in ("anna", "ben"):
        submit_all(study, tmp_path, client)
    fewer = study_of(orthanc.url, keep=1, readers_per_case=2, consensus="majority")
    assert len(due_cases(fewer)) == COUNT
    orthanc.stop()
    assert len(here(fewer)) == 1
    assert settle_all(fewer) == COUNT
    assert len(cases.labelled_ids(fewer.store)) == COUNT
    for label in cases.labels(fewer.store, "final"):
        drawn = read_mask(label.path)
        own = read_mask(readings.own_label(fewer.store, label.case_id, "anna").path)
        assert drawn.array.any()
        assert np.array_equal(drawn.affine, own.affine)


def test_a_worker_has_the_bound_of_its_server(orthanc, study_of, monkeypatch):
    study = study_of(orthanc.url, keep=3)
    opened = []
    monkeypatch.setattr(worker, "plan", lambda study: opened.append(study.pacs) or {})
    worker.main(worker.arguments_for(study, "plan"))
    assert opened == [study.pacs]
    assert study.pacs.keep_gb > 0


def test_without_the_archive_a_removed_scan_is_told_to_be_away(orthanc, study_of):
    study = study_of(orthanc.url, keep=1)
    for record in records(study):
        image_path(study, record)
    orthanc.stop()
    (kept,) = here(study)
    assert image_path(study, cases.case(study.store, kept)).exists()
    gone = next(r for r in records(study) if r.case_id != kept)
    with pytest.raises(ArchiveUnavailable, match="cannot be reached"):
        image_path(study, gone)
    assert cases.case(study.store, gone.case_id).unreadable is None
