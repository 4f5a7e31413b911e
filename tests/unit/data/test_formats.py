"""NIfTI as bytes: what is read and written is what nibabel's own images read and write."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fair_strategy.data import formats
from fair_strategy.data.volumes import VolumeError, read_image

KINDS = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
SCALES = [(1.0, 0.0), (0.1, 0.0), (1.0, 3.0), (2.5, -7.25), (3e30, 1e20), (1e-30, 0.0)]
HEADER_BYTES = 348
GRID = np.array([[0.9, 0.1, 0, -80], [-0.1, 0.9, 0.2, 90], [0, -0.2, 1.9, -60], [0, 0, 0, 1]])


def as_nibabel_reads(content: bytes) -> NDArray[np.float32]:
    version_2 = nib.Nifti2Header.may_contain_header(content) and content[344:348] != b"n+1\0"
    image = (nib.Nifti2Image if version_2 else nib.Nifti1Image).from_bytes(content)
    with np.errstate(over="ignore"):
        return np.asarray(image.dataobj, dtype=np.float32)


def as_nibabel_writes(array: NDArray[np.generic], affine: NDArray[np.float64]) -> bytes:
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    content: bytes = image.to_bytes()
    return content


def noise(kind: str, seed: int, shape: tuple[int, ...] = (3, 4, 5)) -> NDArray[np.generic]:
    """Any value of an integer type; of a float type, orders of magnitude on both sides of 1."""
    rng = np.random.default_rng(seed)
    if np.dtype(kind).kind == "f":
        return (rng.normal(size=shape) * 10.0 ** rng.integers(-30, 30, shape)).astype(kind)
    limits = np.iinfo(kind)
    return rng.integers(limits.min, limits.max, shape, np.dtype(kind), endpoint=True)


def file_of(
    kind: str,
    *,
    order: str = "<",
    version: int = 1,
    scale: tuple[float, float] = (1.0, 0.0),
    extension: int = 0,
) -> bytes:
    """A file of voxels of that type and byte order; `extension` bytes follow its header."""
    image_class = nib.Nifti1Image if version == 1 else nib.Nifti2Image
    header = image_class.header_class(endianness=order)
    header.set_data_dtype(np.dtype(kind))
    image = image_class(noise(kind, seed=len(kind) + extension), GRID, header)
    image.header.set_slope_inter(*scale)
    if extension:
        image.header.extensions.append(Nifti1Extension("comment", b"x" * extension))
    content: bytes = image.to_bytes()
    return content


def spoilt(content: bytes, **fields: float) -> bytes:
    """The file with other values in its NIfTI-1 header, unchecked."""
    header = nib.Nifti1Header(content[:HEADER_BYTES])
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + content[HEADER_BYTES:]


def oblique(seed: int) -> NDArray[np.float64]:
    """Turned, sheared, and for every other seed mirrored."""
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    sides = rng.uniform(0.5, 3.0, 3) * (1.0, 1.0, (-1.0) ** seed)
    affine[:3, :3] = Rotation.random(random_state=seed).as_matrix() * sides
    affine[:3, :3] += 0.02 * rng.normal(size=(3, 3))
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return affine


@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", KINDS)
def test_voxels_are_those_that_nibabel_reads(
    tmp_path: Path, kind: str, order: str, version: int, scale: tuple[float, float]
) -> None:
    path, content = tmp_path / "a.nii", file_of(kind, order=order, version=version, scale=scale)
    wanted = as_nibabel_reads(content)
    for stored in (content, gzip.compress(content)):
        path.write_bytes(stored)
        voxels, affine = formats.read(path)
        assert voxels.dtype == np.float32
        assert voxels.shape == (3, 4, 5)
        assert voxels.tobytes() == wanted.tobytes()
        np.testing.assert_allclose(affine, GRID, atol=1e-5)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("extension", [1, 150, 200, 5000])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_what_extends_a_header_is_passed_over_however_long_it_is(
    tmp_path: Path, suffix: str, extension: int, version: int
) -> None:
    path, content = tmp_path / f"a{suffix}", file_of("i2", version=version, extension=extension)
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    assert formats.read(path)[0].tobytes() == as_nibabel_reads(content).tobytes()
    assert formats.read_grid(path)[0] == (3, 4, 5)


def test_voxels_behind_a_damaged_extension_are_read(tmp_path: Path) -> None:
    whole = file_of("i2", extension=40)
    (tmp_path / "a.nii").write_bytes(whole[:352] + b"\xff" * 8 + whole[360:])
    assert formats.read(tmp_path / "a.nii")[0].tobytes() == as_nibabel_reads(whole).tobytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1],
        lambda whole: whole[:-100],
        lambda whole: spoilt(whole, vox_offset=512),
        lambda whole: spoilt(whole, vox_offset=16),
        lambda whole: spoilt(whole, scl_slope=2.0, scl_inter=np.inf),
        lambda whole: spoilt(whole, sform_code=0, qform_code=1, quatern_b=2.0),
        lambda whole: spoilt(whole, datatype=77),
    ],
    ids=[
        "a byte short", "100 bytes short", "starts late", "starts in the header",
        "infinite intercept", "no quaternion", "no type",
    ],
)  # fmt: skip
def test_what_nibabel_refuses_is_refused_with_its_sentence(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    content = damage(file_of("i2"))
    with pytest.raises(Exception, match=r"\w") as nibabels:
        as_nibabel_reads(content)
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(VolumeError) as ours:
        read_image(tmp_path / "a.nii")
    sentence = f"a.nii: truncated, damaged or not readable ({nibabels.value})"
    assert str(ours.value) == f"{tmp_path}/{sentence}"


@pytest.mark.parametrize("kind", ["c8", "c16", [("R", "u1"), ("G", "u1"), ("B", "u1")]], ids=str)
def test_colour_and_complex_voxels_are_refused(tmp_path: Path, kind: object) -> None:
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.dtype(kind)), GRID), tmp_path / "a.nii")
    with pytest.raises(VolumeError, match=r"\(colour or complex\) are not supported"):
        formats.read(tmp_path / "a.nii")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # what the damaged numbers overflow
def test_a_damaged_header_is_read_or_refused_as_nibabel_does(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path, whole, read = tmp_path / "a.nii", file_of("i2", scale=(0.5, 2.0)), 0
    for _ in range(400):
        content = bytearray(whole)
        for place in rng.integers(HEADER_BYTES, size=rng.integers(1, 4)):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            voxels, _ = formats.read(path)
        except VolumeError:  # of ours alone: no orientation, colour, too many voxels
            continue
        except Exception as error:
            with pytest.raises(type(error), match=re.escape(str(error))):
                as_nibabel_reads(bytes(content))
            continue
        assert voxels.tobytes() == as_nibabel_reads(bytes(content)).tobytes()
        read += 1
    assert 100 < read < 400


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_the_bytes_written_are_those_that_nibabel_writes(kind: str, seed: int) -> None:
    array, affine = noise(kind, seed), oblique(seed)
    wanted = as_nibabel_writes(array, affine)
    assert formats.encode(Path("a.nii"), array, affine) == wanted
    assert gzip.decompress(formats.encode(Path("a.nii.gz"), array, affine)) == wanted


def test_neither_strides_nor_byte_order_of_an_array_change_what_is_written() -> None:
    array = np.asarray(noise("f4", 1))
    array[0, 0, :3] = (np.nan, np.inf, -0.0)
    padded = np.zeros((6, 4, 10), np.float32)
    padded[::2, :, ::-2] = array
    wanted = as_nibabel_writes(array, GRID)
    for same in (array, np.asfortranarray(array), padded[::2, :, ::-2], array.astype(">f4")):
        assert as_nibabel_writes(same, GRID) == wanted
        assert formats.encode(Path("a.nii"), same, GRID) == wanted


@pytest.mark.parametrize("shape", [(1, 1, 1), (40000, 1, 1), (163842, 1, 1), (27307, 1, 6)])
def test_shapes_that_nifti_1_writes_in_its_own_way_are_written_as_nibabel_does(
    shape: tuple[int, int, int],
) -> None:
    array = noise("u1", 2, shape)
    with np.testing.suppress_warnings() as warned:
        warned.record(UserWarning, "Using large vector Freesurfer hack")
        assert formats.encode(Path("a.nii"), array, GRID) == as_nibabel_writes(array, GRID)


@pytest.mark.parametrize("array", [np.ones((2, 2, 2), bool), np.ones((2, 2, 2), np.float16)])
def test_a_type_that_nifti_lacks_is_refused(array: NDArray[np.generic]) -> None:
    with pytest.raises(nib.spatialimages.HeaderDataError, match="not supported"):
        formats.encode(Path("a.nii"), array, GRID)


@pytest.mark.parametrize("kind", ["i8", "u8"])
def test_what_few_programs_read_is_not_written(kind, tmp_path):
    with pytest.raises(VolumeError, match="few programs"):
        formats.encode(tmp_path / "a.nii", np.zeros((2, 2, 2), kind), GRID)
