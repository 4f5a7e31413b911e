"""What the server does for a study whose scans come from a PACS: look for new ones, send labels.

The datastore is the one of every study (`host/datastore.py`): what differs is where its scans come
from (`workflows/sources.py`), and this watcher instead of that of a folder.
"""

import logging
import time
from collections.abc import Callable

from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.host.sentences import EXPECTED, sentence
from fair_strategy.workflows.intake import refresh
from fair_strategy.workflows.pacs.outbox import send_labels, waiting_labels
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)

FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 300.0


class Patience:
    """When something that may fail is due again: regularly, and ever more rarely while it fails.

    Args:
        every_s: after a success.
        clock: seconds.
    """

    def __init__(self, every_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._due = clock()
        self._wait_s = FIRST_WAIT_S

    @property
    def due(self) -> bool:
        """Whether it is time."""
        return self._clock() >= self._due

    def succeeded(self) -> None:
        """It worked: as often as usual from now on."""
        self._wait_s = FIRST_WAIT_S
        self._due = self._clock() + self._every_s

    def failed(self) -> None:
        """It did not: wait, twice as long as the last time, up to `LONGEST_WAIT_S`."""
        self._due = self._clock() + self._wait_s
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)


class PacsWatcher:
    """Asks the PACS for new series now and then, and sends the labels that wait.

    Args:
        study: of a PACS.
        poll_s: how often to ask.
        clock: seconds.
    """

    def __init__(
        self, study: Study, *, poll_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._study = study
        self._asking = Patience(poll_s, clock=clock)
        self._sending = Patience(0.0, clock=clock)

    def look(self) -> bool:
        """Send what waits, then ask for new series, each if it is due; whether it asked.

        Raises:
            ArchiveUnavailable: no whole answer; it is asked again later.
        """
        self._send()
        if not self._asking.due:
            return False
        try:
            refresh(self._study)
        except EXPECTED:
            self._asking.failed()
            raise
        self._asking.succeeded()
        return True

    def _send(self) -> None:
        if not self._sending.due:
            return
        try:
            send_labels(self._study)
        except ArchiveUnavailable as error:
            self._sending.failed()
            waiting = len(waiting_labels(self._study))
            log.error("%d labels wait to be sent to the PACS: %s", waiting, sentence(error))
            return
        if waiting_labels(self._study):  # one that cannot be sent for a reason of its own
            self._sending.failed()
        else:
            self._sending.succeeded()
