"""Classic MR series of a volume, as a scanner would store it; every name and value is invented."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass
class Series:
    """What a series says beside its voxels; `patient` are DICOM keywords and values."""

    patient: dict[str, str] = field(default_factory=dict)
    description: str = "T1 MPRAGE"
    modality: str = "MR"
    study_uid: str = field(default_factory=generate_uid)
    series_uid: str = field(default_factory=generate_uid)
    frame_uid: str = field(default_factory=generate_uid)
    study_date: str = "20200315"
    slope: float = 1.0
    intercept: float = 0.0


def slices(
    stored: np.ndarray, affine: np.ndarray, series: Series | None = None, **changed: Any
) -> list[Dataset]:
    """One dataset a slice of the last axis.

    Args:
        stored: (I, J, K) of uint16, before the rescale.
        affine: (4, 4), voxel to RAS mm.
        series: what the headers say.
        changed: attributes that replace what is written otherwise, by keyword.
    """
    series = series or Series()
    lps = TO_LPS @ affine
    sides = np.linalg.norm(lps[:3, :3], axis=0)
    found = []
    for number in range(stored.shape[2]):
        ds = _empty(series)
        ds.InstanceNumber = number + 1
        ds.Rows, ds.Columns = stored.shape[1], stored.shape[0]
        ds.PixelSpacing = [f"{sides[1]:.10g}", f"{sides[0]:.10g}"]
        ds.SliceThickness = f"{sides[2]:.6g}"
        ds.ImageOrientationPatient = _texts([*(lps[:3, 0] / sides[0]), *(lps[:3, 1] / sides[1])])
        ds.ImagePositionPatient = _texts(lps[:3, 3] + number * lps[:3, 2])
        ds.RescaleSlope, ds.RescaleIntercept = series.slope, series.intercept
        ds.PixelData = np.ascontiguousarray(stored[:, :, number].T).astype("<u2").tobytes()
        ds["PixelData"].VR = "OW"
        for keyword, value in changed.items():
            setattr(ds, keyword, value)
        found.append(ds)
    return found


def as_bytes(ds: Dataset) -> bytes:
    """The dataset as a DICOM file."""
    buffer = BytesIO()
    ds.save_as(buffer, write_like_original=False)
    return buffer.getvalue()


def _empty(series: Series) -> Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.is_little_endian, ds.is_implicit_VR = True, False
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = series.study_uid, series.series_uid
    ds.FrameOfReferenceUID = series.frame_uid
    ds.StudyDate, ds.StudyTime = series.study_date, "120000"
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "1", "", ""
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "", "", "", ""
    ds.Modality, ds.SeriesDescription, ds.SeriesNumber = series.modality, series.description, 1
    ds.Manufacturer, ds.PositionReferenceIndicator = "nobody", ""
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    for keyword, value in series.patient.items():
        setattr(ds, keyword, value)
    return ds


def _texts(numbers: Sequence[float]) -> list[str]:
    return [f"{number:.10g}"[:16] for number in numbers]
