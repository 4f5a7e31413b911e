"""Names of ASGI that guard, proxy and token share, and what is read from a request's scope."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered.

    Attributes:
        status: of the HTTP reply.
        sentence: for the person who sent it.
    """

    status: int
    sentence: str


def path_of(scope: Scope) -> str:
    """The path of a request below the root that a proxy may have put before it."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root else path


def is_under(path: str, top: str) -> bool:
    """Whether a path is `top` or lies below it."""
    return path == top or path.startswith(top + "/")


def headers_of(scope: Scope, name: str) -> list[str]:
    """Every value that a request gives a header, in the order sent."""
    wanted = name.lower().encode("latin-1")
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == wanted]


def shown(path: str) -> str:
    """A path as it may stand in a log: short, on one line."""
    return path[:80].encode("unicode_escape").decode("ascii")
