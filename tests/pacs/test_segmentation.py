"""A mask as DICOM SEG and back: voxel by voxel, beside highdicom's own reading."""

from io import BytesIO

import highdicom
import numpy as np
import pytest

from fair_strategy.data.dicom.geometry import series_grid
from fair_strategy.data.dicom.segmentation import (
    Origin,
    file_bytes,
    segmentation,
    segmentation_uids,
)
from fair_strategy.data.dicom.segmentation_reading import (
    left_caudate_segment,
    segment_mask,
    source_series,
)
from fair_strategy.data.grids import VolumeError, to_ras
from fair_strategy.data.volumes import Mask
from tests.pacs.dicom_files import Series, slices
from tests.pacs.grids import GRIDS, SHAPE

ORIGIN = Origin(key="a submission", model="0123456789abcdef" * 4, version="0")


@pytest.fixture
def series():
    return Series(patient={"PatientID": "P1", "PatientSex": "F", "PatientAge": "063Y"})


@pytest.fixture
def mask(rng):
    array = np.zeros(SHAPE, np.uint8)
    array[1:6, 2:8, 1:4] = rng.random((5, 6, 3)) < 0.4
    return array


def headers_of(grid, series):
    return slices(np.ones(SHAPE, np.uint16), GRIDS[grid], series)


def read_again(built):
    return highdicom.seg.segread(BytesIO(file_bytes(built)))


@pytest.mark.parametrize("grid", GRIDS)
def test_highdicom_reads_the_mask_that_was_written(grid, mask, series):
    headers = headers_of(grid, series)
    seg = read_again(segmentation(Mask(mask, GRIDS[grid]), headers, ORIGIN))
    uids = [ds.SOPInstanceUID for ds in headers]
    frames = seg.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(frames.transpose(2, 1, 0), mask)


@pytest.mark.parametrize("grid", GRIDS)
def test_our_reading_gives_the_mask_back_on_the_grid_of_the_series(grid, mask, series):
    headers = headers_of(grid, series)
    seg = read_again(segmentation(Mask(mask, GRIDS[grid]), headers, ORIGIN))
    found = series_grid(headers)
    again = segment_mask(seg, left_caudate_segment(seg), shape=found.shape, affine=found.affine)
    wanted, own = to_ras(mask, GRIDS[grid]), to_ras(again.array, again.affine)
    np.testing.assert_array_equal(own[0], wanted[0])
    np.testing.assert_allclose(own[1], wanted[1], atol=1e-5)


def test_a_mask_whose_axes_a_viewer_turned_is_turned_back(mask, series):
    turned, affine, _ = to_ras(mask, GRIDS["sagittal"])
    headers = headers_of("sagittal", series)
    seg = read_again(segmentation(Mask(turned, affine), headers, ORIGIN))
    frames = seg.get_pixels_by_source_instance(
        [ds.SOPInstanceUID for ds in headers],
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(frames.transpose(2, 1, 0), mask)


def test_the_object_names_source_patient_structure_and_model(mask, series):
    headers = headers_of("axial", series)
    seg = segmentation(Mask(mask, GRIDS["axial"]), headers, ORIGIN)
    assert seg.Modality == "SEG"
    assert seg.StudyInstanceUID == series.study_uid
    assert (seg.PatientID, seg.PatientSex) == ("P1", "F")
    assert source_series(seg) == {series.series_uid}
    segment = seg.SegmentSequence[0]
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "11000004"
    assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"
    drawn = segmentation(
        Mask(mask, GRIDS["axial"]), headers, Origin(key="b", model=None, version="0")
    )
    assert drawn.SegmentSequence[0].SegmentAlgorithmType == "MANUAL"


def test_an_empty_mask_is_an_object_too(series):
    headers = headers_of("axial", series)
    empty = np.zeros(SHAPE, np.uint8)
    seg = read_again(segmentation(Mask(empty, GRIDS["axial"]), headers, ORIGIN))
    grid = series_grid(headers)
    again = segment_mask(seg, 1, shape=grid.shape, affine=grid.affine)
    assert not again.array.any()


def test_one_submission_has_the_same_uids_for_ever_and_another_has_others():
    assert segmentation_uids("a") == segmentation_uids("a")
    assert len({*segmentation_uids("a"), *segmentation_uids("b")}) == 4
    assert all(uid.is_valid for uid in segmentation_uids("a"))


def test_headers_without_optional_patient_tags_are_enough(mask, series):
    headers = headers_of("axial", series)
    for ds in headers:
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID"):
            delattr(ds, keyword)
    seg = segmentation(Mask(mask, GRIDS["axial"]), headers, ORIGIN)
    assert seg.PatientID == ""


def test_a_mask_on_another_grid_is_refused(mask, series):
    with pytest.raises(VolumeError, match="not on the image's grid"):
        segmentation(Mask(mask, GRIDS["oblique"]), headers_of("axial", series), ORIGIN)


def shifted(seg):
    for groups in seg.PerFrameFunctionalGroupsSequence:
        x, y, z = groups.PlanePositionSequence[0].ImagePositionPatient
        groups.PlanePositionSequence[0].ImagePositionPatient = [x, y, float(z) + 1.0]


def fractional(seg):
    seg.SegmentationType = "FRACTIONAL"


def turned_plane(seg):
    planes = seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    planes[0].ImageOrientationPatient = [0, 1, 0, 1, 0, 0]


def placeless(seg):
    del seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (shifted, "no slice of its source"),
        (turned_plane, "no slice of its source"),
        (fractional, "BINARY is read"),
        (placeless, "without orientation or position"),
    ],
)
def test_a_segmentation_that_is_not_on_its_sources_grid_is_refused(change, sentence, mask, series):
    headers = headers_of("axial", series)
    seg = read_again(segmentation(Mask(mask, GRIDS["axial"]), headers, ORIGIN))
    change(seg)
    grid = series_grid(headers)
    with pytest.raises(VolumeError, match=sentence):
        segment_mask(seg, 1, shape=grid.shape, affine=grid.affine)


@pytest.mark.parametrize(
    ("label", "code", "side", "found"),
    [
        ("Left Caudate", "0", None, 1),
        ("structure 7", "11000004", "7771000", 1),
        ("structure 7", "11000004", "24028007", None),
        ("caudate", "11000004", None, None),
        ("left putamen", "0", None, None),
    ],
)
def test_a_left_caudate_is_known_by_its_code_or_its_name(label, code, side, found, mask, series):
    seg = segmentation(Mask(mask, GRIDS["axial"]), headers_of("axial", series), ORIGIN)
    segment = seg.SegmentSequence[0]
    segment.SegmentLabel = label
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    kind.CodeValue = code
    if side is None:
        del kind.SegmentedPropertyTypeModifierCodeSequence
    else:
        kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue = side
    assert left_caudate_segment(seg) == found
