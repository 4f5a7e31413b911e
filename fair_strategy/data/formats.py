"""NIfTI and NRRD as bytes on one side, an array and its voxel-to-RAS affine on the other."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import nrrd
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fair_strategy.data.grids import Affine, VolumeError

_GZIP = b"\x1f\x8b"
_NIFTI_HEADER_BYTES = 540  # NIfTI-2; NIfTI-1 takes 348 of them
MAX_BYTES = 4 * 1024**3
"""Voxels of one file, unpacked: a whole head at 0.5 mm in double precision has a quarter of it."""
_SLACK_BYTES = 1024**2  # header extensions, padding
_CHUNK = 1024**2
# The synonyms of the NRRD definition, http://teem.sourceforge.net/nrrd/format.html#type
_NRRD_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int",
           "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}  # fmt: skip
_TO_RAS = {
    "right-anterior-superior": (1.0, 1.0, 1.0),
    "left-anterior-superior": (-1.0, 1.0, 1.0),
    "left-posterior-superior": (-1.0, -1.0, 1.0),
}
_TO_RAS |= {"RAS": _TO_RAS["right-anterior-superior"], "LAS": _TO_RAS["left-anterior-superior"]}
_TO_RAS |= {"LPS": _TO_RAS["left-posterior-superior"]}


def read(path: Path) -> tuple[NDArray[Any], Affine]:
    """Voxels (NIfTI: float32, scaled by slope and intercept) and affine; any number of axes."""
    if _is_nrrd(path):
        return _read_nrrd(path)
    content = path.read_bytes()
    if content.startswith(_GZIP):
        content = _gunzip(content)
    header = _nifti_header(content)
    _check_size(header.get_data_shape(), header.get_data_dtype(), room=len(content))
    voxels = ArrayProxy(io.BytesIO(content), header, mmap=False)
    header.get_best_affine()  # nibabel refuses a quaternion longer than 1 here
    _check_scalar(voxels.dtype)
    affine = _nifti_affine(header)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
        # Without the type, nibabel scales in float64: twice the memory and time.
        return np.asarray(voxels, dtype=np.float32), affine


def read_grid(path: Path) -> tuple[tuple[int, ...], Affine]:
    """Shape and affine from the header alone."""
    if _is_nrrd(path):
        header = nrrd.read_header(str(path))
        shape, affine = _nrrd_grid(header)
        return shape, affine
    with path.open("rb") as handle:
        start = handle.read(_NIFTI_HEADER_BYTES)
    if start.startswith(_GZIP):
        with gzip.open(path, "rb") as handle:
            start = handle.read(_NIFTI_HEADER_BYTES)
    nifti = _nifti_header(start)
    return tuple(int(size) for size in nifti.get_data_shape()), _nifti_affine(nifti)


def encode(path: Path, array: NDArray[Any], affine: Affine) -> bytes:
    """The bytes of a file of the format that the name asks for; the same input, the same bytes."""
    if path.name.endswith(".nrrd"):
        return _encode_nrrd(array, affine)
    content = _encode_nifti(path, array, affine)
    if path.name.endswith(".nii.gz"):
        return gzip.compress(content, compresslevel=6, mtime=0)
    if path.name.endswith(".nii"):
        return content
    raise VolumeError(f"{path}: volumes are written as .nii, .nii.gz or .nrrd")


def _is_nrrd(path: Path) -> bool:
    if path.name.endswith((".nii", ".nii.gz", ".nrrd")):
        return path.name.endswith(".nrrd")
    raise VolumeError("volumes are read from .nii, .nii.gz and .nrrd")


def _gunzip(content: bytes) -> bytes:
    """The whole of a gzip file, with its length and checksum checked, but no more than it tells.

    A file of 2 MB may unpack to 2 GB of zeros; so the size that its header tells is looked at
    before, and what goes beyond is refused.
    """
    start = zlib.decompressobj(wbits=31).decompress(content[:_CHUNK], _NIFTI_HEADER_BYTES)
    header = _nifti_header(start)
    told = _check_size(header.get_data_shape(), header.get_data_dtype())
    most = told + max(int(header["vox_offset"]), 0) + _SLACK_BYTES
    parts, left = [], most
    while content:
        stream = zlib.decompressobj(wbits=31)
        parts.append(stream.decompress(content, left + 1))
        left -= len(parts[-1])
        if left < 0:
            raise VolumeError(f"unpacks to more than the {most} bytes that its header tells of")
        if not stream.eof:
            raise EOFError("the compressed data end before their end marker")
        content = stream.unused_data.lstrip(b"\0")
    return b"".join(parts)


def _check_size(shape: Any, dtype: np.dtype[Any], *, room: int | None = None) -> int:
    """Bytes of the voxels that a header tells of; refused beyond what a scan has.

    Args:
        room: bytes that are there; None if not known yet.
    """
    told = math.prod(int(size) for size in shape) * dtype.itemsize
    if not 0 <= told <= MAX_BYTES or (room is not None and told > room):
        raise VolumeError(
            f"the header tells of {told} bytes of voxels, expected at most "
            f"{MAX_BYTES if room is None else min(room, MAX_BYTES)}; is the file damaged?"
        )
    return told


def _nifti_header(start: bytes) -> Any:
    """The header at the start of a file, checked, without what extends it.

    Nothing here needs the extensions, and those of a NIfTI-1 file may reach beyond `start`.
    """
    for header_class in (nibabel.Nifti1Header, nibabel.Nifti2Header):
        if header_class.may_contain_header(start):
            return header_class(start[: header_class.sizeof_hdr])
    raise VolumeError("this is not a NIfTI file")


def _nifti_affine(header: Any) -> Affine:
    """The transform that ITK, and so 3D Slicer, takes where a file has two (sform and qform).

    A mask drawn in Slicer then comes back onto this grid. It is the sform if that is a scanner's
    (code 1) or the only one, else the qform; nibabel takes the sform always.
    """
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    if sform_code == 0 and qform_code == 0:
        raise VolumeError(
            "the header has no orientation (qform and sform codes are 0), so left and right are "
            "not known; set it when converting from DICOM"
        )
    use_sform = sform_code == 1 or qform_code == 0
    return np.asarray(header.get_sform(), dtype=np.float64) if use_sform else _qform(header)


def _qform(header: Any) -> Affine:
    """The affine of a NIfTI quaternion, as the NIfTI reference code and ITK compute it.

    nibabel rounds half turns off at another threshold, which moves a corner of a slightly tilted
    scan by up to 0.3 mm: enough to refuse each mask that comes back from Slicer.
    """
    quaternion = np.array([header[f"quatern_{part}"] for part in "bcd"], dtype=np.float64)
    rest = 1.0 - float(quaternion @ quaternion)
    turn = Rotation.from_quat([*quaternion, np.sqrt(rest) if rest >= 1e-7 else 0.0])
    sides = np.array(header["pixdim"][1:4], dtype=np.float64)
    sides[2] *= -1.0 if header["pixdim"][0] < 0 else 1.0
    affine = np.eye(4)
    affine[:3, :3] = turn.as_matrix() * sides
    affine[:3, 3] = [header[f"qoffset_{axis}"] for axis in "xyz"]
    return affine


def _read_nrrd(path: Path) -> tuple[NDArray[Any], Affine]:
    with path.open("rb") as handle:
        header = nrrd.read_header(handle)
        shape, affine = _nrrd_grid(header)
        _check_nrrd_size(header, handle)
        array = nrrd.read_data(header, handle)
    _check_scalar(array.dtype)
    return array.reshape(shape), affine


def _check_nrrd_size(header: dict[str, Any], handle: BinaryIO) -> None:
    # pynrrd unpacks all there is before it compares with the header.
    told = _check_size(header["sizes"], np.dtype(_nrrd_dtype(header)))
    encoding = header.get("encoding")
    if encoding not in ("raw", "gzip", "gz"):
        raise VolumeError(f"NRRD encoding {encoding!r} is not read; save it as raw or gzip")
    if encoding == "raw":
        return
    start, left = handle.tell(), told + _SLACK_BYTES
    stream = zlib.decompressobj(wbits=47)
    while (packed := stream.unconsumed_tail or handle.read(_CHUNK)) and not stream.eof:
        left -= len(stream.decompress(packed, _CHUNK))
        if left < 0:
            raise VolumeError(f"unpacks to more than the {told} bytes that its header tells of")
    handle.seek(start)


def _nrrd_dtype(header: dict[str, Any]) -> str:
    found = {nrrd_name: kind for kind, names in _NRRD_TYPES.items() for nrrd_name in names}
    if header.get("type") not in found:
        raise VolumeError(f"NRRD type {header.get('type')!r} is not read; save it as numbers")
    return found[header["type"]]


def _nrrd_grid(header: dict[str, Any]) -> tuple[tuple[int, ...], Affine]:
    if "data file" in header or "datafile" in header:
        # Also a matter of safety: the header of an upload could name any file of the server.
        raise VolumeError("a NRRD file with detached data is not read; save header and data in one")
    signs = _TO_RAS.get(header.get("space", ""))
    if signs is None or not {"space directions", "space origin", "sizes"} <= header.keys():
        raise VolumeError(
            f"the NRRD header tells no orientation (space {header.get('space')!r}); save it with "
            "space, space directions and space origin"
        )
    directions = np.asarray(header["space directions"], dtype=np.float64)
    spatial = ~np.isnan(directions).any(axis=1)
    sizes = [int(size) for size in header["sizes"]]
    extra = [size for size, is_spatial in zip(sizes, spatial, strict=True) if not is_spatial]
    if spatial.sum() != 3 or any(size != 1 for size in extra):
        raise VolumeError(f"NRRD sizes {sizes}: a single layer over 3 axes of space is expected")
    affine = np.eye(4)
    affine[:3, :3] = directions[spatial].T
    affine[:3, 3] = header["space origin"]
    shape = tuple(size for size, is_spatial in zip(sizes, spatial, strict=True) if is_spatial)
    return shape, np.diag((*signs, 1.0)) @ affine


def _encode_nrrd(array: NDArray[Any], affine: Affine) -> bytes:
    lps = np.diag((-1.0, -1.0, 1.0, 1.0)) @ affine
    header = {
        "space": "left-posterior-superior",
        "kinds": ["domain"] * 3,
        "space directions": lps[:3, :3].T,
        "space origin": lps[:3, 3],
        "encoding": "gzip",
    }
    buffer = io.BytesIO()
    nrrd.write(buffer, array, header, compression_level=6)
    head, blank, voxels = buffer.getvalue().partition(b"\n\n")
    lines = [line for line in head.split(b"\n") if not line.startswith(b"#")]  # pynrrd dates it
    return b"\n".join(lines) + blank + voxels


def _encode_nifti(path: Path, array: NDArray[Any], affine: Affine) -> bytes:
    """As nibabel.Nifti1Image writes it, which makes and checks several headers on the way."""
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        raise VolumeError(
            f"{path}: few programs read voxels of {array.dtype}; write smaller numbers"
        )
    header = nibabel.Nifti1Header()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_slope_inter(1.0, 0.0)
    header.set_sform(affine, code="aligned")
    header.set_qform(affine, code="unknown")
    header.set_xyzt_units("mm")
    file = io.BytesIO()
    header.write_to(file)
    file.write(array.astype(header.get_data_dtype(), copy=False).tobytes(order="F"))
    return file.getvalue()


def _check_scalar(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "biuf":
        raise VolumeError(f"voxels of type {dtype} (colour or complex) are not supported")
