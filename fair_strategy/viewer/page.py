"""The review page: the state that the browser shows, and what its buttons and keys do."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fair_strategy.data.volumes import VolumeError
from fair_strategy.viewer import panels, wording
from fair_strategy.viewer.client import RefusedError, ServerUnreachableError
from fair_strategy.viewer.display import Display
from fair_strategy.viewer.editing import Editing
from fair_strategy.viewer.notices import LOST
from fair_strategy.viewer.reading import Reading, ReadingError
from fair_strategy.viewer.shortcuts import as_rows
from fair_strategy.viewer.views import add_views

log = logging.getLogger(__name__)

STATIC = Path(__file__).with_name("static")
AUTOSAVE_S = 4.0
SAVED = "draft saved"
LEASE_SHARE = 0.25
"""A lease is renewed after this share of its time."""

Action = Callable[[], Awaitable[None]]


class ReviewPage:
    """The page of one reader.

    Args:
        server: the trame server.
        reading: the reader's session.
    """

    def __init__(self, server: Any, reading: Reading) -> None:
        self.server, self.state, self.reading = server, server.state, reading
        self._lock = asyncio.Lock()
        self._acting = False
        self._retry: Action | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.ending: asyncio.Task[None] | None = None
        server.enable_module(
            {
                "serve": {"fair_review": str(STATIC)},
                "scripts": ["fair_review/in_order.js", "fair_review/page.js"],
                "styles": ["fair_review/page.css"],
            }
        )
        self._first_state()
        layouts = add_views(server, reading.scene)
        self.display = Display(server, reading)
        self.editing = Editing(server, reading)
        self.reading.scene.undo.index_changed.connect(self._edited)
        self.actions = self._all_actions()
        server.trigger("key")(self._on_key)
        panels.build(server, self, layouts)
        server.controller.on_server_ready.add(self._start)

    def _first_state(self) -> None:
        self.state.update(
            {
                "trame__title": "Review",
                "trame__favicon": panels.ICON,
                "trame__template_error": LOST,
                "screen": "login", "name": "", "remembered": "", "memory": None,
                "busy": False, "problem": "", "message": "", "say": False,
                "case_name": "", "has_case": False, "has_client": False, "nothing_left": False,
                "progress": "", "progress_share": 0,
                "why_lines": [], "why_model": "", "percentile": None, "hidden": False,
                "hidden_text": wording.HIDDEN, "recovered": False,
                "saved": "", "auto_next": True,
                "skip_reasons": [], "skip_reason": "", "exclude_reason": "",
                "show_skip": False, "show_exclude": False, "show_help": False,
                "shortcuts": as_rows(),
            }
        )  # fmt: skip

    def _all_actions(self) -> dict[str, Callable[[], Any]]:
        own: dict[str, Callable[[], Any]] = {
            "next": self.next_case,
            "submit": lambda: self.submit(self.state.case_name),
            "reopen": self.reopen,
            "reveal": self.reveal,
            "ask_skip": lambda: self._ask("show_skip"),
            "ask_exclude": lambda: self._ask("show_exclude"),
            "toggle_help": lambda: self._toggle("show_help"),
        }
        return {**own, **self.display.actions(), **self.editing.actions()}

    def trigger(self, action: Callable[..., Any]) -> str:
        """The name by which the page's own markup calls an action."""
        return str(self.server.trigger_name(action))

    async def _on_key(self, action: str, case_name: str = "") -> None:
        done = self.submit(case_name) if action == "submit" else self.actions[action]()
        if asyncio.iscoroutine(done):
            await done

    def bind(self, reader: str) -> None:
        """Whom the proxy has logged in; another name that is typed does not count."""
        self.reading.reader = reader
        with self.state:
            self.state.name = reader

    # ------------------------------------------------------------ what the reader does

    async def log_in(self) -> None:
        """Log in by the name that was typed; go on with the case of before, if there is one."""

        async def action() -> None:
            reading = self.reading
            sentence = await reading.log_in(self.state.name or "", self.state.remembered or "")
            assert reading.options is not None
            self.state.update(
                {
                    "screen": "read",
                    "name": reading.name,
                    "skip_reasons": list(reading.options.skip_reasons),
                    "skip_reason": reading.options.skip_reasons[0],
                }
            )
            if sentence:
                self._say(sentence)

        await self._do(action)

    async def log_out(self) -> None:
        """Back to the login; the draft is kept."""

        async def action() -> None:
            await self.reading.log_out()
            self.state.screen = "login"

        await self._do(action)

    async def next_case(self) -> None:
        """Take the next scan."""

        async def action() -> None:
            self.state.nothing_left = not await self.reading.next_case()

        await self._do(action)

    async def submit(self, case_name: str) -> None:
        """Hand in the mask, and take the next scan where that is wanted.

        Args:
            case_name: the scan that was on the page when the reader asked; if it is not the one
                that is open now, as when a key was pressed twice, nothing is done.
        """
        if self.reading.case is None or self.reading.case.id != case_name:
            return

        async def action() -> None:
            name = await self.reading.submit()
            self._say(f"{name} is submitted.")

        if await self._do(action) and self.state.auto_next:
            await self.next_case()

    async def skip(self) -> None:
        """Give the scan back with the reason that was chosen."""

        async def action() -> None:
            name = await self.reading.skip(self.state.skip_reason)
            self._say(f"{name} is given back: {self.state.skip_reason}.")

        self.state.show_skip = False
        if await self._do(action) and self.state.auto_next:
            await self.next_case()

    async def exclude(self) -> None:
        """Take the scan out of the study with the reason that was typed."""

        async def action() -> None:
            name = await self.reading.exclude(self.state.exclude_reason or "")
            self._say(f"{name} is excluded.")
            self.state.exclude_reason = ""

        self.state.show_exclude = False
        if await self._do(action) and self.state.auto_next:
            await self.next_case()

    async def reopen(self) -> None:
        """Open the last submitted case again."""

        async def action() -> None:
            self._say(f"{await self.reading.reopen()} is open again; submit it when it is right.")

        await self._do(action)

    async def reveal(self) -> None:
        """Show the pre-segmentation that is hidden."""

        async def action() -> None:
            if sentence := await self.reading.reveal():
                self._say(sentence)

        await self._do(action)

    async def retry(self) -> None:
        """Do again what the server did not answer."""
        if self._retry is not None:
            await self._do(self._retry)

    def _ask(self, dialog: str) -> None:
        if self.reading.case is not None:
            self.state[dialog] = True

    def _toggle(self, name: str) -> None:
        self.state[name] = not self.state[name]

    # ------------------------------------------------------------ how it is done

    async def _do(self, action: Action) -> bool:
        """Run one action at a time; whether it went well. What fails is said."""
        if self._acting:  # a key pressed twice must not submit the next scan too
            return False
        self._acting = True
        async with self._lock:
            case = self.reading.case
            self._set(busy=True, problem="")
            try:
                await action()
            except ServerUnreachableError as error:
                self._retry = action
                self.state.problem = f"{error} {wording.AWAY}"
                return False
            except (RefusedError, ReadingError, VolumeError) as error:
                self._say(str(error))
                return False
            finally:
                self._acting = False
                self._show(changed=self.reading.case is not case)
                self._set(busy=False)
        self._retry = None
        return True

    def _show(self, *, changed: bool) -> None:
        reading, why = self.reading, self.reading.why
        case, progress = reading.case, reading.progress
        self.state.update(
            {
                "has_client": reading.client is not None,
                "has_case": case is not None,
                "case_name": case.id if case else "",
                "progress": wording.progress_line(progress),
                "progress_share": 100
                * progress.labelled
                / max(progress.labelled + progress.pool, 1),
                "why_lines": wording.why_lines(why) if case else [],
                "why_model": wording.model_line(why),
                "percentile": why.percentile,
                "hidden": reading.hidden,
                "memory": {"name": reading.name, "case": case.id if case else ""}
                if reading.client
                else None,
            }
        )
        if changed:
            self.state.saved = "draft restored" if reading.recovered else ""
            self.state.nothing_left = False
            self.editing.on_case()
        self.display.on_case(changed=changed)

    def _say(self, sentence: str) -> None:
        self.state.update({"message": sentence, "say": True})

    def _set(self, **values: Any) -> None:
        self.state.update(values)
        self.state.flush()

    # ------------------------------------------------------------ in the background

    def _start(self, **_: Any) -> None:
        self._tasks = [
            asyncio.create_task(self._autosave()),
            asyncio.create_task(self._keep_lease()),
        ]

    async def close(self) -> None:
        """Keep what was drawn as a draft; nothing runs in the background any more."""
        for task in self._tasks:
            task.cancel()
        async with self._lock:
            with suppress(ServerUnreachableError, RefusedError):  # it is kept here then
                await self.reading.save_draft()

    def _edited(self, *_: Any) -> None:
        if self.state.saved == SAVED and self.reading.unsaved:
            self.state.saved = ""  # not all of it any more

    async def _autosave(self) -> None:
        while True:
            await asyncio.sleep(AUTOSAVE_S)
            if not self.reading.unsaved:
                continue
            async with self._lock:
                try:
                    if await self.reading.save_draft():
                        # Something may have been drawn while it was on its way.
                        self._set(saved="" if self.reading.unsaved else SAVED)
                except ServerUnreachableError:
                    self._set(saved="server away: draft kept here, trying again")
                except (RefusedError, ReadingError) as error:
                    self._set(saved=f"draft not saved: {error}")

    async def _keep_lease(self) -> None:
        while True:
            options = self.reading.options
            minutes = options.lease_minutes if options else 1.0
            await asyncio.sleep(max(60.0 * minutes * LEASE_SHARE, 5.0) if options else 5.0)
            try:
                await self.reading.keep_lease()
            except ServerUnreachableError:
                log.info("the lease was not renewed: the server does not answer")
            except (RefusedError, ReadingError) as error:
                self._say(str(error))
                self.state.flush()
