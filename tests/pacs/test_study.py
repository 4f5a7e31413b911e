"""A study whose scans are in a real archive: taken up, fetched, labelled, sent back, once each."""

import json
import logging
import pickle
import stat

import highdicom
import numpy as np
import pytest

from fair_strategy.config import SettingsError, StudySettings, parse_settings
from fair_strategy.data.bids import check_id
from fair_strategy.data.dicom.archive import Archive
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.data.dicom.segmentation import Origin, segmentation
from fair_strategy.data.grids import VolumeError
from fair_strategy.data.volumes import Mask, read_image, read_mask, write_mask
from fair_strategy.store import cases
from fair_strategy.workflows import desk
from fair_strategy.workflows.intake import prepare, refresh
from fair_strategy.workflows.pacs.outbox import send_labels, waiting_labels
from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.scoring import score_study
from fair_strategy.workflows.sources import image_path
from fair_strategy.workflows.study import open_study
from tests.app import cohorts
from tests.pacs.conftest import AFFINE, TOLD, scan_series, stored_scan
from tests.pacs.dicom_files import Series, slices

pytestmark = pytest.mark.usefixtures("moments")


@pytest.fixture
def study_at(tmp_path):
    """Opens (again) the study of an archive; `name` tells one state directory from another."""
    cohorts.write_model(tmp_path / "pretrained.pt")

    def opened(url, name="state", **settings):
        return open_study(
            f"{url}/dicom-web",
            StudySettings(**{"sensitive_feature": "sex", "validation_per_group": 0, **settings}),
            state_dir=tmp_path / name,
            shipped_model=tmp_path / "pretrained.pt",
            pacs_timeout_s=2.0,
        )

    return opened


def only_case(study):
    (record,) = [c for c in cases.cases(study.store) if c.present]
    return record


def reader_mask(study, record, tmp_path):
    """A mask file that a reader might send, on the scan's grid."""
    grid = read_image(image_path(study, record))
    array = np.zeros(grid.array.shape, np.uint8)
    array[12:20, 15:22, 10:18] = 1
    array[14, 17, 12] = 0
    write_mask(tmp_path / "mask.nrrd", array, grid.affine)
    return tmp_path / "mask.nrrd", array


def earlier_segmentation(headers, number=1, affine=AFFINE):
    mask = Mask(cohorts.scan(number)[1], affine)
    return segmentation(mask, headers, Origin(key=f"elsewhere {number}", model=None, version="0"))


def held_by(orthanc):
    """Every segmentation that the archive holds, as highdicom reads it."""
    archive = Archive(orthanc.dicomweb)
    found = archive.series({"Modality": "SEG"})
    sent = [archive.instances(f.study_uid, f.series_uid, f.instances) for f in found]
    return [highdicom.seg.Segmentation.from_dataset(ds, copy=False) for (ds,) in sent]


def voxels(seg, headers):
    frames = seg.get_pixels_by_source_instance(
        [ds.SOPInstanceUID for ds in headers],
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    return frames.transpose(2, 1, 0)


def test_series_become_cases_under_names_that_tell_nobody_anything(orthanc, study_at, caplog):
    caplog.set_level(logging.DEBUG, logger="fair_strategy")
    uids = []
    for number in (1, 2):
        series, headers = scan_series(number)
        orthanc.store(headers)
        uids += [series.study_uid, series.series_uid]
    study = study_at(orthanc.url)
    notes = prepare(study)
    found = cases.cases(study.store)
    assert len(found) == 2
    table = study.images_dir / "participants.tsv"
    seen = [*(f"{c.case_id} {c.subject_id} {c.path} {c.info}" for c in found), *notes, caplog.text]
    for secret in (*uids, "H-0001", "H-0002", "Nobody", "Blue", "blue", "063Y"):
        assert not any(secret in text for text in seen)
        assert secret == "blue" or secret not in table.read_text()
    assert all(check_id(c.case_id) == c.case_id for c in found)
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    assert stat.S_IMODE(study.state_dir.stat().st_mode) == 0o700
    assert set(study.subgroups().values()) == {"F"}


def test_subgroups_come_from_qido_and_no_header_is_read(orthanc, proxy, study_at):
    orthanc.store(scan_series(1)[1])
    study = study_at(proxy.url)
    prepare(study)
    assert set(study.subgroups().values()) == {"F"}
    assert not any("/metadata" in path for path in proxy.asked)


def test_what_qido_does_not_tell_is_read_in_one_header(orthanc, proxy, study_at):
    orthanc.store(scan_series(1)[1])
    proxy.spoil("untold", r"/series\?")
    study = study_at(proxy.url)
    prepare(study)
    refresh(study)  # what is known is not asked again
    assert sum("/metadata" in path for path in proxy.asked) == 1
    row = (study.images_dir / "participants.tsv").read_text().splitlines()[1]
    assert row.split("\t")[1:] == ["F", "63", "blue"]


def test_a_person_without_tags_is_unknown_and_the_birth_date_makes_an_age(orthanc, study_at):
    bare = dict.fromkeys(("PatientSex", "PatientAge", "EthnicGroup"), "")
    orthanc.store(scan_series(1, **bare)[1])
    orthanc.store(scan_series(2, PatientAge="", PatientBirthDate="19500316")[1])
    study = study_at(orthanc.url, sensitive_feature="sex,age_group")
    prepare(study)
    # on 15 March 2020 the birthday of 16 March is still to come: 69
    assert sorted(study.subgroups().values()) == ["F / 60-70", "unknown"]


def test_series_of_one_patient_are_one_subject_and_those_of_nobody_are_not(orthanc, study_at):
    for _ in range(2):
        orthanc.store(scan_series(1)[1])
        orthanc.store(scan_series(2, PatientID="")[1])
    study = study_at(orthanc.url)
    prepare(study)
    subjects = [c.subject_id for c in cases.cases(study.store)]
    assert len(subjects) == 4
    assert len(set(subjects)) == 3


def test_only_series_that_fit_the_filter_are_taken_up(orthanc, study_at):
    for description in ("T1 MPRAGE", "T2 FLAIR"):
        series = Series(patient=TOLD, description=description)
        orthanc.store(slices(stored_scan(1), AFFINE, series))
    study = study_at(orthanc.url, dicom_filter="Modality=MR,SeriesDescription=*t1*")
    prepare(study)
    assert len(cases.cases(study.store)) == 1


@pytest.mark.parametrize("text", ["Modality", "Modalitas=MR", "=MR"])
def test_a_filter_that_names_no_dicom_keyword_is_refused(text):
    with pytest.raises(SettingsError, match="expected DICOM keywords and values"):
        parse_settings(StudySettings, {"dicom_filter": text})


def test_a_filter_is_kept_with_the_study_as_it_was_given():
    given = parse_settings(StudySettings, {"dicom_filter": "Modality=MR,SeriesDescription=*T1*"})
    again = parse_settings(StudySettings, json.loads(given.model_dump_json()))
    assert again.dicom_filter == (("Modality", "MR"), ("SeriesDescription", "*T1*"))
    assert again == given


def test_a_scan_is_fetched_when_it_is_needed_and_once(orthanc, proxy, study_at):
    series, headers = scan_series(1)
    orthanc.store(headers)
    study = study_at(proxy.url)
    prepare(study)
    proxy.asked.clear()
    record = only_case(study)
    assert not record.path.exists()
    image = read_image(image_path(study, record))
    np.testing.assert_array_equal(image.array, stored_scan(1))
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    assert image_path(study, record) == record.path
    assert proxy.asked == [f"GET /dicom-web/studies/{series.study_uid}/series/{series.series_uid}"]
    proxy.fault = "refuse"
    assert score_study(study).scored == 1  # from the cache


def test_a_series_that_grew_is_fetched_anew(orthanc, study_at):
    _, headers = scan_series(1)
    orthanc.store(headers[:20])
    study = study_at(orthanc.url)
    prepare(study)
    assert read_image(image_path(study, only_case(study))).array.shape[2] == 20
    old = only_case(study).path
    orthanc.store(headers[20:])
    assert refresh(study).changed == (only_case(study).case_id,)
    assert read_image(image_path(study, only_case(study))).array.shape[2] == 32
    assert not old.exists()


def test_a_series_that_is_no_volume_leaves_the_queue_with_its_reason(orthanc, study_at):
    _, headers = scan_series(1)
    orthanc.store(headers[:10] + headers[11:])
    study = study_at(orthanc.url)
    prepare(study)
    with pytest.raises(VolumeError, match="a slice is missing"):
        image_path(study, only_case(study))
    assert "a slice is missing" in only_case(study).unreadable
    assert cases.unlabelled_ids(study.store) == []


def test_a_submitted_label_is_in_the_archive_voxel_by_voxel_and_sent_once(
    orthanc, study_at, tmp_path
):
    series, headers = scan_series(1)
    orthanc.store(headers)
    study = study_at(orthanc.url)
    prepare(study)
    record = only_case(study)
    file, array = reader_mask(study, record, tmp_path)
    desk.submit(study, record.case_id, file, client_id="anna")
    assert send_labels(study) == 1
    assert send_labels(study) == 0
    (seg,) = held_by(orthanc)
    np.testing.assert_array_equal(voxels(seg, headers), array)
    assert (seg.StudyInstanceUID, seg.PatientID) == (series.study_uid, "H-0001")
    kept = read_mask(cases.label(study.store, record.case_id).path)
    np.testing.assert_array_equal(kept.array, array)
    desk.submit(study, record.case_id, file, client_id="anna")  # a correction is another object
    assert send_labels(study) == 1
    assert orthanc.count("SEG") == 2


def test_a_label_whose_answer_was_lost_is_sent_again_and_stored_once(
    orthanc, proxy, study_at, tmp_path
):
    orthanc.store(scan_series(1)[1])
    study = study_at(proxy.url)
    prepare(study)
    record = only_case(study)
    desk.submit(study, record.case_id, reader_mask(study, record, tmp_path)[0], client_id="anna")
    proxy.spoil("lost", "/studies$")
    with pytest.raises(ArchiveUnavailable):
        send_labels(study)
    assert orthanc.count("SEG") == 1  # it had arrived
    assert len(waiting_labels(study)) == 1
    proxy.spoil("")
    assert send_labels(study) == 1
    assert orthanc.count("SEG") == 1
    assert waiting_labels(study) == []


@pytest.mark.parametrize("fault", ["refuse", "silent", "down"])
def test_an_outage_keeps_the_label_over_a_restart_and_the_case_closed(
    fault, orthanc, proxy, study_at, tmp_path
):
    orthanc.store(scan_series(1)[1])
    study = study_at(proxy.url)
    prepare(study)
    make_plans(study)
    record = only_case(study)
    file, _ = reader_mask(study, record, tmp_path)
    proxy.spoil(fault, "/studies$|/metadata$")
    if fault == "down":
        orthanc.stop()
    desk.submit(study, record.case_id, file, client_id="anna")
    with pytest.raises(ArchiveUnavailable):
        send_labels(study)
    again = study_at(proxy.url)
    prepare(again)
    make_plans(again)
    assert desk.next_case(again, "random", "ben") is None
    assert len(waiting_labels(again)) == 1
    proxy.spoil("")
    orthanc.start()
    assert send_labels(again) == 1
    assert orthanc.count("SEG") == 1


def test_an_earlier_segmentation_becomes_a_label_once_and_its_scan_is_not_offered(
    orthanc, study_at
):
    _, headers = scan_series(1)
    orthanc.store([*headers, earlier_segmentation(headers)])
    study = study_at(orthanc.url)
    prepare(study)
    make_plans(study)
    assert desk.next_case(study, "random", "anna") is None
    label = cases.label(study.store, only_case(study).case_id)
    np.testing.assert_array_equal(read_mask(label.path).array, cohorts.scan(1)[1])
    assert waiting_labels(study) == []  # it came from there
    again = study_at(orthanc.url)
    prepare(again)
    assert cases.label(again.store, label.case_id).created_at == label.created_at


def test_the_newest_of_several_earlier_segmentations_is_the_label(orthanc, study_at):
    _, headers = scan_series(1)
    segs = [earlier_segmentation(headers, number) for number in (3, 4, 5)]
    for seg, day in zip(segs, ("20210101", "20230101", "20220101"), strict=True):
        seg.ContentDate = day
    orthanc.store([*headers, *segs])
    study = study_at(orthanc.url)
    prepare(study)
    label = cases.label(study.store, only_case(study).case_id)
    np.testing.assert_array_equal(read_mask(label.path).array, cohorts.scan(4)[1])


def test_a_label_of_another_study_on_the_same_archive_is_taken_up(orthanc, study_at, tmp_path):
    orthanc.store(scan_series(1)[1])
    first = study_at(orthanc.url)
    prepare(first)
    record = only_case(first)
    file, array = reader_mask(first, record, tmp_path)
    desk.submit(first, record.case_id, file, client_id="anna")
    send_labels(first)
    second = study_at(orthanc.url, name="another")
    prepare(second)
    other = only_case(second)
    assert other.case_id != record.case_id  # each study has its own key
    np.testing.assert_array_equal(
        read_mask(cases.label(second.store, other.case_id).path).array, array
    )


def test_a_scan_waits_until_its_earlier_segmentation_can_be_fetched(orthanc, proxy, study_at):
    _, headers = scan_series(1)
    seg = earlier_segmentation(headers)
    orthanc.store([*headers, seg])
    study = study_at(proxy.url)
    proxy.spoil("refuse", f"/series/{seg.SeriesInstanceUID}$")
    prepare(study)
    assert cases.unlabelled_ids(study.store) == []
    proxy.spoil("")
    refresh(study)
    assert cases.labelled_ids(study.store) == [only_case(study).case_id]


def test_an_earlier_segmentation_on_another_grid_is_left_out_and_the_scan_offered(
    orthanc, study_at
):
    _, headers = scan_series(1)
    seg = earlier_segmentation(headers)
    for groups in seg.PerFrameFunctionalGroupsSequence:
        groups.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0.7]
    orthanc.store([*headers, seg])
    study = study_at(orthanc.url)
    prepare(study)
    assert cases.unlabelled_ids(study.store) == [only_case(study).case_id]


def test_an_archive_that_lists_nothing_takes_nothing_out_of_the_study(orthanc, proxy, study_at):
    orthanc.store(scan_series(1)[1])
    study = study_at(proxy.url)
    prepare(study)
    proxy.spoil("empty", "/series")
    with pytest.raises(ArchiveUnavailable, match="lists none of the 1 series"):
        refresh(study)
    assert only_case(study).present


def test_a_start_without_the_archive_serves_what_is_known(orthanc, study_at):
    orthanc.store(scan_series(1)[1])
    prepare(study_at(orthanc.url))
    orthanc.stop()
    study = study_at(orthanc.url)
    (note,) = prepare(study)
    assert "cannot be reached" in note
    make_plans(study)
    assert desk.next_case(study, "random", "anna").case_id == only_case(study).case_id


def test_scoring_leaves_for_later_what_the_archive_does_not_send(orthanc, proxy, study_at):
    for number in range(1, 6):
        orthanc.store(scan_series(number)[1])
    study = study_at(proxy.url)
    prepare(study)
    proxy.spoil("refuse", r"/series/[\d.]+$")
    report = score_study(study)
    assert (report.scored, report.unavailable, report.unreadable) == (0, 3, {})
    proxy.spoil("")
    assert score_study(study).scored == 5


def test_a_study_of_an_archive_pickles_without_its_password(study_at, monkeypatch):
    monkeypatch.setenv("MONAI_LABEL_DICOMWEB_USERNAME", "reader-of-scans")
    monkeypatch.setenv("MONAI_LABEL_DICOMWEB_PASSWORD", "open sesame")
    study = study_at("http://127.0.0.1:9")
    assert b"open sesame" not in pickle.dumps(study)
    assert pickle.loads(pickle.dumps(study)).pacs == study.pacs
    assert study.location == "http://127.0.0.1:9/dicom-web"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://user:secret@127.0.0.1", "no user or password belongs into the address"),
        ("http://127.0.0.1/a?b=c#", "expected the root"),
        ("https://", "expected the root"),
    ],
)
def test_an_address_that_is_none_or_holds_a_password_is_refused(url, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence) as told:
        open_study(url, state_dir=tmp_path / "state", shipped_model=tmp_path / "none")
    assert "secret" not in str(told.value)
