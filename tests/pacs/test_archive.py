"""What a real archive tells, and what is made of its silence and of half its answers."""

import time
import warnings

import pytest

from fair_strategy.data.dicom.archive import Archive, login_of
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.data.dicom.segmentation import Origin, segmentation
from fair_strategy.data.dicom.subgroups import subgroup_columns
from fair_strategy.data.volumes import Mask
from tests.app import cohorts
from tests.app.serving import wait_for
from tests.pacs.conftest import AFFINE, scan_series
from tests.pacs.dicom_files import Series, slices
from tests.pacs.faulty_proxy import MOVED

ALL_MR = {"Modality": "MR"}


def test_series_are_listed_with_what_qido_tells_of_them(orthanc):
    series, headers = scan_series(1)
    orthanc.store(headers)
    (found,) = Archive(orthanc.dicomweb).series(ALL_MR)
    assert (found.study_uid, found.series_uid) == (series.study_uid, series.series_uid)
    assert found.instances == len(headers)
    assert subgroup_columns(found.header) == {"sex": "F", "age": "63", "ethnic_group": "blue"}
    assert "H-0001" in found.patient


def test_the_header_of_an_instance_tells_the_same(orthanc):
    orthanc.store(scan_series(1)[1])
    archive = Archive(orthanc.dicomweb)
    (found,) = archive.series(ALL_MR)
    header = archive.header(found)
    assert subgroup_columns(header) == {"sex": "F", "age": "63", "ethnic_group": "blue"}


def test_a_filter_chooses_by_pattern_without_regard_to_case(orthanc):
    for description in ("T1 MPRAGE", "t1_tfl", "T2 FLAIR"):
        series = Series(description=description)
        orthanc.store(slices(cohorts.scan(1)[1].astype("uint16"), AFFINE, series)[:2])
    archive = Archive(orthanc.dicomweb)
    assert len(archive.series(ALL_MR)) == 3
    assert len(archive.series({**ALL_MR, "SeriesDescription": "*t1*"})) == 2
    assert archive.series({"Modality": "CT"}) == []


def test_a_list_longer_than_a_page_is_whole(orthanc, monkeypatch):
    monkeypatch.setattr("fair_strategy.data.dicom.archive.PAGE", 2)
    for number in range(5):
        orthanc.store(scan_series(number)[1][:1])
    assert len(Archive(orthanc.dicomweb).series(ALL_MR)) == 5


def test_a_series_arrives_with_its_voxels_and_its_headers_without(orthanc):
    series, headers = scan_series(1)
    orthanc.store(headers)
    archive = Archive(orthanc.dicomweb)
    uids = series.study_uid, series.series_uid
    sent = {ds.SOPInstanceUID: ds.PixelData for ds in headers}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = archive.instances(*uids, len(headers))
        bare = archive.headers(*uids, len(headers))
    assert {ds.SOPInstanceUID: ds.PixelData for ds in got} == sent
    assert {ds.SOPInstanceUID for ds in bare} == sent.keys()
    assert not any("PixelData" in ds for ds in bare)


def test_an_object_that_is_stored_twice_is_there_once(orthanc):
    _, headers = scan_series(1)
    orthanc.store(headers)
    mask = Mask(cohorts.scan(1)[1], AFFINE)
    seg = segmentation(mask, headers, Origin(key="k", model=None, version="0"))
    archive = Archive(orthanc.dicomweb)
    archive.store(seg)
    archive.store(seg)
    assert orthanc.count("SEG") == 1
    (found,) = archive.series({"Modality": "SEG"})
    assert found.instances == 1


@pytest.fixture
def impatient(monkeypatch):
    """Waits of a moment, so that a test of all of them takes a moment."""
    monkeypatch.setattr("fair_strategy.data.dicom.archive.WAITS_S", (0.01, 0.01))
    monkeypatch.setattr("fair_strategy.data.dicom.session.ANSWER", 2)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("refuse", "answers 503"),
        ("silent", "too slow"),
        ("drip", "too slow"),
        ("cut", "broke off in the middle"),
        ("nonsense", "answers what cannot be read|did not say that it keeps an object"),
    ],
)
def test_no_answer_and_half_an_answer_are_told_within_bounds(fault, sentence, orthanc, proxy):
    series, headers = scan_series(1)
    orthanc.store(headers)
    archive = Archive(f"{proxy.url}/dicom-web", timeout_s=0.3)
    proxy.spoil(fault)
    for question in (
        lambda: archive.series(ALL_MR),
        lambda: archive.instances(series.study_uid, series.series_uid, len(headers)),
        lambda: archive.store(headers[0]),
    ):
        with pytest.raises(ArchiveUnavailable, match=sentence) as told:
            question()
        assert "nothing is lost" in str(told.value)
        assert series.study_uid not in str(told.value)
    assert len(proxy.asked) <= 9  # three tries each at most


@pytest.mark.parametrize("fault", ["flood", "moved flood"])
def test_an_answer_without_an_end_is_ended_and_not_asked_for_again(
    fault, orthanc, proxy, monkeypatch
):
    monkeypatch.setattr("fair_strategy.data.dicom.session.MOST_BYTES", 1 << 20)
    archive = Archive(f"{proxy.url}/dicom-web", timeout_s=5)
    proxy.spoil(fault)
    with pytest.raises(ArchiveUnavailable, match="sends more than any scan of a head has"):
        archive.series(ALL_MR)
    assert len(proxy.asked) == 1
    wait_for(lambda: proxy.cut_off, what="end of the flood")


def test_an_archive_that_leads_elsewhere_is_told_and_not_followed(orthanc, proxy):
    orthanc.store(scan_series(1)[1])
    archive = Archive(f"{proxy.url}/dicom-web", timeout_s=5)
    proxy.spoil("moved")
    with pytest.raises(ArchiveUnavailable, match=r"answers 307 .*start with that one"):
        archive.series(ALL_MR)
    assert not any(MOVED in path for path in proxy.asked)


def test_a_series_that_comes_with_fewer_instances_than_it_has_is_refused(orthanc, proxy):
    series, headers = scan_series(1)
    orthanc.store(headers)
    archive = Archive(f"{proxy.url}/dicom-web", timeout_s=5)
    proxy.spoil("fewer")
    with pytest.raises(ArchiveUnavailable, match="sent 31 of 32 instances"):
        archive.instances(series.study_uid, series.series_uid, len(headers))


def test_what_fails_once_is_asked_again(orthanc, proxy, monkeypatch):
    orthanc.store(scan_series(1)[1])
    archive = Archive(f"{proxy.url}/dicom-web", timeout_s=5)
    proxy.spoil("refuse")  # the first time only
    monkeypatch.setattr(time, "sleep", lambda _: proxy.spoil(""))
    assert len(archive.series(ALL_MR)) == 1


def test_an_archive_that_is_not_there_is_told(orthanc):
    orthanc.stop()
    with pytest.raises(ArchiveUnavailable, match="cannot be reached"):
        Archive(orthanc.dicomweb).series(ALL_MR)


def test_a_series_that_is_gone_is_told(orthanc):
    with pytest.raises(ArchiveUnavailable, match=r"answers 404 \(no such series"):
        Archive(orthanc.dicomweb).instances("1.2.3", "1.2.3.4", 1)


def test_user_and_password_come_from_the_variables_that_monai_label_reads():
    assert login_of({}) is None
    told = {"MONAI_LABEL_DICOMWEB_USERNAME": "u", "MONAI_LABEL_DICOMWEB_PASSWORD": "p"}
    assert login_of(told) == ("u", "p")
    assert login_of({"MONAI_LABEL_DATASTORE_USERNAME": "u"}) == ("u", "")
