"""A mask as DICOM SEG object that refers to the slices it was drawn on."""

from __future__ import annotations

import importlib.util
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian

from fair_strategy.data.dicom.geometry import series_grid
from fair_strategy.data.grids import match_grid
from fair_strategy.data.volumes import Mask

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription

# It says at each object whose attributes it copies, by UID.
logging.getLogger("highdicom").setLevel(logging.WARNING)

SEGMENT_LABEL = "left_caudate"
CAUDATE = Code("11000004", "SCT", "Caudate nucleus")
LEFT = Code("7771000", "SCT", "Left")
_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")
_MAKER = "fair-strategy"
_SERIES_NUMBER = 900


class PacsExtraMissing(ValueError):
    """highdicom is not installed."""


@dataclass(frozen=True)
class Origin:
    """How a mask came about.

    Attributes:
        key: identifies this very submission; the same key makes the same UIDs, so that a mask that
            is sent twice is stored once.
        model: checksum of the model whose mask was corrected; None for one drawn from nothing.
        version: of this package.
    """

    key: str
    model: str | None
    version: str


def require_highdicom() -> None:
    """Raise PacsExtraMissing, with what to install, where highdicom is missing."""
    if importlib.util.find_spec("highdicom") is None:
        raise PacsExtraMissing(
            "labels go to a PACS as DICOM SEG, which highdicom writes; install the extra: "
            "pip install -c constraints.txt -e '.[pacs]'"
        )


def segmentation_uids(key: str) -> tuple[UID, UID]:
    """Series and SOP instance UID of the submission with this key."""
    series, instance = (
        UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{key}/{part}').int}")
        for part in ("series", "instance")
    )
    return series, instance


def segmentation(mask: Mask, headers: Sequence[Dataset], origin: Origin) -> Dataset:
    """The DICOM SEG object of one mask, binary, frames without a voxel left out.

    Patient and study are those of the source series, copied from its headers by highdicom.

    Args:
        mask: on the grid of the series, but for the order of its axes.
        headers: of every slice of the series; voxels are not needed.
        origin: how the mask came about.
    Raises:
        VolumeError: if the mask is not on the series' grid.
        PacsExtraMissing: without highdicom.
    """
    require_highdicom()
    import highdicom

    grid = series_grid(headers)
    array = match_grid(mask.array, mask.affine, grid.shape, grid.affine)
    series_uid, instance_uid = segmentation_uids(origin.key)
    with disable_value_validation():  # what the PACS holds goes back as it is
        return highdicom.seg.Segmentation(
            source_images=[_complete(ds) for ds in grid.slices],
            pixel_array=_frames(array),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_description(origin)],
            series_instance_uid=series_uid,
            series_number=_SERIES_NUMBER,
            sop_instance_uid=instance_uid,
            instance_number=1,
            manufacturer=_MAKER,
            manufacturer_model_name="fair_caudate",
            software_versions=origin.version,
            device_serial_number="0",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            series_description="Left caudate",
            omit_empty_frames=bool(array.any()),
        )


def file_bytes(ds: Dataset) -> bytes:
    """The object as a DICOM file."""
    buffer = BytesIO()
    ds.save_as(buffer, write_like_original=False)
    return buffer.getvalue()


def _frames(array: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(columns, rows, slices) as frames x rows x columns."""
    return np.ascontiguousarray(array.transpose(2, 1, 0)) != 0


def _complete(header: Dataset) -> Dataset:
    """A header as highdicom wants it: with every type 2 attribute that it copies."""
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID"):
        if keyword not in header:
            setattr(header, keyword, "")
    for keyword in ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"):
        if keyword not in header:
            setattr(header, keyword, "")
    return header


def _description(origin: Origin) -> SegmentDescription:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from highdicom.sr import CodedConcept

    kind, algorithm = SegmentAlgorithmTypeValues.MANUAL, None
    if origin.model is not None:
        kind = SegmentAlgorithmTypeValues.SEMIAUTOMATIC
        algorithm = AlgorithmIdentificationSequence(
            name="fair_caudate",
            family=Code("123109", "DCM", "Artificial Intelligence"),
            version=origin.model[:16],
        )
    description = SegmentDescription(
        segment_number=1,
        segment_label=SEGMENT_LABEL,
        segmented_property_category=_STRUCTURE,
        segmented_property_type=CAUDATE,
        algorithm_type=kind,
        algorithm_identification=algorithm,
    )
    left = CodedConcept.from_code(LEFT)
    description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
        left
    ]
    return description
