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
    studies = {record.study_uid for record in series.values()}
    noted = noted_segmentations(study.store)
    fresh = [
        found
        for found in archive.series({"Modality": "SEG"})
        if found.study_uid in studies and found.series_uid not in noted
    ]
    end = time.monotonic() + BUDGET_S
    waiting: set[str] = set()
    for found in sorted(fresh, key=lambda f: (f.series_date, f.series_uid)):
        try:
            if time.monotonic() > end:
                raise ArchiveUnavailable("no time left in this look")
            outcome = _take_up(study, archive, found, series)
            note_segmentation(study.store, found.series_uid, outcome)
        except ArchiveUnavailable as error:
            log.warning("an earlier segmentation is taken up later: %s", error)
            waiting |= {r.case_id for r in series.values() if r.study_uid == found.study_uid}
    return waiting


def _take_up(
    study: Study, archive: Archive, found: Found, series: Mapping[str, SeriesRecord]
) -> str:
    """What became of one segmentation series."""
    outcome = "no left caudate of a series of this study"
    for ds in archive.instances(found.study_uid, found.series_uid, found.instances):
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
    return outcome


def _write_mask(
    study: Study, archive: Archive, ds: Dataset, segment: int, source: SeriesRecord
) -> None:
    slices = archive.headers(source.study_uid, source.series_uid, source.instances)
    grid = series_grid(slices)
    mask = segment_mask(ds, segment, shape=grid.shape, affine=grid.affine)
    write_mask(_mask_file(study, source.case_id), mask.array, mask.affine)


def _mask_file(study: Study, case_id: str) -> Path:
    return study.images_dir / "segmentations" / f"{case_id}.nii.gz"
