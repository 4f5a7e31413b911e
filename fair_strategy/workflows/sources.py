"""Where a study's scans come from: a folder, in which they lie, or a PACS, which sends them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from fair_strategy.data import bids
from fair_strategy.data.bids import Scan
from fair_strategy.store.cases import CaseRecord
from fair_strategy.workflows.study import Study


class Source(Protocol):
    """What the intake, the scoring and the readers' desk ask of either."""

    def walk(self) -> list[Scan]:
        """All scans that are there now."""
        ...

    def existing_masks(self, scans: Sequence[Scan]) -> Mapping[str, Path]:
        """case_id -> file of a mask that was there before this study."""
        ...

    def fetch(self, record: CaseRecord) -> Path:
        """The scan's file on this machine."""
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


def source_of(study: Study) -> Source:
    """The study's source."""
    if study.pacs is None:
        return Folder(study)
    from fair_strategy.workflows.pacs.source import Pacs

    return Pacs(study)


def image_path(study: Study, record: CaseRecord) -> Path:
    """The scan's file on this machine; that of a PACS is fetched once, when it is first needed.

    Raises:
        ArchiveUnavailable: the PACS does not send it now.
        VolumeError: what the PACS sends is no volume; the case is then marked unreadable.
    """
    # The usual case first: it needs neither a client nor what a client imports.
    if study.pacs is None or record.path.exists():
        return record.path
    return source_of(study).fetch(record)
