"""What may come in: judges every request before MONAI Label sees it.

MONAI Label answers everybody, reads any path of the server, and opens its model upload, its logs
and its reload to all. Here the client's address, the way it came and the ids it names are judged
first; whatever is refused is refused with a sentence.
"""

import ipaddress
import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import parse_qsl, urlsplit

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from fair_strategy.config import HostSettings
from fair_strategy.data.bids import check_id, check_tag
from fair_strategy.host.access import Proxy
from fair_strategy.host.asgi import (
    ASGIApp,
    Message,
    Receive,
    Refusal,
    Scope,
    Send,
    headers_of,
    is_under,
    path_of,
    shown,
)

log = logging.getLogger(__name__)

CHECKS: Mapping[str, Callable[[str], str]] = {
    "image": check_id,
    "label": check_id,
    "id": check_id,
    "session_id": check_id,
    "tag": check_tag,
}


JSON_BYTES = 1024**2
"""The body of a request that is no upload may have so many."""


class Guard:
    """ASGI application around another: refuses, or passes on unchanged.

    Args:
        app: what is guarded.
        settings: what is open.
        proxy: the only one that is answered; None without a proxy.
    """

    def __init__(self, app: ASGIApp, settings: HostSettings, proxy: Proxy | None = None) -> None:
        self.app = app
        self.settings = settings
        self.proxy = proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = judge(scope, self.settings, self.proxy)
        if refusal is None:
            await self.app(scope, bounded(scope, receive, self.settings), send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.sentence})
        else:
            log.warning("refused %s: %s", scope["method"], refusal.sentence)
            reply = JSONResponse({"detail": refusal.sentence}, status_code=refusal.status)
            await reply(scope, receive, send)


def judge(scope: Scope, settings: HostSettings, proxy: Proxy | None = None) -> Refusal | None:
    """Why this request is refused; None if it is not.

    A request of the proxy has its sender noted in the scope, see `access.caller_of`.
    """
    stranger = proxy.judge(scope) if proxy else _stranger(scope, settings)
    return (
        stranger
        or _foreign_page(scope)
        or _closed(scope.get("method", "GET"), path_of(scope), settings)
        or (None if proxy else _unproxied(scope.get("method", "GET"), path_of(scope), settings))
        or _bad_name(scope)
        or _too_large(scope, settings)
    )


def bounded(scope: Scope, receive: Receive, settings: HostSettings) -> Receive:
    """`receive` that ends a body which grows beyond what its kind may have."""
    left = _limit(scope, settings)

    async def receive_bounded() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:  # its length was not told, or not truly
            raise HTTPException(413, _size_sentence(scope, settings))
        return message

    return receive_bounded


def is_loopback(address: str) -> bool:
    """Whether an IP address is one of this machine's own."""
    try:
        ip = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback


def _stranger(scope: Scope, settings: HostSettings) -> Refusal | None:
    if settings.allow_remote:
        return None
    client = scope.get("client")
    if client is not None and not is_loopback(client[0]):
        return Refusal(
            403, "this server answers its own machine only; --conf allow_remote true opens it"
        )
    for name in (*_hosts(scope), *_origins(scope)):
        # A page of another site, open in a browser here, must not reach the scans.
        if not _is_local_name(name):
            return Refusal(
                403,
                f"expected a request to or from this machine, came as {name[:80]!r}; "
                "--conf allow_remote true opens the server",
            )
    return None


def _foreign_page(scope: Scope) -> Refusal | None:
    # MONAI Label allows pages of any site to send requests and to read the replies.
    own = {name.lower() for name in _hosts(scope)}
    for name in _origins(scope):
        if name.lower() not in own and not (_is_local_name(name) and all(map(_is_local_name, own))):
            return Refusal(403, f"a page of another site, {name[:80]!r}, may not use this server")
    return None


def _hosts(scope: Scope) -> Iterator[str]:
    for text in headers_of(scope, "host"):
        yield urlsplit(f"//{text}").hostname or ""


def _origins(scope: Scope) -> Iterator[str]:
    for text in headers_of(scope, "origin"):
        yield urlsplit(text).hostname or text


def _is_local_name(name: str) -> bool:
    return is_loopback(name) or name.lower() in {"localhost", socket.gethostname().lower()}


def _closed(method: str, path: str, settings: HostSettings) -> Refusal | None:
    if path == "/reload" and not settings.allow_reload:
        return _switch(method, path, "allow_reload")
    if is_under(path, "/logs") and not settings.allow_logs:
        return _switch(method, path, "allow_logs")
    changes = method in {"PUT", "DELETE", "POST", "PATCH"}
    if is_under(path, "/model") and changes and not settings.allow_model_upload:
        return _switch(method, path, "allow_model_upload")
    if is_under(path, "/proxy"):
        return Refusal(403, f"{method} /proxy is closed: ask the PACS itself, if there is one")
    if is_under(path, "/ohif"):
        return Refusal(403, f"{method} /ohif is closed: OHIF needs the PACS behind /proxy")
    if path.rstrip("/") == "/datastore" and changes:
        return Refusal(403, f"{method} /datastore/ is closed: use {method} /datastore/image")
    return None


def _unproxied(method: str, path: str, settings: HostSettings) -> Refusal | None:
    # Behind a proxy these are for the admin.
    exports = path.rstrip("/") == "/datastore/dataset"
    deletes = path.rstrip("/") == "/datastore/label" and method == "DELETE"
    if (exports or deletes) and not settings.allow_export:
        return _switch(method, path, "allow_export")
    return None


def _switch(method: str, path: str, option: str) -> Refusal:
    return Refusal(403, f"{method} {shown(path)} is closed; --conf {option} true opens it")


def _too_large(scope: Scope, settings: HostSettings) -> Refusal | None:
    told = headers_of(scope, "content-length")
    if told and not told[0].isdecimal():
        return Refusal(400, "content-length: expected a number")
    if told and int(told[0]) > _limit(scope, settings):
        return Refusal(413, _size_sentence(scope, settings))
    return None


def _limit(scope: Scope, settings: HostSettings) -> int:
    kinds = headers_of(scope, "content-type")
    is_upload = bool(kinds) and kinds[0].lower().startswith("multipart/form-data")
    return settings.max_upload_mb * 1024**2 if is_upload else JSON_BYTES


def _size_sentence(scope: Scope, settings: HostSettings) -> str:
    return (
        f"the request is too large: expected at most {_limit(scope, settings)} bytes; "
        "--conf max_upload_mb sets what a file may have"
    )


def _bad_name(scope: Scope) -> Refusal | None:
    query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    named = [(name, text) for name, text in query if text and name in CHECKS]
    path = path_of(scope)
    if not path.isprintable():
        return Refusal(422, "the path holds a character that no name here has")
    _, _, session = path.partition("/session/")
    named += [("id", session)] if session else []
    try:
        for name, text in named:
            CHECKS[name](text)
    except ValueError as error:
        return Refusal(422, str(error))
    return None
