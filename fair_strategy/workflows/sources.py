"""Where a study's scans come from: a folder, in which they lie, or a PACS, which sends them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from fair_strategy.data import bids
from fair_strategy.data.bids import Scan
from fair_strategy.store.cases import CaseRecord
from fair_strategy.workflows.pacs.keeping import mark_used
from fair_strategy.workflows.study import Study


class Source(Protocol):
    """What the intake, the scoring, the readers' desk and an erasure ask of either."""

    def walk(self) -> list[Scan]:
        """All scans that are there now."""
        ...

    def existing_masks(self, scans: Sequence[Scan]) -> Mapping[str, Path]:
        """case_id -> file of a mask that was there before this study."""
        ...

    def fetch(self, record: CaseRecord) -> Path:
        """The scan's file on this machine."""
        ...

    def still_has(self, subject_id: str, records: Sequence[CaseRecord]) -> str | None:
        """What of a person is still there and would be taken up again, in words; None if nothing.

        Args:
            subject_id: the person.
            records: their scans that the study knows.
        """
        ...

    def named_in_table(self, subject_id: str) -> bool:
        """Whether a table that this study itself writes has a row of the person."""
        ...

    def copies(self, case_ids: Sequence[str]) -> Iterable[Path]:
        """Files that this study itself made of what came from there, of these scans."""
        ...

    def forget(self, subject_id: str) -> None:
        """Take the person's row out of a table that this study itself writes."""
        ...


class Folder:
    """Scans that lie in the study's image folder."""

    def __init__(self, study: Study) -> None:
        self._root = study.images_dir

    def walk(self) -> list[Scan]:
        """See `bids.walk`."""
        return bids.walk(self._root)

    def existing_masks(self, scans: Sequence[Scan]) -> Mapping[str, Path]:
        """See `bids.find_existing_masks`."""
        return bids.find_existing_masks(self._root, scans)

    def fetch(self, record: CaseRecord) -> Path:
        """Where it lies."""
        return record.path

    def still_has(self, subject_id: str, records: Sequence[CaseRecord]) -> str | None:
        """Scans of the person, or their row of participants.tsv."""
        if any(record.path.exists() for record in records):
            return "its scans"
        table = bids.participants_file(self._root)
        lines = table.read_text(encoding="utf-8").splitlines() if table else []
        listed = any(line.split("\t", 1)[0] == subject_id for line in lines)
        return "the row of participants.tsv" if listed else None

    def named_in_table(self, subject_id: str) -> bool:
        """Never: the table is the operator's."""
        return False

    def copies(self, case_ids: Sequence[str]) -> Iterable[Path]:
        """None: scans are read where they lie."""
        return ()

    def forget(self, subject_id: str) -> None:
        """Nothing: the table is the operator's."""


def source_of(study: Study) -> Source:
    """The study's source."""
    if study.pacs is None:
        return Folder(study)
    from fair_strategy.workflows.pacs.source import Pacs

    return Pacs(study)


def image_path(study: Study, record: CaseRecord) -> Path:
    """The scan's file on this machine; that of a PACS is fetched where it is not here (any more).

    Of a PACS it stays for `keeping.GRACE_S` at least: read it now, and ask again for the next time.

    Raises:
        ArchiveUnavailable: the PACS does not send it now.
        VolumeError: what the PACS sends is no volume; the case is then marked unreadable.
    """
    # The usual case first: it needs neither a client nor what a client imports.
    if study.pacs is None or mark_used(study, record.path):
        return record.path
    return source_of(study).fetch(record)
