"""Segmentations that the PACS held before: each becomes a mask file, once, to be imported."""

import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydicom.dataset import Dataset

from fair_strategy.data.dicom.archive import Archive, Found
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.data.dicom.geometry import series_grid
from fair_strategy.data.dicom.segmentation_reading import (
    left_caudate_segment,
    segment_mask,
    source_series,
)
from fair_strategy.data.grids import VolumeError
from fair_strategy.data.volumes import write_mask
from fair_strategy.store.archive import SeriesRecord, note_segmentation, noted_segmentations
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)

SEGMENTATIONS = "segmentations"
"""Folder for masks made of them."""
BUDGET_S = 30.0
"""Of one look; what is left is taken up at the next."""


def found_masks(study: Study, case_ids: Iterable[str]) -> dict[str, Path]:
    """case_id -> mask file made of a segmentation of the PACS."""
    paths = {case_id: _mask_file(study, case_id) for case_id in case_ids}
    return {case_id: path for case_id, path in paths.items() if path.exists()}


def take_up_segmentations(
    study: Study, archive: Archive, series: Mapping[str, SeriesRecord]
) -> set[str]:
    """Turn segmentations that are new here into mask files; cases that must wait for theirs.

    Args:
        study: whose state takes the files.
        archive: its PACS.
        series: SeriesInstanceUID -> series of the study.
    Raises:
        ArchiveUnavailable: the PACS does not list its segmentations.
    """
    fresh = _fresh(study, archive, {record.study_uid for record in series.values()})
    end = time.monotonic() + BUDGET_S
    waiting: set[str] = set()
    for study_uid, found in fresh.items():
        try:
            if time.monotonic() > end:
                raise ArchiveUnavailable("no time left in this look")
            _take_up(study, archive, found, series)
        except ArchiveUnavailable as error:
            log.warning("earlier segmentations are taken up later: %s", error)
            waiting |= {r.case_id for r in series.values() if r.study_uid == study_uid}
    return waiting


def _fresh(study: Study, archive: Archive, studies: set[str]) -> dict[str, list[Found]]:
    """StudyInstanceUID -> segmentation series that were not looked at yet."""
    noted = noted_segmentations(study.store)
    fresh: dict[str, list[Found]] = {}
    for found in archive.series({"Modality": "SEG"}):
        if found.study_uid in studies and found.series_uid not in noted:
            fresh.setdefault(found.study_uid, []).append(found)
    return fresh


def _take_up(
    study: Study, archive: Archive, found: list[Found], series: Mapping[str, SeriesRecord]
) -> None:
    """Take up all segmentations of one DICOM study, so that the newest of several is the last."""
    objects = [
        ds for f in found for ds in archive.instances(f.study_uid, f.series_uid, f.instances)
    ]
    objects.sort(key=lambda ds: f"{ds.get('ContentDate', '')}{ds.get('ContentTime', '')}")
    outcomes = {f.series_uid: "no left caudate of a series of this study" for f in found}
    for ds in objects:
        segment = left_caudate_segment(ds)
        sources = [series[uid] for uid in sorted(source_series(ds)) if uid in series]
        if segment is None or len(sources) != 1:
            continue
        try:
            _write_mask(study, archive, ds, segment, sources[0])
            outcome = f"mask of {sources[0].case_id}"
        except VolumeError as error:
            outcome = f"refused: {error}"
            log.warning("an earlier segmentation of %s is %s", sources[0].case_id, outcome)
        outcomes[str(ds.SeriesInstanceUID)] = outcome
    for series_uid, outcome in outcomes.items():
        note_segmentation(study.store, series_uid, outcome)


def _write_mask(
    study: Study, archive: Archive, ds: Dataset, segment: int, source: SeriesRecord
) -> None:
    slices = archive.headers(source.study_uid, source.series_uid, source.instances)
    grid = series_grid(slices)
    mask = segment_mask(ds, segment, shape=grid.shape, affine=grid.affine)
    write_mask(_mask_file(study, source.case_id), mask.array, mask.affine)


def _mask_file(study: Study, case_id: str) -> Path:
    return study.images_dir / SEGMENTATIONS / f"{case_id}.nii.gz"
