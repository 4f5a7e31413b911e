"""The worker processes: never more than asked for, some kept warm, each with secrets of its own."""

import asyncio
import contextlib
import json
import logging
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fair_strategy.viewer.opengl import rendering_environment

log = logging.getLogger(__name__)

START_S = 120.0
STOP_S = 20.0
"""For a draft on its way to the server."""
# As in `worker`, which is imported only in the processes that have the scene.
SECRET_VARIABLE = "FAIR_STRATEGY_REVIEW_SECRET"


class WorkerError(RuntimeError):
    """A worker process did not start; the sentence says where its output is."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How many processes, and how long they live.

    Attributes:
        server: address of the MONAI Label server.
        most: processes at most, warm ones included.
        spare: processes kept warm for the next reader.
        refill_after_s: the next warm process starts so long after one was taken.
        keep_s: a session whose page is closed lives this long, for a reload.
        idle_s: a session in which nothing is done ends after this time; its draft is kept.
        logs: folder for what workers write.
        rescue: folder for drafts that the server could not take.
        proxy_secret_file: of the proxy that logs readers in; None where they type their name.
    """

    server: str
    logs: Path
    rescue: Path
    most: int = 2
    spare: int = 1
    refill_after_s: float = 5.0
    keep_s: float = 120.0
    idle_s: float = 3600.0
    proxy_secret_file: Path | None = None


@dataclass(eq=False)
class Session:
    """One worker process, taken or still waiting for a reader."""

    id: str = field(default_factory=lambda: secrets.token_hex(8))  # the page lowers its case
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    key: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    port: int = 0
    taken: bool = False
    reader: str = ""  # whom the proxy has logged in
    connections: int = 0
    promised_until: float = 0.0  # monotonic s: a page was led here, and has not connected yet
    clock: Callable[[], float] = time.monotonic
    last_seen: float = 0.0
    process: asyncio.subprocess.Process | None = None
    ready: "asyncio.Future[int] | None" = None

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.returncode is None

    @property
    def ending(self) -> bool:
        """Whether its process was told to end."""
        return bool(self.process and self.process.stdin and self.process.stdin.is_closing())

    @property
    def held(self) -> bool:
        """Whether a page is open, or about to."""
        return self.connections > 0 or time.monotonic() < self.promised_until

    @contextlib.contextmanager
    def page(self) -> Iterator[None]:
        """While its page is connected."""
        self.connections += 1
        self.promised_until = 0.0
        self.touch()
        try:
            yield
        finally:
            self.connections -= 1
            self.touch()

    @property
    def quiet_s(self) -> float:
        """Seconds since something was done in it."""
        return self.clock() - self.last_seen

    def touch(self) -> None:
        """Something was done in it."""
        self.last_seen = self.clock()


class Pool:
    """All worker processes of a broker. `len(pool)` is the number of processes.

    Args:
        settings: see there.
        clock: seconds, never set back; by it sessions grow old.
    """

    def __init__(
        self, settings: PoolSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def taken(self) -> int:
        """Number of sessions that readers have."""
        return sum(session.taken for session in self._sessions.values())

    @property
    def pages(self) -> int:
        """Number of sessions whose page is open."""
        return sum(session.connections > 0 for session in self._sessions.values())

    def get(self, session_id: str) -> Session | None:
        """A session by its id; None once its process has ended."""
        return self._sessions.get(session_id)

    async def start(self) -> None:
        """Start the warm processes, and watch over all."""
        self._refill()
        self._run(self._reap())

    async def take(self, reader: str = "") -> Session | None:
        """A session for a new reader; None when all are taken.

        Args:
            reader: whom the proxy has logged in; empty where there is none.

        Raises:
            WorkerError: its process did not start.
        """
        waiting = [s for s in self._sessions.values() if not s.taken]
        # One that is ready before one that still starts.
        waiting.sort(key=lambda s: s.port == 0)
        session = waiting[0] if waiting else self._spawn()
        if session is None:
            return None
        session.taken = True  # before anything is awaited: nobody else gets it
        session.reader = reader
        session.touch()
        self._run(self._refill_soon())
        assert session.ready is not None
        try:
            await asyncio.wait_for(asyncio.shield(session.ready), START_S)
        except TimeoutError as error:
            await self._end(session)
            sentence = f"a session did not start within {START_S:g} s"
            log.error("%s", sentence)
            raise WorkerError(sentence) from error
        session.touch()
        if reader and session.process and session.process.stdin:
            session.process.stdin.write(f"reader {json.dumps(reader)}\n".encode())
            await session.process.stdin.drain()
        return session

    async def close(self) -> None:
        """End every process."""
        self._closing = True
        await asyncio.gather(*(self._end(s) for s in list(self._sessions.values())))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ------------------------------------------------------------ processes

    def _refill(self) -> None:
        if self._closing:
            return
        waiting = len(self) - self.taken
        for _ in range(self.settings.spare - waiting):
            if self._spawn() is None:
                return

    async def _refill_soon(self) -> None:
        # The start of the next one takes a core, which the page that has just been asked for needs.
        await asyncio.sleep(self.settings.refill_after_s)
        self._refill()

    def _spawn(self) -> Session | None:
        # Counted here, before the process exists: two requests at once cannot both take the last.
        if self._closing or len(self) >= self.settings.most:
            return None
        session = Session(clock=self._clock)
        session.ready = asyncio.get_running_loop().create_future()
        self._sessions[session.id] = session
        self._run(self._live(session))
        return session

    async def _live(self, session: Session) -> None:
        output = self.settings.logs / f"worker-{session.id}.log"
        assert session.ready is not None
        code: int | None
        try:
            with output.open("wb") as errors:
                session.process = await self._process(session, errors)
                await self._listen(session)
                code = await session.process.wait()
        except OSError as error:
            code = error.errno or 1
        finally:
            self._sessions.pop(session.id, None)
        if not session.ready.done():
            sentence = f"a session ended while it started (code {code}); see {output}"
            log.error("%s", sentence)
            session.ready.set_exception(WorkerError(sentence))
            session.ready.exception()  # seen, even if nobody waits for it
            return  # starting the next one at once would fail again, for ever
        if code:
            log.error("session %s ended with code %s; see %s", session.id, code, output)
        else:
            output.unlink(missing_ok=True)
        self._refill()

    async def _process(self, session: Session, errors: IO[bytes]) -> asyncio.subprocess.Process:
        proxied = self.settings.proxy_secret_file
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fair_strategy.viewer.worker"),
            *("--server", self.settings.server, "--rescue", str(self.settings.rescue)),
            *(("--proxy-secret-file", str(proxied)) if proxied else ()),
            stdin=asyncio.subprocess.PIPE,  # its end tells the worker to end
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env={**rendering_environment(), SECRET_VARIABLE: session.key},
        )

    async def _listen(self, session: Session) -> None:
        assert session.process is not None
        assert session.process.stdout is not None
        assert session.ready is not None
        async for line in session.process.stdout:
            word, _, port = line.decode(errors="replace").strip().partition(" ")
            if word == "ready" and not session.ready.done():
                session.port = int(port)
                session.ready.set_result(session.port)

    async def _end(self, session: Session) -> None:
        process = session.process
        if process is None or process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    # ------------------------------------------------------------ idle sessions

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(min(self.settings.keep_s, self.settings.idle_s, 10.0) / 2)
            for session in [s for s in self._sessions.values() if self._is_over(s)]:
                log.info("session %s is idle and ends", session.id)
                self._run(self._end(session))

    def _is_over(self, session: Session) -> bool:
        if not session.taken or not session.port or not session.alive:
            return False
        return session.quiet_s > (
            self.settings.idle_s if session.connections else self.settings.keep_s
        )

    def _run(self, what) -> None:  # type: ignore[no-untyped-def]
        task = asyncio.create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
