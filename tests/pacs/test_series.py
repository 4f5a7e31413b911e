"""From slices to a volume: every voxel where the scanner put it, or a sentence that says why."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset

from fair_strategy.data.dicom.geometry import series_grid
from fair_strategy.data.dicom.series import series_volume
from fair_strategy.data.grids import VolumeError
from fair_strategy.data.volumes import read_image, write_image
from tests.pacs.dicom_files import TO_LPS, Series, slices
from tests.pacs.grids import GRIDS, SHAPE, affine_of, rotation


@pytest.fixture
def stored(rng):
    return rng.integers(0, 4000, SHAPE, dtype=np.uint16)


def places(array, affine):
    """Value -> position in mm, for an array of distinct values."""
    index = np.argwhere(np.ones(array.shape, bool))
    positions = index @ affine[:3, :3].T + affine[:3, 3]
    return dict(zip(array.ravel().tolist(), positions, strict=True))


@pytest.mark.parametrize("name", GRIDS)
def test_every_voxel_lies_where_the_headers_say_whatever_the_order_of_the_slices(name, rng):
    numbered = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)
    headers = slices(numbered, GRIDS[name])
    shuffled = [headers[i] for i in rng.permutation(len(headers))]
    for ds, number in zip(shuffled, rng.permutation(len(headers)), strict=True):
        ds.InstanceNumber = int(number)  # what a scanner counts says nothing of the place
        ds.SliceThickness = "99"
    volume = series_volume(shuffled)
    found, wanted = places(volume.array, volume.affine), places(numbered, GRIDS[name])
    assert found.keys() == wanted.keys()
    for value, position in wanted.items():
        np.testing.assert_allclose(found[value], position, atol=1e-5)


@pytest.mark.parametrize("name", GRIDS)
def test_the_volume_is_the_one_that_itk_reads(name, stored, tmp_path):
    files = []
    for number, ds in enumerate(slices(stored, GRIDS[name])):
        files.append(str(tmp_path / f"{number}.dcm"))
        ds.save_as(files[-1], write_like_original=False)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    theirs = reader.Execute()
    ours = series_volume(slices(stored, GRIDS[name]))
    lps = TO_LPS @ ours.affine
    for index in ((0, 0, 0), (6, 0, 0), (0, 8, 0), (0, 0, 4), (3, 5, 2)):
        place = (lps @ [*index, 1])[:3]
        at = theirs.TransformPhysicalPointToIndex([float(p) for p in place])
        np.testing.assert_allclose(theirs.TransformIndexToPhysicalPoint(at), place, atol=1e-4)
        assert theirs[at] == ours.array[index]


def test_the_file_holds_the_voxels_and_the_place_of_the_series(stored, tmp_path):
    volume = series_volume(slices(stored, GRIDS["oblique"]))
    write_image(tmp_path / "v.nii.gz", volume.array, volume.affine, dtype=volume.array.dtype)
    again = read_image(tmp_path / "v.nii.gz")
    np.testing.assert_array_equal(again.array, volume.array)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-5)  # NIfTI: float32


def test_values_are_those_of_each_slices_own_rescale(stored):
    stored[0, 0, 2] = 1000
    headers = slices(stored, GRIDS["axial"])
    for number, ds in enumerate(headers):
        ds.RescaleSlope, ds.RescaleIntercept = 0.5 + number, -10.0 * number
    array = series_volume(headers).array
    assert array.dtype == np.float32
    by_slice = np.arange(SHAPE[2])
    assert array[0, 0, 2] == 2480  # third slice: 2.5 x 1000 - 20
    np.testing.assert_allclose(array, stored * (0.5 + by_slice) - 10.0 * by_slice, rtol=1e-6)


def test_whole_numbers_stay_whole_without_a_rescale(stored):
    headers = slices(stored, GRIDS["axial"])
    for ds in headers[:2]:
        del ds.RescaleSlope, ds.RescaleIntercept
    array = series_volume(headers).array
    assert array.dtype == np.uint16
    np.testing.assert_array_equal(array, stored)


def tilted(headers):
    for number, ds in enumerate(headers):
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y + 0.4 * number, z]
    return headers


def with_a_gap(headers):
    return headers[:2] + headers[3:]


def with_two_orientations(headers):
    headers[1].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    return headers


def with_one_slice_twice(headers):
    headers[2].ImagePositionPatient = headers[1].ImagePositionPatient
    return headers


def with_the_attribute(keyword, value, *, only=None):
    def change(headers):
        for ds in headers if only is None else headers[only : only + 1]:
            setattr(ds, keyword, value)
        return headers

    return change


def without_position(headers):
    del headers[3].ImagePositionPatient
    return headers


def unreadable_voxels(headers):
    headers[1].PixelData = headers[1].PixelData[:10]
    return headers


REFUSED = {
    "gantry tilt": (tilted, "shifted sideways by up to 1.6 mm"),
    "missing slice": (with_a_gap, "slices 2 and 3 of 4 lie 5 mm apart, the others 2.5 mm"),
    "localiser": (with_two_orientations, "several orientations"),
    "two in one place": (with_one_slice_twice, "1 of 5 slices lie where another one lies"),
    "one slice": (lambda headers: headers[:1], "at least two"),
    "enhanced": (with_the_attribute("NumberOfFrames", 5), "several frames"),
    "no position": (without_position, "has no ImagePositionPatient"),
    "two sizes": (with_the_attribute("Rows", 8, only=1), "several Rows"),
    "two spacings": (with_the_attribute("PixelSpacing", [2, 2], only=1), "several pixel spacings"),
    "no right angle": (
        with_the_attribute("ImageOrientationPatient", [1, 0, 0, 0.6, 0.8, 0]),
        "not at right angles",
    ),
    "colour": (with_the_attribute("PhotometricInterpretation", "RGB"), "MONOCHROME2 is read"),
    "broken voxels": (unreadable_voxels, "cannot be decoded"),
    "slope of zero": (with_the_attribute("RescaleSlope", 0), "no usable rescale"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_volume_is_refused_with_the_reason(name, stored):
    change, sentence = REFUSED[name]
    headers = change(slices(stored, GRIDS["axial"]))
    with pytest.raises(VolumeError, match=sentence):
        series_volume(headers)


def test_positions_written_with_three_decimals_are_even_enough(stored):
    headers = slices(stored, affine_of(rotation((0.3, -0.2, 0.5)), (0.9375, 0.9375, 1.3)))
    for ds in headers:
        ds.ImagePositionPatient = [f"{float(p):.3f}" for p in ds.ImagePositionPatient]
    grid = series_grid(headers)
    assert grid.shape == SHAPE
    assert np.linalg.norm(grid.affine[:3, 2]) == pytest.approx(1.3, abs=1e-3)


def test_headers_alone_tell_the_grid(stored, tmp_path: Path):
    headers: list[Dataset] = slices(stored, GRIDS["sagittal"], Series())
    for ds in headers:
        del ds.PixelData
    np.testing.assert_allclose(series_grid(headers).affine, GRIDS["sagittal"], atol=1e-6)
