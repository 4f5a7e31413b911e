"""One reader's review: follows the current scan, and does what the panel's buttons say.

The panel shows what stands here and calls these functions; nothing here needs Qt.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from FairReviewLib.client import ReaderClient, ReaderError
from FairReviewLib.current import Current, scan_node
from FairReviewLib.lease import Lease, warning_time
from FairReviewLib.overlay import Overlay
from FairReviewLib.peaks import Peaks, read_peaks

LEASE_POLL_S = 60.0
DEFAULT_LEASE_MINUTES = 60.0


class Review:
    """What the panel shows, and what its buttons do.

    Args:
        folder: of this Slicer's session; the entropy map is written there and read from there.
        clock: seconds that only go forward.

    Attributes:
        current: scan, reader and server.
        why: the server's answer on the current scan; empty without one.
        lease: None before the server's first answer.
        hidden: the scan is to be outlined without the model's help, for the time being.
        problem: the last thing that went wrong, as a sentence; empty if nothing did.
        message: what the last button did; empty if there is nothing to say.
    """

    def __init__(
        self,
        scene: Any,
        overlay: Overlay,
        folder: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scene = scene
        self._folder = folder
        self._clock = clock
        self.overlay = overlay
        self.peaks = Peaks(scene)
        self.current = Current()
        self.why: dict[str, Any] = {}
        self.lease: Lease | None = None
        self.options: dict[str, Any] = {}
        self.hidden = False
        self.problem = ""
        self.message = ""
        self._map_is_up = False
        self._warned = False
        self._next_poll = 0.0

    # ------------------------------------------------------------ what the timer calls

    def follow(self, current: Current) -> bool:
        """Take up another scan, or the same one after the scene was closed.

        A scan that is known by its volume's name alone waits for `refresh`: the name of a volume
        of the reader's own is not for the server.

        Returns:
            Whether anything changed.
        """
        if scan_node(self._scene) is None and self._map_is_up:
            self.clear()
            self.current = Current()
        lost = self._map_is_up and self.overlay.node is None
        if current == self.current and not lost:
            return False
        self.clear()
        self.current = current
        if current.source != "volume":
            self.refresh(current)
        return True

    def poll_lease(self) -> None:
        """Ask for the lease once a minute, also after a minute without an answer."""
        if self.lease is None or not self.lease.held or self._clock() < self._next_poll:
            return
        self._next_poll = self._clock() + LEASE_POLL_S
        self._attempt(lambda: self._take_lease(self._client().lease(self.current.case_id)))

    def now(self) -> float:
        """Seconds of the clock that leases are counted on."""
        return self._clock()

    def lease_warning(self) -> bool:
        """Whether to warn now that the lease is about to end: true once a lease."""
        if self.lease is None or not self.lease.is_ending(self._clock()):
            return False
        first, self._warned = not self._warned, True
        return first

    # ------------------------------------------------------------ what the buttons call

    def refresh(self, current: Current) -> None:
        """Ask the server for everything about a scan; what is shown stays until it has answered."""
        if current != self.current:
            self.clear()
            self.current = current
        if current.case_id:
            self._begin()
            self._attempt(self._fetch)

    def reveal(self) -> None:
        """Ask for the model's work on a scan that came without it."""
        self._begin()

        def work() -> None:
            self._client().reveal(self.current.case_id)
            self._fetch()

        self._attempt(work)

    def renew(self) -> None:
        """Start the lease anew."""
        self._begin()

        def work() -> None:
            self._warned = False
            self._take_lease(self._client().renew(self.current.case_id))
            held = self.lease is not None and self.lease.held
            self.message = "Renewed." if held else "Not renewed: it had run out. Submit soon."

        self._attempt(work)

    def skip(self, reason: str) -> None:
        """Hand the scan back."""
        self._begin()

        def work() -> None:
            answer = self._client().skip(self.current.case_id, reason)
            self._leave("Handed back." if answer.get("released") else "It was not leased to you.")

        self._attempt(work)

    def exclude(self, reason: str) -> None:
        """Take the scan out of the study."""
        self._begin()

        def work() -> None:
            self._client().exclude(self.current.case_id, reason.strip())
            self._leave("Excluded: nobody is offered this scan again.")

        if reason.strip():
            self._attempt(work)
        else:
            self.problem = "Write why this scan is excluded: the study lead reads it."

    def show_overlay(self, shown: bool) -> None:
        """Show or hide map, colour bar and points."""
        self.overlay.shown = shown
        self.overlay.apply()
        self.peaks.show(shown)

    def clear(self) -> None:
        """Take all of this module out of the scene, and forget what was known of the scan."""
        self._take_down()
        self.why, self.lease, self.hidden = {}, None, False
        self.problem = self.message = ""
        self._warned = False

    # ------------------------------------------------------------ the work

    def _client(self) -> ReaderClient:
        return ReaderClient(self.current.url, self.current.client_id)

    def _fetch(self) -> None:
        client, case_id = self._client(), self.current.case_id
        self.options = client.options()
        self.why = client.why(case_id)
        self._take_lease(client.lease(case_id))
        self.hidden = bool(self.why.get("hide_presegmentation"))
        if self.hidden:
            self._take_down()
        else:
            self._put_up(client)

    def _put_up(self, client: ReaderClient) -> None:
        # The MONAI Label module adopts the first volume of a scene without a scan as the reader's.
        if scan_node(self._scene) is None:
            raise ReaderError("The scan itself is not open in Slicer: press Next Sample first.")
        path = os.path.join(self._folder, "entropy.nii.gz")
        client.entropy(self.current.case_id, path)
        try:
            labels = self.options.get("labels") or {}
            self.overlay.load(path, self.current.case_id, classes=len(labels) + 1)
        finally:
            os.remove(path)
        self._map_is_up = True
        self.peaks.load(read_peaks(client.peaks(self.current.case_id)))
        self.peaks.show(self.overlay.shown)

    def _take_lease(self, answer: dict[str, Any]) -> None:
        minutes = float(self.options.get("lease_minutes") or DEFAULT_LEASE_MINUTES)
        now = self._clock()
        self.lease = Lease(
            held=bool(answer.get("held")),
            ends_at=now + float(answer.get("seconds_left") or 0.0),
            warning_s=warning_time(minutes),
        )
        self._next_poll = now + LEASE_POLL_S

    def _leave(self, message: str) -> None:
        self._take_down()
        if self.lease is not None:
            self.lease = replace(self.lease, held=False)
        self.message = f"{message} Press Next Sample in the module MONAI Label."

    def _take_down(self) -> None:
        self.overlay.remove()
        self.peaks.remove()
        self._map_is_up = False

    def _begin(self) -> None:
        self.problem = self.message = ""

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (ReaderError, ValueError) as error:
            self.problem = str(error)
