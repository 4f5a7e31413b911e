"""NIfTI and NRRD in and out: the same voxels at the same places; unusable files are refused."""

import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fair_strategy.data.volumes import (
    VolumeError,
    match_grid,
    read_grid,
    read_image,
    read_mask,
    write_image,
    write_mask,
)

SUFFIXES = [".nii", ".nii.gz", ".nrrd"]


def oblique(seed: int = 0) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=seed).as_matrix() * (0.8, 1.0, 2.2)
    affine[:3, 3] = (-80.5, 91.25, -60.0)
    return affine


def ramp(shape: tuple[int, int, int] = (3, 4, 5)) -> NDArray[np.float32]:
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)


def saved(
    path: Path, array: NDArray[np.generic], affine: NDArray[np.float64] | None = None
) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def nrrd_file(path: Path, fields: str, voxels: bytes) -> Path:
    path.write_bytes(f"NRRD0004\n{fields.strip()}\n\n".encode() + voxels)
    return path


def itk_place(image: sitk.Image, index: tuple[int, ...]) -> NDArray[np.float64]:
    """RAS position of a voxel, as ITK (and so 3D Slicer) sees it."""
    lps = image.TransformContinuousIndexToPhysicalPoint([float(i) for i in index])
    return np.array(lps) * (-1.0, -1.0, 1.0)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("seed", range(3))
def test_what_is_written_is_read_again(tmp_path: Path, suffix: str, seed: int) -> None:
    path, affine = tmp_path / f"a{suffix}", oblique(seed)
    write_image(path, ramp(), affine)
    volume = read_image(path)
    np.testing.assert_array_equal(volume.array, ramp())
    np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
    assert volume.array.dtype == np.float32
    assert volume.affine.dtype == np.float64
    assert volume.spacing_mm == pytest.approx((0.8, 1.0, 2.2), abs=1e-6)
    shape, grid_affine = read_grid(path)
    assert shape == (3, 4, 5)
    np.testing.assert_array_equal(grid_affine, volume.affine)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_masks_are_read_again_as_uint8(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    for array in (ramp() > 30, (ramp() > 30).astype(np.int64)):
        write_mask(path, array, oblique())
        mask = read_mask(path)
        assert mask.array.dtype == np.uint8
        np.testing.assert_array_equal(mask.array, ramp() > 30)
    assert mask.spacing_mm == pytest.approx((0.8, 1.0, 2.2), abs=1e-6)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_volume_makes_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / f"a{suffix}", ramp(), oblique())
    write_image(tmp_path / f"b{suffix}", np.asfortranarray(ramp()), oblique())
    written = (tmp_path / f"a{suffix}").read_bytes()
    assert written == (tmp_path / f"b{suffix}").read_bytes()
    # Neither a time nor a name: gzip's time field is zero, pynrrd's dated comment is gone.
    assert b"#" not in written.split(b"\n\n")[0] or suffix != ".nrrd"
    assert suffix != ".nii.gz" or written[4:8] == bytes(4)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("seed", range(4))
def test_itk_sees_each_voxel_where_we_do(tmp_path: Path, suffix: str, seed: int) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(path, ramp(), oblique(seed))
    seen, volume = sitk.ReadImage(str(path)), read_image(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(seen).T, volume.array)
    for index in ((0, 0, 0), (2, 3, 4), (2, 0, 1)):
        place = (volume.affine @ (*index, 1.0))[:3]
        np.testing.assert_allclose(itk_place(seen, index), place, atol=1e-4)


@pytest.mark.parametrize("code", ["LPS", "RAS", "PIR", "ASL", "SRA"])
@pytest.mark.parametrize("seed", range(3))
def test_a_mask_from_itk_in_another_order_returns_to_the_images_grid(
    tmp_path: Path, seed: int, code: str
) -> None:
    image, affine = ramp(), oblique(seed)
    write_image(tmp_path / "image.nii.gz", image, affine)
    shown = sitk.ReadImage(str(tmp_path / "image.nii.gz"))
    drawn = sitk.Cast(sitk.DICOMOrient(shown, code) > 30, sitk.sitkUInt8)
    sitk.WriteImage(drawn, str(tmp_path / "drawn.nrrd"), useCompression=True)
    mask = read_mask(tmp_path / "drawn.nrrd")
    shape, image_affine = read_grid(tmp_path / "image.nii.gz")
    back = match_grid(mask.array, mask.affine, shape, image_affine)
    np.testing.assert_array_equal(back, image > 30)


@pytest.mark.parametrize(("sform", "qform"), [(1, 1), (1, 2), (2, 1), (4, 1), (0, 1), (2, 0)])
def test_of_two_transforms_the_one_is_taken_that_slicer_takes(
    tmp_path: Path, sform: int, qform: int
) -> None:
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("z", 20, degrees=True).as_matrix()
    image = nib.Nifti1Image(ramp(), np.eye(4))
    image.set_sform(np.eye(4), sform)
    image.set_qform(turned, qform)
    nib.save(image, tmp_path / "a.nii")
    seen = sitk.ReadImage(str(tmp_path / "a.nii"))
    place = (read_image(tmp_path / "a.nii").affine @ (2, 3, 4, 1.0))[:3]
    np.testing.assert_allclose(itk_place(seen, (2, 3, 4)), place, atol=1e-4)


@pytest.mark.parametrize("sform", [0, 1, 4])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("tilt", [0.1, 3e-3, 1e-3, 5e-4, 0.0])
def test_a_mask_on_a_slightly_tilted_half_turn_returns_from_itk(
    tmp_path: Path, tilt: float, mirrored: bool, sform: int
) -> None:
    # Stored as LPS: the quaternion's real part is small and has to be reconstructed.
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec([tilt, -tilt, np.pi + tilt]).as_matrix() * (1.0, 1.0, 1.2)
    affine[:3, 3] = (90.0, 110.0, -70.0)
    affine[:3, 2] *= -1.0 if mirrored else 1.0
    array = np.zeros((180, 4, 200), np.uint8)
    array[170:, 1, 190:] = 1
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, sform)
    image.set_qform(affine, 1)
    nib.save(image, tmp_path / "image.nii")
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "image.nii")), str(tmp_path / "drawn.nrrd"))
    mask, (shape, image_affine) = (
        read_mask(tmp_path / "drawn.nrrd"),
        read_grid(tmp_path / "image.nii"),
    )
    # ITK's choice among two transforms that differ by rounding is its own; one leaves no choice.
    tolerance_mm = 0.05 if sform == 4 else 1e-3
    back = match_grid(mask.array, mask.affine, shape, image_affine, tolerance_mm=tolerance_mm)
    np.testing.assert_array_equal(back, array)


def test_stored_integers_are_scaled_by_slope_and_intercept(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.array([0, 1, 200], np.int16).reshape(3, 1, 1), np.eye(4))
    image.header.set_slope_inter(0.5, 10.0)  # nibabel stores 0, 1, 200 beside them, unscaled
    nib.save(image, tmp_path / "a.nii.gz")
    assert read_image(tmp_path / "a.nii.gz").array.ravel().tolist() == [10.0, 10.5, 110.0]


def test_trailing_axes_of_one_are_dropped(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", ramp()[..., None, None])
    assert read_image(path).array.shape == (3, 4, 5)
    assert read_grid(path)[0] == (3, 4, 5)
    np.testing.assert_array_equal(read_image(path).array, ramp())


def test_nifti_2_and_big_endian_files_are_read(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(ramp(), oblique()), tmp_path / "two.nii.gz")
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nib.save(nib.Nifti1Image(ramp().astype(">i2"), oblique(), header), tmp_path / "big.nii")
    for name in ("two.nii.gz", "big.nii"):
        np.testing.assert_array_equal(read_image(tmp_path / name).array, ramp())
        assert read_grid(tmp_path / name)[0] == (3, 4, 5)


def test_compression_is_seen_from_the_content_not_from_the_name(tmp_path: Path) -> None:
    saved(tmp_path / "a.nii.gz", ramp()).rename(tmp_path / "a.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii").array, ramp())
    assert read_grid(tmp_path / "a.nii")[0] == (3, 4, 5)


def damaged_cases(folder: Path) -> dict[str, Path]:
    whole = saved(folder / "whole.nii.gz", np.random.default_rng(0).normal(size=(9, 9, 9)))
    content = whole.read_bytes()
    write_image(folder / "whole.nrrd", ramp((9, 9, 9)), np.eye(4))
    nrrd_content = (folder / "whole.nrrd").read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    plain = gzip.decompress(content)
    contents = {
        "half.nii.gz": content[: len(content) // 2],
        "no-checksum.nii.gz": content[:-6],
        "flipped-bit.nii.gz": bytes(flipped),
        "header-only.nii.gz": gzip.compress(plain[:348]),
        "half.nii": plain[: len(plain) // 2],
        "few-bytes.nii": plain[:100],
        "empty.nii": b"",
        "empty.nii.gz": b"",
        "text.nii.gz": b"not a volume",
        "empty.nrrd": b"",
        "text.nrrd": b"not a volume",
        "half.nrrd": nrrd_content[: len(nrrd_content) // 2],
        "half-header.nrrd": nrrd_content[:60],
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return {name: folder / name for name in contents}


@pytest.mark.parametrize("reader", [read_image, read_mask], ids=["image", "mask"])
def test_damaged_files_are_refused_by_name_and_by_nothing_but_a_volume_error(
    tmp_path: Path, reader: object
) -> None:
    cases = damaged_cases(tmp_path)
    assert len(cases) == 13
    for path in cases.values():
        with pytest.raises(VolumeError) as caught:
            reader(path)  # type: ignore[operator]
        assert str(caught.value).startswith(str(path))


def test_a_truncated_nii_gz_is_called_so(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(9, 9, 9)))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(VolumeError, match=r"a\.nii\.gz: truncated, damaged or not readable"):
        read_image(path)


def test_the_header_of_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    cases = damaged_cases(tmp_path)
    for name in ("few-bytes.nii", "empty.nii", "text.nii.gz", "empty.nrrd", "half-header.nrrd"):
        with pytest.raises(VolumeError, match=name):
            read_grid(cases[name])


@pytest.mark.parametrize("reader", [read_image, read_mask, read_grid])
def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path, reader: object) -> None:
    for name in ("a.nii.gz", "a.nrrd"):
        with pytest.raises(VolumeError, match=rf"{name}: no such file"):
            reader(tmp_path / name)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.ones((2, 3, 4, 2), np.float32), r"shape \(2, 3, 4, 2\); a single 3D volume"),
        (np.ones((2, 3), np.float32), r"shape \(2, 3\); a single 3D volume"),
        (np.full((2, 2, 2), np.nan, np.float32), "8 of 8 voxels are NaN or infinite"),
        (np.array([1, np.inf, 2], np.float32).reshape(3, 1, 1), "1 of 3 voxels are NaN"),
        (np.array([1, 1e300], np.float64).reshape(2, 1, 1), "1 of 2 voxels are NaN or infinite"),
        (np.zeros((2, 2, 2), np.int16), "every voxel is zero"),
        (np.ones((2, 2, 2), np.complex64), r"complex64 \(colour or complex\)"),
    ],
)
def test_images_that_cannot_be_used_are_refused_by_name_and_value(
    tmp_path: Path, array: NDArray[np.generic], sentence: str
) -> None:
    with pytest.raises(VolumeError, match=rf"a\.nii\.gz: .*{sentence}"):
        read_image(saved(tmp_path / "a.nii.gz", array))


def test_a_singular_affine_is_refused_by_all_readers(tmp_path: Path) -> None:
    flat = np.eye(4)
    flat[:3, 1] = flat[:3, 0]
    path = saved(tmp_path / "a.nii", (ramp() > 3).astype(np.uint8))
    content = bytearray(path.read_bytes())
    content[280:328] = flat[:3].astype(np.float32).tobytes()  # the sform's three rows
    path.write_bytes(content)
    for reader in (read_image, read_mask, read_grid):
        with pytest.raises(VolumeError, match=r"a\.nii: the affine is singular"):
            reader(path)


def test_a_nifti_without_orientation_is_refused_since_left_is_not_known(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(ramp(), None), tmp_path / "a.nii")
    with pytest.raises(VolumeError, match="left and right are not known"):
        read_image(tmp_path / "a.nii")


def test_other_extensions_are_refused_in_and_out(tmp_path: Path) -> None:
    (tmp_path / "a.mha").write_bytes(b"x")
    with pytest.raises(VolumeError, match=r"a\.mha: volumes are read from"):
        read_image(tmp_path / "a.mha")
    with pytest.raises(VolumeError, match=r"b\.mha: volumes are written as"):
        write_image(tmp_path / "b.mha", ramp(), np.eye(4))
    assert not (tmp_path / "b.mha").exists()


@pytest.mark.parametrize("value", [1, 2, 255])
def test_a_mask_of_any_single_value_is_binary(tmp_path: Path, value: int) -> None:
    array = np.array([0, value, 0, value]).reshape(4, 1, 1).astype(np.uint8)
    mask = read_mask(saved(tmp_path / "a.nii", array)).array
    assert mask.ravel().tolist() == [0, 1, 0, 1]


def test_an_empty_mask_is_a_mask(tmp_path: Path) -> None:
    assert read_mask(saved(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8))).array.sum() == 0


def test_a_label_map_gives_the_label_asked_for_and_is_refused_without(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii.gz", np.array([0, 11, 50, 11], np.int16).reshape(4, 1, 1))
    assert read_mask(path, label_value=11).array.ravel().tolist() == [0, 1, 0, 1]
    with pytest.raises(VolumeError, match=r"several labels \(11, 50\); choose one by label_value"):
        read_mask(path)
    with pytest.raises(VolumeError, match=r"no voxel has the label_value 12 \(it holds: 11, 50\)"):
        read_mask(path, label_value=12)


def test_many_labels_are_counted_not_listed(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"1, 2, 3, 4, 5, 6, 7, 8, .. \(60 labels\)"):
        read_mask(saved(tmp_path / "a.nii", ramp()))


@pytest.mark.parametrize("value", [0.4, 5e3 + 0.25, np.nan, np.inf])
def test_a_mask_of_probabilities_is_refused_with_the_value(tmp_path: Path, value: float) -> None:
    array = np.array([0, 1, value], np.float32).reshape(3, 1, 1)
    with pytest.raises(VolumeError, match=rf"whole numbers, found the value {value:g}"):
        read_mask(saved(tmp_path / "a.nii", array))


def test_a_rounding_error_beside_zero_is_not_a_voxel_of_the_mask(tmp_path: Path) -> None:
    array = np.array([0, 1e-7, 1 - 1e-7], np.float32).reshape(3, 1, 1)
    assert read_mask(saved(tmp_path / "a.nii", array)).array.ravel().tolist() == [0, 0, 1]


def test_a_label_that_was_scaled_keeps_its_value(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.array([0, 1], np.float64).reshape(2, 1, 1), np.eye(4))
    image.header.set_data_dtype(np.uint8)  # nibabel stores 0 and 255 with a slope of 1/255
    nib.save(image, tmp_path / "a.nii")
    assert read_mask(tmp_path / "a.nii", label_value=1).array.ravel().tolist() == [0, 1]


def test_an_las_header_of_slicer_is_read_by_hand(tmp_path: Path) -> None:
    # LPS origin (10, 20, 30) is RAS (-10, -20, 30); a step along i is LPS +2 x, so RAS -2 x.
    path = nrrd_file(
        tmp_path / "a.nrrd",
        """
type: unsigned char
dimension: 3
space: left-posterior-superior
sizes: 2 1 3
space directions: (2,0,0) (0,1,0) (0,0,4)
kinds: domain domain domain
encoding: raw
space origin: (10,20,30)
""",
        bytes([0, 1, 0, 0, 0, 1]),
    )
    mask = read_mask(path)
    assert mask.affine.tolist() == [[-2, 0, 0, -10], [0, -1, 0, -20], [0, 0, 4, 30], [0, 0, 0, 1]]
    # The first index runs fastest: ones at (1, 0, 0) and (1, 0, 2).
    assert np.argwhere(mask.array).tolist() == [[1, 0, 0], [1, 0, 2]]
    assert read_grid(path)[0] == (2, 1, 3)


SEGMENTATION = """
# Complete NRRD file format specification at:
type: unsigned char
dimension: {dimension}
space: left-posterior-superior
sizes: {sizes}
space directions: {directions}
kinds: {kinds}
encoding: raw
space origin: (0,0,0)
Segment0_ID:=Segment_1
Segment0_LabelValue:=1
Segment0_Layer:=0
Segmentation_ContainedRepresentationNames:=Binary labelmap|Closed surface|
"""


def segmentation(path: Path, layers: int) -> Path:
    fields = SEGMENTATION.format(
        dimension=4 if layers else 3,
        sizes=f"{layers} 2 1 1" if layers else "2 1 1",
        directions=("none " if layers else "") + "(1,0,0) (0,1,0) (0,0,1)",
        kinds=("list " if layers else "") + "domain domain domain",
    )
    return nrrd_file(path, fields, bytes([0] * max(layers, 1) + [1] * max(layers, 1)))


@pytest.mark.parametrize("layers", [0, 1], ids=["3D", "4D of one layer"])
def test_a_slicer_segmentation_of_one_layer_is_a_mask(tmp_path: Path, layers: int) -> None:
    path = segmentation(tmp_path / "a.seg.nrrd", layers)
    assert read_mask(path).array.ravel().tolist() == [0, 1]
    assert read_mask(path).affine.tolist() == np.diag([-1.0, -1.0, 1.0, 1.0]).tolist()
    assert read_grid(path)[0] == (2, 1, 1)


def test_a_slicer_segmentation_of_two_layers_is_refused(tmp_path: Path) -> None:
    path = segmentation(tmp_path / "a.seg.nrrd", 2)
    with pytest.raises(VolumeError, match=r"a\.seg\.nrrd: NRRD sizes \[2, 2, 1, 1\]: a single la"):
        read_mask(path)


def test_a_nrrd_without_space_is_refused(tmp_path: Path) -> None:
    path = nrrd_file(
        tmp_path / "a.nrrd", "type: uchar\ndimension: 3\nsizes: 1 1 1\nencoding: raw", b"\1"
    )
    for reader in (read_image, read_mask, read_grid):
        with pytest.raises(VolumeError, match=r"a\.nrrd: the NRRD header tells no orientation"):
            reader(path)


def test_a_nrrd_cannot_name_another_file_of_the_server(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\1")
    fields = SEGMENTATION.format(
        dimension=3, sizes="1 1 1", directions="(1,0,0) (0,1,0) (0,0,1)", kinds="domain " * 3
    )
    for key in ("data file", "datafile"):
        path = nrrd_file(tmp_path / "a.nrrd", f"{key}: {tmp_path}/secret\n{fields}", b"")
        with pytest.raises(VolumeError, match=r"a\.nrrd: a NRRD file with detached data"):
            read_mask(path)


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.nii.gz"
    write_mask(path, ramp() > 3, np.eye(4))
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_mask(path, ramp() > 9, np.eye(4))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nii.gz"]


def test_writing_makes_the_folders_it_needs_and_keeps_the_callers_array(tmp_path: Path) -> None:
    array = ramp()
    write_image(tmp_path / "x" / "y" / "a.nii", array, np.eye(4))
    np.testing.assert_array_equal(array, ramp())
    assert [entry.name for entry in (tmp_path / "x" / "y").iterdir()] == ["a.nii"]


def test_a_written_file_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    write_mask(tmp_path / "a.nrrd", ramp() > 3, np.eye(4))
    assert (tmp_path / "a.nrrd").stat().st_mode == (tmp_path / "new").stat().st_mode


def test_what_is_no_mask_is_not_written_as_one(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a mask must be of bool or integers, got float32"):
        write_mask(tmp_path / "a.nii", ramp(), np.eye(4))
    with pytest.raises(VolumeError, match="labels must be 0 to 255, got 1 to 300"):
        write_mask(tmp_path / "a.nii", np.array([[[1, 300]]]), np.eye(4))
    with pytest.raises(VolumeError, match=r"3 axes, got shape \(2, 2\)"):
        write_mask(tmp_path / "a.nii", np.ones((2, 2), bool), np.eye(4))
    assert list(tmp_path.iterdir()) == []
