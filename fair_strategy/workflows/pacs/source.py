"""The scans of a PACS: listed by QIDO, fetched by WADO when first needed, kept in the state."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fair_strategy.data.bids import Scan
from fair_strategy.data.cohort import CohortError
from fair_strategy.data.dicom.archive import Found
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.data.dicom.participants import (
    add_participants,
    known_subjects,
    remove_participant,
)
from fair_strategy.data.dicom.series import series_volume
from fair_strategy.data.dicom.subgroups import subgroup_columns
from fair_strategy.data.grids import VolumeError
from fair_strategy.data.volumes import write_image
from fair_strategy.store import archive, cases
from fair_strategy.store.archive import SeriesRecord
from fair_strategy.store.cases import CaseRecord
from fair_strategy.workflows.pacs.connection import Pseudonyms, connect
from fair_strategy.workflows.pacs.keeping import FETCHED, make_room, mark_used
from fair_strategy.workflows.pacs.segmentations import (
    SEGMENTATIONS,
    found_masks,
    take_up_segmentations,
)
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)

TABLE_COLUMNS = 3
"""Subgroup tags that a header can tell: where QIDO told fewer, a header is read."""


class Pacs:
    """A study's PACS, as a source of scans."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._archive = connect(study)
        self._names = Pseudonyms(study.store)

    def walk(self) -> list[Scan]:
        """Every series that fits `dicom_filter`; its subgroup tags are in participants.tsv then.

        A series whose earlier segmentation could not be fetched yet is left out: offered now, it
        would be segmented twice.
        Raises:
            ArchiveUnavailable: no whole answer; nothing is changed then.
        """
        listed = self._listed()
        records = {found.series_uid: self._record(found) for found in listed}
        self._write_subgroups(listed)
        archive.remember_series(self._study.store, records.values())
        waiting = take_up_segmentations(self._study, self._archive, records)
        scans = [self._scan(found, records[found.series_uid]) for found in listed]
        return sorted(
            (scan for scan in scans if scan.case_id not in waiting), key=lambda scan: scan.case_id
        )

    def existing_masks(self, scans: Sequence[Scan]) -> Mapping[str, Path]:
        """Masks made of segmentations that the PACS held."""
        return found_masks(self._study, [scan.case_id for scan in scans])

    def fetch(self, record: CaseRecord) -> Path:
        """The scan as NIfTI, in the series' own grid; others may be removed to make room for it.

        Raises:
            ArchiveUnavailable: no whole answer.
            VolumeError: the series is no volume; the case is marked unreadable.
        """
        if mark_used(self._study, record.path):
            return record.path
        series = archive.series_of(self._study.store, record.case_id)
        if series is None:
            raise ArchiveUnavailable(f"{record.case_id}: not known to come from the PACS")
        slices = self._archive.instances(series.study_uid, series.series_uid, series.instances)
        try:
            volume = series_volume(slices)
        except VolumeError as error:
            reason = f"{record.case_id}: {error}"
            cases.mark_unreadable(self._study.store, record.case_id, record.fingerprint, reason)
            raise VolumeError(reason) from error
        write_image(record.path, volume.array, volume.affine, dtype=volume.array.dtype)
        self._forget_older(record)
        make_room(self._study, but=record.path)
        return record.path

    def still_has(self, subject_id: str, records: Sequence[CaseRecord]) -> str | None:
        """Series that `walk` would find: known ones of the person, and new ones.

        Raises:
            ArchiveUnavailable: no whole answer.
        """
        known = {record.case_id for record in records}
        held = any(
            self._names.subject_id(found) == subject_id
            or self._names.case_id(found.series_uid) in known
            for found in self._listed(but=subject_id)
        )
        return "its series in the PACS" if held else None

    def named_in_table(self, subject_id: str) -> bool:
        """Whether the participants.tsv made of DICOM tags has a row of the person."""
        return subject_id in known_subjects(self._table)

    def copies(self, case_ids: Sequence[str]) -> Iterable[Path]:
        """Fetched scans and masks made of segmentations; also those that belong to no other case.

        Of a series that waits for its segmentation there is no case yet, and nobody can say whose
        it is; what a kill cut off has a name of its own. Both are made again when needed.
        """
        others = {c.case_id for c in cases.cases(self._study.store)} - set(case_ids)
        kept = {f"{case_id}.nii.gz" for case_id in others}
        for folder in (FETCHED, SEGMENTATIONS):
            for path in (self._study.images_dir / folder).rglob("*"):
                if path.is_file() and path.name not in kept:
                    yield path

    def forget(self, subject_id: str) -> None:
        """Take the person's row out of the participants.tsv made of DICOM tags."""
        remove_participant(self._table, subject_id)

    @property
    def _table(self) -> Path:
        return self._study.images_dir / "participants.tsv"

    def _listed(self, *, but: str | None = None) -> list[Found]:
        """Every series that fits `dicom_filter`.

        Args:
            but: a subject who may be gone; for a list that is empty.
        """
        listed = self._archive.series(dict(self._study.settings.dicom_filter))
        if not listed:
            self._refuse_empty(but)
        return listed

    def _record(self, found: Found) -> SeriesRecord:
        case_id = self._names.case_id(found.series_uid)
        return SeriesRecord(case_id, found.study_uid, found.series_uid, found.instances)

    def _scan(self, found: Found, record: SeriesRecord) -> Scan:
        # A series that grew is another file: what was fetched of it was not all.
        fingerprint = f"instances-{record.instances or 'unknown'}"
        path = self._study.images_dir / FETCHED / fingerprint / f"{record.case_id}.nii.gz"
        return Scan(record.case_id, self._names.subject_id(found), path, fingerprint)

    def _refuse_empty(self, but: str | None) -> None:
        known = cases.cases(self._study.store)
        present = sum(c.present for c in known if c.subject_id != but)
        if present:
            raise ArchiveUnavailable(
                f"the PACS at {self._archive.host} lists none of the {present} series that it had; "
                "they stay in the study until it lists some"
            )

    def _write_subgroups(self, listed: list[Found]) -> None:
        """Look up the subgroup tags of series that are new, and of subjects without a row."""
        table = self._table
        before = archive.known_series(self._study.store)
        try:
            told = known_subjects(table)
            named = [(self._names.subject_id(found), found) for found in listed]
            fresh = [
                (subject, found)
                for subject, found in named
                if found.series_uid not in before or subject not in told
            ]
            # The oldest study first: its age is the one that stays.
            fresh.sort(key=lambda pair: (pair[1].study_date, pair[1].series_uid))
            count = add_participants(table, [(s, self._columns(found)) for s, found in fresh])
        except (OSError, UnicodeDecodeError) as error:
            raise CohortError(f"{table}: cannot be read or written ({error})") from error
        if fresh:
            log.info("subgroup tags of %d series looked up; %d subjects", len(fresh), count)

    def _columns(self, found: Found) -> dict[str, str]:
        told = subgroup_columns(found.header)
        if len(told) == TABLE_COLUMNS:
            return told
        return subgroup_columns({**found.header, **self._archive.header(found)})

    def _forget_older(self, record: CaseRecord) -> None:
        for folder in (self._study.images_dir / FETCHED).glob("instances-*"):
            if folder != record.path.parent:
                (folder / record.path.name).unlink(missing_ok=True)
