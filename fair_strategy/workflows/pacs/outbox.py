"""Labels on their way to the PACS: what waits is a query, so a crash or an outage loses none."""

import logging

from fair_strategy import __version__
from fair_strategy.data.dicom.archive import Archive
from fair_strategy.data.dicom.segmentation import Origin, segmentation
from fair_strategy.data.volumes import read_mask
from fair_strategy.store.archive import mark_sent, series_of, unsent
from fair_strategy.store.labels import LabelRecord
from fair_strategy.workflows.intake import IMPORTER
from fair_strategy.workflows.pacs.connection import Pseudonyms, connect
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)


def waiting_labels(study: Study) -> list[LabelRecord]:
    """Submitted labels that the PACS does not hold yet, oldest first."""
    return unsent(study.store, importer=IMPORTER) if study.pacs else []


def send_labels(study: Study) -> int:
    """Send every label that waits, as DICOM SEG; how many were sent.

    A label that cannot be sent for a reason of its own is left waiting, and the others go on.

    Raises:
        ArchiveUnavailable: the PACS does not take one; it and those after it stay waiting.
    """
    waiting = waiting_labels(study)
    if not waiting:
        return 0
    archive, sent = connect(study), 0
    for label in waiting:
        try:
            sent += _send(study, archive, label)
        except (OSError, ValueError) as error:
            log.error("%s: its label cannot be sent to the PACS: %s", label.case_id, error)
    return sent


def _send(study: Study, archive: Archive, label: LabelRecord) -> int:
    series = series_of(study.store, label.case_id)
    if series is None:
        raise ValueError("it does not come from the PACS")
    key = Pseudonyms(study.store).submission(label.case_id, label.digest, label.created_at)
    headers = archive.headers(series.study_uid, series.series_uid, series.instances)
    origin = Origin(key=key, model=label.seen_model, version=__version__)
    built = segmentation(read_mask(label.path), headers, origin)
    archive.store(built)
    mark_sent(study.store, label, str(built.SeriesInstanceUID))
    log.info("label of %s sent to the PACS", label.case_id)
    return 1
