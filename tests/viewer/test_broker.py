"""The broker and its worker processes, real ones: counted, bounded, apart from each other."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="the extra 'viewer' is not installed")

import aiohttp
from aiohttp import web

from fair_strategy.viewer import broker, worker
from fair_strategy.viewer.broker import COOKIE, make_broker
from fair_strategy.viewer.opengl import rendering_environment
from fair_strategy.viewer.pool import SECRET_VARIABLE, Pool, PoolSettings, Session

pytestmark = pytest.mark.usefixtures("slicer")
NO_SERVER = "http://127.0.0.1:9"


def settings(tmp_path: Path, **how: float) -> PoolSettings:
    return PoolSettings(server=NO_SERVER, logs=tmp_path, rescue=tmp_path / "rescue", **how)


def with_broker(pool: Pool, check: Callable[[str], Awaitable[None]]) -> None:
    """Run `check` with the address of a broker."""

    async def run() -> None:
        runner = web.AppRunner(make_broker(pool))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            await check(f"http://127.0.0.1:{runner.addresses[0][1]}")
        finally:
            await runner.cleanup()

    asyncio.run(run())


async def answered(
    browser: aiohttp.ClientSession, url: str, *, method: str = "GET", **how: object
) -> aiohttp.ClientResponse:
    """An answer that was read to its end."""
    async with browser.request(method, url, **how) as answer:  # type: ignore[arg-type]
        await answer.read()
        return answer


async def until(condition: Callable[[], bool], *, within_s: float = 60.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("wanted", ["image", "iframe", "empty"])
def test_a_picture_of_a_foreign_page_takes_no_place(tmp_path, wanted):
    pool = Pool(settings(tmp_path, most=1, spare=0))

    async def check(address: str) -> None:
        async with aiohttp.ClientSession(headers={"Sec-Fetch-Dest": wanted}) as browser:
            answer = await answered(browser, address, allow_redirects=False)
        assert answer.status == 403
        assert (len(pool), pool.taken) == (0, 0)

    with_broker(pool, check)


def test_requests_at_once_never_start_more_processes_than_there_are_places(tmp_path):
    pool = Pool(settings(tmp_path, most=2, spare=2))
    seen = []

    async def check(address: str) -> None:
        async def enter() -> int:
            async with (
                aiohttp.ClientSession() as browser,
                browser.get(address, allow_redirects=False) as answer,
            ):
                seen.append(len(pool))
                return answer.status

        assert sorted(await asyncio.gather(*(enter() for _ in range(4)))) == [302, 302, 503, 503]
        assert (pool.taken, len(pool)) == (2, 2)
        first, second = pool._sessions.values()
        assert first.key != second.key
        assert first.token != second.token
        # A crash takes one session away, and gives its place to the next reader.
        assert first.process is not None
        os.kill(first.process.pid, signal.SIGKILL)
        await until(lambda: pool.get(first.id) is None)
        assert second.alive
        assert await enter() == 302
        assert pool.taken == 2

    with_broker(pool, check)
    assert max(seen) == 2
    assert len(pool) == 0


def test_the_next_warm_process_starts_once_the_page_that_was_asked_for_had_time_to_open(tmp_path):
    pool = Pool(settings(tmp_path, most=2, spare=1, refill_after_s=1.0))

    async def check(address: str) -> None:
        (warm,) = pool._sessions.values()
        assert warm.ready is not None
        await warm.ready
        async with aiohttp.ClientSession() as browser:
            answer = await answered(browser, address, allow_redirects=False)
        assert (answer.status, warm.taken) == (302, True)
        assert len(pool) == 1
        await until(lambda: len(pool) == 2)
        assert pool.taken == 1

    with_broker(pool, check)


def test_a_session_is_open_to_its_own_browser_only(tmp_path):
    pool = Pool(settings(tmp_path, most=1, spare=1))

    async def check(address: str) -> None:
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as mine,
            aiohttp.ClientSession() as other,
        ):
            answer = await answered(mine, address)
            assert answer.status == 200
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
            home = str(answer.url).removesuffix("index.html")
            (session,) = pool._sessions.values()

            launched = await (await answered(mine, f"{home}paraview/", method="POST")).json()
            assert launched["secret"] == session.key
            assert session.key not in home

            assert (await answered(mine, f"{home}alive")).status == 204
            for path in ("index.html", "ws", "alive"):
                assert (await answered(other, home + path)).status == 403
            assert (await answered(other, f"{home}paraview/", method="POST")).status == 403
            forged = {COOKIE: session.token[:-1] + "-"}
            assert (await answered(other, home, cookies=forged)).status == 403

            # A page of another origin, even in the reader's own browser.
            for origin in ("http://evil.example", None):
                headers = {"Origin": origin} if origin else {}
                with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                    await mine.ws_connect(f"{home}ws", headers=headers)
            evil = await answered(mine, address, headers={"Host": "evil.example"})
            assert evil.status == 421

            # The page is closed, so `/` leads back to the session that this browser has.
            assert str((await answered(mine, address)).url) == f"{home}index.html"
            assert (await answered(other, address)).status == 503

    with_broker(pool, check)


def test_a_page_that_is_just_being_closed_is_found_again_by_one_of_those_who_ask(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(broker, "CLOSING_S", 60.0)
    waiting = []
    is_closed = broker._is_closed

    async def noted(session: Session) -> bool:
        waiting.append(session)
        return await is_closed(session)

    monkeypatch.setattr(broker, "_is_closed", noted)
    pool = Pool(settings(tmp_path, most=2, spare=0))

    async def check(address: str) -> None:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
            home = str((await answered(browser, address)).url).removesuffix("index.html")
            (session,) = pool._sessions.values()
            page = await browser.ws_connect(f"{home}ws", headers={"Origin": address})
            await until(lambda: pool.pages == 1)
            entering = [
                asyncio.create_task(answered(browser, address, allow_redirects=False))
                for _ in range(2)
            ]
            await until(lambda: waiting == [session] * 2)
            await page.close()
            (first,), others = await asyncio.wait(entering, return_when=asyncio.FIRST_COMPLETED)
            assert first.result().headers["Location"] == f"/s/{session.id}/index.html"
            # Its page is on its way: the other waits for it, and is then told that it is open.
            monkeypatch.setattr(broker, "CLOSING_S", 0.2)
            async with browser.ws_connect(f"{home}ws", headers={"Origin": address}):
                await until(lambda: pool.pages == 1)
                answer = await answered(browser, address, allow_redirects=False)
                assert answer.headers["Location"] != f"/s/{session.id}/index.html"
            for other in others:
                other.cancel()
            assert pool.taken == 2

    with_broker(pool, check)


def test_a_session_whose_page_stays_closed_ends_by_itself(tmp_path):
    pool = Pool(settings(tmp_path, most=1, spare=0, keep_s=1.0))

    async def check(address: str) -> None:
        async with aiohttp.ClientSession() as browser:
            assert (await answered(browser, address, allow_redirects=False)).status == 302
            (session,) = pool._sessions.values()
            process = session.process
            assert process is not None
            await until(lambda: len(pool) == 0)
            assert process.returncode == 0
            # Its address leads to a new session; what its page asks for by itself takes none.
            old = f"{address}/s/{session.id}/"
            for page in ("", "index.html"):
                answer = await answered(browser, old + page, allow_redirects=False)
                assert (answer.status, answer.headers["Location"]) == (302, "/")
            for part in ("alive", "ws", "assets/index.js"):
                assert (await answered(browser, old + part)).status == 410
            assert (await answered(browser, f"{old}paraview/", method="POST")).status == 410
            assert len(pool) == 0

    with_broker(pool, check)


def test_an_open_page_ends_after_the_idle_time_and_any_message_begins_it_anew(tmp_path):
    now = [1000.0]
    begun = (1).to_bytes(4, "little") + bytes(4) + (99).to_bytes(4, "little")  # a message's head
    pool = Pool(settings(tmp_path, most=1, spare=0, keep_s=1.0, idle_s=60.0), clock=lambda: now[0])

    async def check(address: str) -> None:
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as browser:
            home = str((await answered(browser, address)).url).removesuffix("index.html")
            (session,) = pool._sessions.values()
            async with browser.ws_connect(f"{home}ws", headers={"Origin": address}) as page:
                await until(lambda: session.connections == 1)
                now[0] += 59.0
                await page.send_bytes(begun)
                await until(lambda: session.quiet_s == 0.0)
                now[0] += 59.0
                assert not pool._is_over(session)
                assert (await answered(browser, f"{home}alive")).status == 204
                assert session.quiet_s == 59.0, "asking whether it lives is no sign of life"
                now[0] += 2.0
                await until(lambda: len(pool) == 0)
        assert session.process is not None
        assert session.process.returncode == 0

    with_broker(pool, check)


def test_a_process_that_does_not_start_is_a_sentence_without_paths(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    pool = Pool(settings(tmp_path, most=1, spare=0))

    async def check(address: str) -> None:
        async with aiohttp.ClientSession() as browser, browser.get(address) as answer:
            text = await answer.text()
            assert answer.status == 500
            assert "did not start" in text
            assert 'href="/"' in text
            assert str(tmp_path) not in text

    with_broker(pool, check)


_WITNESS = """
import sys
from pathlib import Path
from fair_strategy.viewer import page, worker

witness, *arguments = sys.argv[1:]
close = page.ReviewPage.close

async def closed(self):
    await close(self)
    Path(witness).touch()

page.ReviewPage.close = closed
sys.exit(worker.main(arguments))
"""


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_is_told_to_end_keeps_what_was_drawn_first(tmp_path, told):
    """Ctrl-C at a terminal, and the end of a service, come to each process."""
    witness = tmp_path / "closed"
    arguments = (str(witness), "--server", NO_SERVER, "--rescue", str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", _WITNESS, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**rendering_environment(), SECRET_VARIABLE: "a-secret-of-this-test"},
    ) as process:
        assert process.stdout is not None
        assert any(line.startswith(b"ready ") for line in process.stdout)
        process.send_signal(told)
        assert process.wait(timeout=60) == 0
    assert witness.exists()


def test_a_worker_without_a_secret_refuses_to_serve(monkeypatch, capsys):
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    assert worker.main(["--server", NO_SERVER, "--rescue", "x"]) == 2
    assert "without a secret" in capsys.readouterr().err


def test_broker_and_worker_agree_on_where_the_secret_is():
    assert worker.SECRET_VARIABLE == SECRET_VARIABLE


def test_behind_a_proxy_a_session_is_its_readers_and_no_other_way_leads_in(tmp_path):
    secret = tmp_path / "proxy-secret"
    secret.touch(mode=0o600)
    secret.write_text("a-secret-of-the-proxy-and-us")
    pool = Pool(settings(tmp_path, most=2, spare=0, proxy_secret_file=secret))

    def named(reader: str, **more: str) -> dict[str, str]:
        return {
            "X-Fair-Proxy-Secret": secret.read_text(), "X-Fair-User": reader,
            "X-Fair-Role": "reader", **more,
        }  # fmt: skip

    async def check(address: str) -> None:
        jar = aiohttp.CookieJar(unsafe=True)  # also for an address without a name
        async with aiohttp.ClientSession(cookie_jar=jar) as browser:
            assert (await answered(browser, address)).status == 401
            forged = named("anna", **{"X-Fair-Proxy-Secret": "guessed"})
            assert (await answered(browser, address, headers=forged)).status == 401
            roleless = named("anna", **{"X-Fair-Role": ""})
            assert (await answered(browser, address, headers=roleless)).status == 403
            entered = await answered(browser, address, headers=named("anna"), allow_redirects=False)
            assert entered.status == 302
            page = address + entered.headers["Location"]
            assert (await answered(browser, page, headers=named("anna"))).status == 200
            # The same browser, another person: the cookie alone is not enough.
            assert (await answered(browser, page, headers=named("bert"))).status == 403
        [session] = pool._sessions.values()
        assert session.reader == "anna"

    with_broker(pool, check)
