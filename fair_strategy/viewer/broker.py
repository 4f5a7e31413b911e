"""One port for all readers: hands out sessions, and passes on what belongs to each.

`/` gives a session and leads to `/s/<id>/`. Whoever has the session's cookie is let through to its
worker process, pages and WebSocket alike; the secret that the worker asks for goes to the page by
trame's launcher request, so that it stands in no address.
"""

import asyncio
import hmac
import ipaddress
import logging
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from fair_strategy.config_proxy import ROLE_HEADER, SECRET_HEADER, USER_HEADER, read_secret
from fair_strategy.viewer.notices import (
    ENDED,
    FULL,
    NOT_STARTED,
    SILENT,
    WATCH,
    notice,
    watched,
)
from fair_strategy.viewer.pool import Pool, Session, WorkerError

log = logging.getLogger(__name__)

COOKIE = "fair-strategy-review"
POOL = web.AppKey("pool", Pool)
CLIENT = web.AppKey("client", aiohttp.ClientSession)
HOSTS = web.AppKey("hosts", frozenset)
SECRET = web.AppKey("secret", str)
MESSAGE_BYTES = 64 * 1024 * 1024
CLOSING_S = 2.0
"""A page that was closed holds its connection for a moment; one that is open holds it longer. And
so long has a page that was led to a session to open its connection."""
PASSED_ON = ("Accept", "Accept-Language", "If-None-Match", "If-Modified-Since", "User-Agent")
HEADERS = {
    # The page's templates are compiled in the browser, hence eval. Nothing may come from elsewhere.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self' data: blob:; worker-src 'self' blob:; frame-ancestors 'none'; "
        "base-uri 'self'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_broker(pool: Pool, *, hosts: frozenset[str] = frozenset()) -> web.Application:
    """The broker as an aiohttp application.

    Args:
        pool: of the workers; started and closed with the application.
        hosts: names under which it may be addressed beside those of this machine's loopback.
    """
    app = web.Application(middlewares=[_only_known_hosts, _only_the_proxy])
    app[POOL], app[HOSTS] = pool, hosts
    file = pool.settings.proxy_secret_file
    app[SECRET] = read_secret(file) if file else ""
    app.on_response_prepare.append(_add_headers)
    app.cleanup_ctx.append(_running)
    app.router.add_get("/", _enter)
    app.router.add_get("/health", _health)
    app.router.add_post("/s/{id}/paraview/", _launch)
    app.router.add_get("/s/{id}/ws", _socket)
    app.router.add_get("/s/{id}/alive", _alive)
    app.router.add_get("/s/{id}/watch.js", _watch)
    for page in ("", "index.html"):
        app.router.add_get(f"/s/{{id}}/{page}", _index)
    app.router.add_get("/s/{id}/{path:.+}", _part)
    return app


def serve(pool: Pool, *, host: str, port: int, hosts: frozenset[str] = frozenset()) -> None:
    """Run the broker until it is told to end."""
    web.run_app(make_broker(pool, hosts=hosts), host=host, port=port, print=None)


async def _running(app: web.Application):  # type: ignore[no-untyped-def]
    app[CLIENT] = aiohttp.ClientSession(auto_decompress=False)
    await app[POOL].start()
    yield
    await app[POOL].close()
    await app[CLIENT].close()


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


@web.middleware
async def _only_known_hosts(request: web.Request, handler: Handler) -> web.StreamResponse:
    # A foreign page whose name resolves to this machine must not reach it.
    host = urlsplit(f"//{request.host}").hostname or ""
    if not (_is_loopback(host) or host in request.app[HOSTS]):
        raise web.HTTPMisdirectedRequest(
            text=f"{host!r} is no name of this review page; the lead adds it by --public-host"
        )
    return await handler(request)


@web.middleware
async def _only_the_proxy(request: web.Request, handler: Handler) -> web.StreamResponse:
    secret = request.app[SECRET]
    if secret:
        offered = request.headers.getall(SECRET_HEADER, [])
        readers = request.headers.getall(USER_HEADER, [])
        if len(offered) != 1 or not hmac.compare_digest(offered[0].encode(), secret.encode()):
            raise web.HTTPUnauthorized(text="this page answers through its proxy only")
        if len(readers) != 1 or not readers[0] or not request.headers.get(ROLE_HEADER):
            raise web.HTTPForbidden(text="you have no role here")
    return await handler(request)


def _reader(request: web.Request) -> str:
    """Whom the proxy has logged in; empty where readers type their name."""
    return request.headers[USER_HEADER] if request.app[SECRET] else ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# ---------------------------------------------------------------- ways in


async def _enter(request: web.Request) -> web.StreamResponse:
    """A session: the one that this browser had, if its page is closed; else a new one."""
    if request.headers.get("Sec-Fetch-Dest", "document") != "document":
        # A foreign page could take every place by pictures or frames with this address.
        raise web.HTTPForbidden(text="open this address in a tab of its own")
    pool = request.app[POOL]
    session = await _session_of_before(request)
    if session is None:
        try:
            session = await pool.take(_reader(request))
        except WorkerError:  # the pool has logged why, with a path that is no reader's business
            return _instead(NOT_STARTED, status=500, again_s=30)
    if session is None:
        return _instead(FULL.format(most=pool.settings.most), status=503, again_s=10)
    answer = web.HTTPFound(f"/s/{session.id}/index.html")
    secure = request.headers.get("X-Forwarded-Proto", request.scheme) == "https"
    # The first lets the session's own pages in; the second finds the session from `/`.
    for name, value, path in (
        (COOKIE, session.token, f"/s/{session.id}/"),
        (f"{COOKIE}-last", f"{session.id}:{session.token}", "/"),
    ):
        answer.set_cookie(
            name, value, path=path, httponly=True, samesite="Strict", secure=secure or None
        )
    raise answer


async def _session_of_before(request: web.Request) -> Session | None:
    session_id, _, token = request.cookies.get(f"{COOKIE}-last", "").partition(":")
    session = request.app[POOL].get(session_id)
    if session is None or not session.alive or not _matches(token, session):
        return None
    if session.reader != _reader(request):
        return None
    if not await _is_closed(session) or not session.alive or session.ending:
        return None
    session.promised_until = time.monotonic() + CLOSING_S  # to this page, and to no other at once
    return session


async def _is_closed(session: Session) -> bool:
    """Whether no page holds it; waits for one that has just been closed."""
    end = time.monotonic() + CLOSING_S
    while session.held and time.monotonic() < end:
        await asyncio.sleep(0.05)
    return not session.held


async def _health(request: web.Request) -> web.Response:
    pool = request.app[POOL]
    return web.json_response(
        {
            "taken": pool.taken,
            "pages": pool.pages,
            "processes": len(pool),
            "most": pool.settings.most,
        }
    )


async def _launch(request: web.Request) -> web.Response:
    """What trame's page asks for before it connects: the address, and the worker's secret."""
    session = _let_in(request)
    # The page puts its own host, and wss where it is on https.
    address = f"ws://USE_HOST/s/{session.id}/ws"
    return web.json_response({"sessionURL": address, "secret": session.key})


async def _alive(request: web.Request) -> web.Response:
    """204 while the session lives; what asks for it keeps no session alive."""
    _let_in(request)
    return web.Response(status=204)


async def _watch(_request: web.Request) -> web.StreamResponse:
    """No secret; and the page that asks for it may have lost its session already."""
    return web.FileResponse(WATCH, headers={"Cache-Control": "no-cache"})


async def _index(request: web.Request) -> web.Response:
    session = _let_in(request, else_to="/")
    try:
        async with request.app[CLIENT].get(
            f"http://127.0.0.1:{session.port}/index.html", headers={"Accept-Encoding": "identity"}
        ) as found:
            found.raise_for_status()
            page = watched(await found.read())
    except aiohttp.ClientError:
        # Killed, and not yet known to be: the next try leads to a new session.
        return _instead(SILENT, status=502, again_s=2)
    headers = {"Cache-Control": "no-cache"}
    return web.Response(body=page, content_type="text/html", charset="utf-8", headers=headers)


async def _part(request: web.Request) -> web.StreamResponse:
    session = _let_in(request)
    url = f"http://127.0.0.1:{session.port}/{request.match_info['path']}"
    headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
    try:
        async with request.app[CLIENT].get(
            url, params=request.query, headers=headers, allow_redirects=False
        ) as found:
            kept = ("Content-Type", "Content-Encoding", "ETag", "Last-Modified")
            answer = web.StreamResponse(status=found.status)
            answer.headers.update({n: found.headers[n] for n in kept if n in found.headers})
            answer.headers["Cache-Control"] = "no-cache"
            await answer.prepare(request)
            async for chunk in found.content.iter_chunked(65536):
                await answer.write(chunk)
            await answer.write_eof()
            return answer
    except aiohttp.ClientConnectionError:
        raise web.HTTPGone(text=ENDED) from None


async def _socket(request: web.Request) -> web.StreamResponse:
    session = _let_in(request)
    origin = urlsplit(request.headers.get("Origin", "")).netloc
    if origin != request.host:
        raise web.HTTPForbidden(text="a page of another origin may not connect")
    front = web.WebSocketResponse(max_msg_size=MESSAGE_BYTES, heartbeat=30.0)
    await front.prepare(request)
    try:
        async with request.app[CLIENT].ws_connect(
            f"ws://127.0.0.1:{session.port}/ws", max_msg_size=MESSAGE_BYTES
        ) as back:
            # Left before the worker, which may be at work, has answered that it is over.
            with session.page():
                await _both_ways(front, back, session)
    except aiohttp.ClientError:
        log.info("session %s does not answer", session.id)
    finally:
        await front.close()
    return front


async def _both_ways(
    front: web.WebSocketResponse, back: aiohttp.ClientWebSocketResponse, session: Session
) -> None:
    async def inwards() -> None:
        async for message in front:
            session.touch()
            await _send(back, message)

    async def outwards() -> None:
        async for message in back:
            await _send(front, message)

    ways = [asyncio.create_task(inwards()), asyncio.create_task(outwards())]
    _, unfinished = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for way in unfinished:
        way.cancel()
    await asyncio.gather(*ways, return_exceptions=True)


async def _send(
    to: web.WebSocketResponse | aiohttp.ClientWebSocketResponse, message: aiohttp.WSMessage
) -> None:
    if message.type == aiohttp.WSMsgType.BINARY:
        await to.send_bytes(message.data)
    elif message.type == aiohttp.WSMsgType.TEXT:
        await to.send_str(message.data)


def _let_in(request: web.Request, *, else_to: str = "") -> Session:
    """The session that a request is for; of one that has ended a page leads elsewhere.

    What a page asks for by itself is not led to a new session: each request would take one.
    """
    session = request.app[POOL].get(request.match_info["id"])
    if session is None or not session.alive:
        raise web.HTTPFound(else_to) if else_to else web.HTTPGone(text=ENDED)
    own = session.reader == _reader(request)
    if not own or not _matches(request.cookies.get(COOKIE, ""), session):
        raise web.HTTPForbidden(text="this session belongs to another browser; open / for your own")
    return session


def _matches(token: str, session: Session) -> bool:
    return hmac.compare_digest(token.encode(), session.token.encode())


def _instead(sentence: str, *, status: int, again_s: int = 0) -> web.Response:
    page = notice(sentence, again_s=again_s)
    return web.Response(text=page, content_type="text/html", status=status)
