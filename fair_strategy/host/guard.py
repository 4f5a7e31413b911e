"""What may come in: judges every request before MONAI Label sees it.

MONAI Label answers everybody, reads any path of the server, and opens its model upload, its logs
and its reload to all. Here the client's address, the way it came and the ids it names are judged
first; whatever is refused is refused with a sentence.
"""

import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.responses import JSONResponse

from fair_strategy.config import HostSettings
from fair_strategy.data.bids import check_id, check_tag

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

CHECKS: Mapping[str, Callable[[str], str]] = {
    "image": check_id,
    "label": check_id,
    "id": check_id,
    "session_id": check_id,
    "tag": check_tag,
}


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered.

    Attributes:
        status: of the HTTP reply.
        sentence: for the person who sent it.
    """

    status: int
    sentence: str


class Guard:
    """ASGI application around another: refuses, or passes on unchanged."""

    def __init__(self, app: ASGIApp, settings: HostSettings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        refusal = judge(scope, self.settings) if scope["type"] in ("http", "websocket") else None
        if refusal is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.sentence})
        else:
            log.warning("refused %s: %s", scope["method"], refusal.sentence)
            reply = JSONResponse({"detail": refusal.sentence}, status_code=refusal.status)
            await reply(scope, receive, send)


def judge(scope: Scope, settings: HostSettings) -> Refusal | None:
    """Why this request is refused; None if it is not."""
    judgements = (
        _stranger(scope, settings),
        _closed(scope.get("method", "GET"), path_of(scope), settings),
        _bad_name(scope),
    )
    return next((refusal for refusal in judgements if refusal is not None), None)


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
    for name in _addressed(scope):
        # A page of another site, open in a browser here, must not reach the scans.
        if not _is_local_name(name):
            return Refusal(
                403,
                f"expected a request to or from this machine, came as {name[:80]!r}; "
                "--conf allow_remote true opens the server",
            )
    return None


def _addressed(scope: Scope) -> Iterator[str]:
    for key, value in scope["headers"]:
        text = value.decode("latin-1")
        if key == b"host":
            yield urlsplit(f"//{text}").hostname or ""
        elif key == b"origin":
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
        return Refusal(403, f"{method} {path} is closed: ask the PACS itself, if there is one")
    return None


def _switch(method: str, path: str, option: str) -> Refusal:
    return Refusal(403, f"{method} {path} is closed; --conf {option} true opens it")


def is_under(path: str, top: str) -> bool:
    """Whether a path is `top` or lies below it."""
    return path == top or path.startswith(top + "/")


def _bad_name(scope: Scope) -> Refusal | None:
    query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    named = [(name, text) for name, text in query if text and name in CHECKS]
    _, _, session = path_of(scope).partition("/session/")
    named += [("id", session)] if session else []
    try:
        for name, text in named:
            CHECKS[name](text)
    except ValueError as error:
        return Refusal(422, str(error))
    return None


def path_of(scope: Scope) -> str:
    """The path of a request below the root that a proxy may have put before it."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root else path
