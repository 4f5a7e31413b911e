"""Who asks, as the reverse proxy in front says, and what each role may ask for.

MONAI Label's own authentication cannot work with the installed PyJWT. A proxy that knows its users
names them here in two headers, and proves by a third, a secret shared with this server, that it is
the proxy. See docs/decisions/0018-roles-by-proxy.md.
"""

import hmac
import re
from dataclasses import dataclass
from typing import Literal, get_args

from fair_strategy.config import HostSettings
from fair_strategy.config_proxy import ROLE_HEADER, SECRET_HEADER, USER_HEADER, read_secret
from fair_strategy.host.asgi import Refusal, Scope, headers_of, path_of, shown

Role = Literal["reader", "lead", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what those before it may."""

LONGEST_NAME = 64

_CALLER = "fair_strategy.caller"


@dataclass(frozen=True)
class Caller:
    """A person whom the proxy has authenticated."""

    name: str
    role: Role

    def may(self, least: Role) -> bool:
        """Whether this role is `least` or one that may do more."""
        return ROLES.index(self.role) >= ROLES.index(least)


@dataclass(frozen=True)
class _Rule:
    least: Role
    methods: frozenset[str]
    paths: re.Pattern[str]


def _rule(least: Role, methods: str, paths: str) -> _Rule:
    return _Rule(least, frozenset(methods.split()), re.compile(paths))


# The first that fits decides. What none names is for the admin: a route of a later version of
# MONAI Label is not open before somebody has looked at it.
_RULES = (
    _rule("reader", "GET HEAD", r"/(docs|openapi\.json|favicon\.ico|static/.*)?"),
    _rule("reader", "GET", r"/(info|auth|train|scoring|datastore)/?"),
    _rule("reader", "POST", r"/(activelearning|infer)/[^/]+"),
    _rule("reader", "GET HEAD", r"/datastore/(image|label)(/info)?"),
    _rule("reader", "PUT", r"/datastore/label"),
    _rule("reader", "GET PUT DELETE", r"/session/[^/]*"),
    _rule("reader", "GET POST PUT DELETE", r"/reader/.+"),
    _rule("lead", "GET POST", r"/fairness(/.*)?"),
    _rule("lead", "POST DELETE", r"/(train|scoring)/[^/]*"),
    _rule("lead", "PUT", r"/datastore/(image|image/info|label/info|updatelabelinfo)"),
    _rule("lead", "GET", r"/(batch/infer|model/.+)"),
)


def least_role(method: str, path: str) -> Role:
    """The lowest role that may send such a request."""
    for rule in _RULES:
        if method in rule.methods and rule.paths.fullmatch(path):
            return rule.least
    return "admin"


class Proxy:
    """The reverse proxy that authenticates everybody who reaches this server.

    Args:
        secret: that it sends with each request.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    @classmethod
    def of(cls, settings: HostSettings) -> "Proxy | None":
        """As the options say; None where there is no proxy.

        Raises:
            SettingsError: if the secret's file is missing, open to everybody, or too short.
        """
        file = settings.proxy_secret_file
        return None if file is None else cls(read_secret(file))

    def caller(self, scope: Scope) -> Caller | Refusal:
        """Who sent a request; a refusal if the proxy did not, or does not say who."""
        offered = headers_of(scope, SECRET_HEADER)
        if len(offered) != 1 or not self._is_secret(offered[0]):
            return Refusal(401, "this server answers through its proxy only; log in there")
        names, roles = headers_of(scope, USER_HEADER), headers_of(scope, ROLE_HEADER)
        if len(names) != 1 or not _is_name(names[0]):
            return Refusal(401, f"the proxy named nobody: expected one header {USER_HEADER}")
        role = next((role for role in ROLES if roles == [role]), None)
        if role is None:
            return Refusal(
                403, f"you have no role here: expected {ROLE_HEADER} to be {', '.join(ROLES)}"
            )
        return Caller(names[0], role)

    def judge(self, scope: Scope) -> Refusal | None:
        """Why a request is refused; otherwise its sender is noted for `caller_of`."""
        found = self.caller(scope)
        if isinstance(found, Refusal):
            return found
        method, path = scope.get("method", "GET"), path_of(scope)
        least = least_role(method, path)
        if not found.may(least):
            return Refusal(
                403, f"{method} {shown(path)} is for the role {least}, yours is {found.role}"
            )
        scope[_CALLER] = found
        return None

    def _is_secret(self, offered: str) -> bool:
        return hmac.compare_digest(offered.encode("latin-1"), self._secret)


def caller_of(scope: Scope) -> Caller | None:
    """Who sent a request that came through the proxy; None without a proxy."""
    caller: Caller | None = scope.get(_CALLER)
    return caller


def _is_name(text: str) -> bool:
    return 0 < len(text) <= LONGEST_NAME and text.isprintable() and text == text.strip()
