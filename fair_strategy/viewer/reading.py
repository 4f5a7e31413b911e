"""One reader at work: log in, next scan, edit, hand in; the page shows what stands here.

The scene belongs to the thread of the event loop; what waits for the server runs in threads.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fair_strategy.viewer import wording
from fair_strategy.viewer.client import (
    Case,
    Options,
    Progress,
    RefusedError,
    ReviewClient,
    ServerUnreachableError,
    Why,
)
from fair_strategy.viewer.drafts import Drafts
from fair_strategy.viewer.overlay import Peaks
from fair_strategy.viewer.scene import CaseFiles, ReviewScene
from fair_strategy.viewer.tools import Tools
from fair_strategy.viewer.volumes import write_labels


class ReadingError(RuntimeError):
    """Something that the reader asked for cannot be done now; the sentence says why."""


@dataclass(frozen=True, slots=True)
class _Fetched:
    files: CaseFiles
    why: Why
    peaks: Peaks
    recovered: bool
    own: bool  # the mask is what the reader drew before
    beside: Path | None  # the model's, where it is no longer hidden


class Reading:
    """The state of one reader's session.

    Args:
        scene: where cases are shown.
        url: of the MONAI Label server.
        folder: for downloaded files; emptied at each case.
        rescue: see `Drafts`.
        proxy_secret: see `ReviewClient`; the name is then `reader`, whatever is typed.
    """

    def __init__(
        self, scene: ReviewScene, *, url: str, folder: Path, rescue: Path, proxy_secret: str = ""
    ) -> None:
        self.reader = ""
        self._secret = proxy_secret
        self.scene = scene
        self.tools = Tools(scene)
        self._url, self._folder, self._rescue = url, folder, rescue
        self.client: ReviewClient | None = None
        self.drafts: Drafts | None = None
        self.options: Options | None = None
        self.progress = Progress()
        self._forget()

    def _forget(self) -> None:
        self.case: Case | None = None
        self.why = Why()
        self.peaks = Peaks()
        self.hidden = False
        self.recovered = False
        self._own = False
        self._saved_edits = 0

    @property
    def name(self) -> str:
        """The reader's name; empty before logging in."""
        return self.client.client_id if self.client else ""

    @property
    def unsaved(self) -> bool:
        """Whether something was drawn since the last draft."""
        return self.case is not None and self.scene.edits != self._saved_edits

    # ------------------------------------------------------------ in and out

    async def log_in(self, name: str, remembered: str = "") -> str:
        """Start reading under a name; the case that the reader holds is opened again.

        The server knows which: it may have been taken in another browser.

        Args:
            name: whom the reader says to be.
            remembered: the case that this browser saw last; empty if it saw none.

        Returns:
            A sentence about the case of before; empty if there is nothing to say.
        """
        name = self.reader if self._secret else " ".join(name.split())
        if not name:
            raise ReadingError("Please enter your name.")
        client = ReviewClient(self._url, name, self._secret)
        self.options = await asyncio.to_thread(client.options)
        self.client, self.drafts = client, Drafts(client, self._rescue)
        await self.refresh_progress()
        held = await asyncio.to_thread(client.current)
        if held is not None:
            await self._open(held)
        return wording.back(held.id if held else "", remembered, recovered=self.recovered)

    async def log_out(self) -> None:
        """Keep the draft, leave the case."""
        await self.save_draft()
        self.scene.clear()
        self._forget()
        if self.client is not None:
            self.client.close()
        self.client = self.drafts = None

    async def refresh_progress(self) -> None:
        """Ask for the counts."""
        self.progress = await asyncio.to_thread(self._client().progress)

    # ------------------------------------------------------------ cases

    async def next_case(self, strategy: str = "") -> bool:
        """Take the next scan; False when nothing is left."""
        client, options = self._client(), self._options()
        if self.case is not None:
            raise ReadingError("Submit or skip this scan first.")
        strategy = strategy or options.strategies[0]
        case = await asyncio.to_thread(client.next_case, strategy)
        if case is None:
            return False
        await self._open(case)
        return True

    async def reopen(self) -> str:
        """Open this reader's last submitted case again; its name."""
        if self.case is not None:
            raise ReadingError("Submit or skip this scan first.")
        case = await asyncio.to_thread(self._client().reopen)
        if case is None:
            raise ReadingError("There is no case of yours to open again.")
        await self._open(case)
        return case.id

    async def submit(self) -> str:
        """Hand in the mask; the name of the case."""
        case, client = self._held(), self._client()
        mask = await self._written("submit.nii.gz")
        await asyncio.to_thread(client.submit, case.id, mask)
        await self._leave()
        return case.id

    async def skip(self, reason: str) -> str:
        """Give the scan back; the name of the case."""
        case = self._held()
        await asyncio.to_thread(self._client().skip, case.id, reason)
        await self._leave()
        return case.id

    async def exclude(self, reason: str) -> str:
        """Take the scan out of the study; the name of the case."""
        case = self._held()
        if not reason.strip():
            raise ReadingError("Excluding a scan needs a reason.")
        await asyncio.to_thread(self._client().exclude, case.id, reason.strip())
        await self._leave()
        return case.id

    async def reveal(self) -> str:
        """Show the pre-segmentation of a scan that is read without it; the server records it.

        Returns:
            A sentence where the outline only lies beside what was drawn, which it would replace;
            else empty.
        """
        case, client = self._held(), self._client()
        if not self.hidden:
            return ""
        await asyncio.to_thread(client.reveal, case.id)
        label = await asyncio.to_thread(client.label, case.id, "original", self._folder)
        entropy = await asyncio.to_thread(client.entropy, case.id, self._folder)
        self.peaks = await asyncio.to_thread(_peaks, client, case.id)
        untouched = self.scene.edits == 0 and not self._own
        if label is not None and untouched:
            self.scene.take(label)
            self._saved_edits = self.scene.edits  # nothing of the reader's own yet
        elif label is not None:
            self.scene.lay_beside(label)
        self.scene.show_entropy(entropy)
        self.hidden = False
        return "" if label is None or untouched else wording.OWN_STAYS

    async def _leave(self) -> None:
        case = self._held()
        assert self.drafts is not None
        self.drafts.forget(case.id)
        self.scene.clear()
        self._forget()
        # What was asked for is done: a count that does not come must not tell the reader otherwise.
        with suppress(ServerUnreachableError, RefusedError):
            await self.refresh_progress()

    async def _open(self, case: Case) -> None:
        for old in self._folder.glob("*"):
            old.unlink()
        fetched = await self._fetch(case)
        self.scene.open(fetched.files, self._options().labels)
        self._forget()
        self.case, self.why, self.peaks = case, fetched.why, fetched.peaks
        self.hidden = fetched.why.hide_presegmentation
        self.recovered, self._own = fetched.recovered, fetched.own
        if fetched.beside:
            self.scene.lay_beside(fetched.beside)
        self._saved_edits = self.scene.edits
        self.tools.select(self.tools.tool)

    async def _fetch(self, case: Case) -> _Fetched:
        client, folder, drafts = self._client(), self._folder, self.drafts
        assert drafts is not None
        why, scan, draft = await asyncio.gather(
            asyncio.to_thread(client.why, case.id),
            asyncio.to_thread(client.scan, case.id, folder),
            asyncio.to_thread(drafts.load, case.id, folder),
        )
        own = draft
        if draft is None and case.submitted:
            own = await asyncio.to_thread(client.own_label, case.id, folder)
        # The entropy outlines what the model found: hidden together with it.
        hide = why.hide_presegmentation
        wanted = why.revealed if own else not hide
        label, entropy, peaks = await asyncio.gather(
            asyncio.to_thread(client.label, case.id, "original", folder) if wanted else _nothing(),
            _nothing() if hide else asyncio.to_thread(client.entropy, case.id, folder),
            _nothing() if hide else asyncio.to_thread(_peaks, client, case.id),
        )
        return _Fetched(
            CaseFiles(scan, own or label, entropy),
            why,
            peaks or Peaks(),
            recovered=draft is not None,
            own=own is not None,
            beside=label if own else None,
        )

    # ------------------------------------------------------------ draft and lease

    async def save_draft(self) -> bool:
        """Keep what was drawn since the last draft; whether there was anything."""
        if not self.unsaved:
            return False
        case, drafts, edits = self._held(), self.drafts, self.scene.edits
        assert drafts is not None
        mask = await self._written("draft.nii.gz")
        await asyncio.to_thread(drafts.save, case.id, mask)
        self._saved_edits = edits
        return True

    async def keep_lease(self) -> None:
        """Hold the scan for longer.

        Raises:
            ReadingError: the lease was lost.
        """
        case = self.case
        if case is None or await asyncio.to_thread(self._client().renew, case.id):
            return
        if self.case is case:
            raise ReadingError(
                f"Your hold on {case.id} has run out: a colleague may be given this scan. "
                "You can still submit."
            )

    async def _written(self, name: str) -> Path:
        labels, grid = self.scene.labels(), self.scene.grid
        assert grid is not None
        return await asyncio.to_thread(write_labels, self._folder / name, labels, grid)

    def _client(self) -> ReviewClient:
        if self.client is None:
            raise ReadingError("Please log in first.")
        return self.client

    def _options(self) -> Options:
        if self.options is None:
            raise ReadingError("Please log in first.")
        return self.options

    def _held(self) -> Case:
        if self.case is None:
            raise ReadingError("There is no scan; take the next one.")
        return self.case


async def _nothing() -> Any:
    return None


def _peaks(client: ReviewClient, case_id: str) -> Peaks:
    try:
        return Peaks(client.peaks(case_id))
    except RefusedError as error:
        if error.status == 404:  # not scored yet
            return Peaks()
        raise
