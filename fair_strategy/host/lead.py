"""Who is the study lead: a token, offered as a header, in a form, or once in the address."""

import hmac
import secrets
import sys
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from fastapi import HTTPException, Request, Response
from fastapi.security import HTTPAuthorizationCredentials
from monailabel.config import settings

from fair_strategy.config import HostSettings
from fair_strategy.host.access import caller_of
from fair_strategy.host.asgi import ASGIApp, Receive, Scope, Send, is_under, path_of

TOP = f"{settings.MONAI_LABEL_API_STR}/fairness"
WANTED = (
    "the dashboard is for the study lead: open the address that the server printed to its console "
    "at the start, or send the header 'Authorization: Bearer TOKEN'"
)
_IN_ADDRESS = "lead_token"


class LeadAccess:
    """One server's token, and the secret that a browser gets in exchange for it.

    Args:
        token: opens the dashboard; None draws one.
        min_cell: smallest number of cases of a subgroup that is shown.
    """

    def __init__(self, token: str | None = None, *, min_cell: int = 5) -> None:
        self.drawn = token is None
        self.min_cell = min_cell
        self._token = secrets.token_urlsafe(24) if token is None else token
        # What a browser keeps is not the token, which no reply ever holds; it ends with the server.
        self._session = secrets.token_urlsafe(32)

    @classmethod
    def of(cls, options: HostSettings) -> "LeadAccess":
        """As the options say."""
        token = options.lead_token
        return cls(token.get_secret_value() if token else None, min_cell=options.min_cell)

    def accepts(self, token: str | None) -> bool:
        """Whether this is the token; takes the same time for any wrong one of its length."""
        return token is not None and _same(token, self._token)

    def admits(self, request: Request, header: HTTPAuthorizationCredentials | None) -> bool:
        """Whether it carries the token or the browser's secret, or the proxy names a lead."""
        caller = caller_of(request.scope)
        if caller is not None:
            return caller.may("lead")
        cookie = request.cookies.get(_cookie_name(request))
        by_cookie = cookie is not None and _same(cookie, self._session)
        return by_cookie or (header is not None and self.accepts(header.credentials))

    def require(self, request: Request, header: HTTPAuthorizationCredentials | None) -> None:
        """Refuse with 401 whoever is not the lead."""
        if not self.admits(request, header):
            raise HTTPException(401, WANTED, headers={"WWW-Authenticate": "Bearer"})

    def remember(self, request: Request, response: Response, *, path: str) -> None:
        """Give the browser its secret, for this server's dashboard alone."""
        response.set_cookie(
            _cookie_name(request),
            self._session,
            path=path,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )

    def blanked(self, text: bytes) -> bytes:
        """The text with stars in place of the token: MONAI Label logs its command line."""
        token = self._token.encode()
        return text.replace(token, b"*" * len(token))

    def announcement(self, port: int) -> str:
        """The line for the console; with the token only if nobody else can know it yet."""
        address = f"http://127.0.0.1:{port}{TOP}/"
        if self.drawn:
            return f"Dashboard, for the study lead alone: {address}?token={self._token}"
        return f"Dashboard, for the study lead alone: {address} (token: --conf lead_token)"

    def announce(self, port: int) -> None:
        """Print the line to standard error; a logger would write it to the file of GET /logs."""
        sys.stderr.write(f"\n{self.announcement(port)}\n\n")
        sys.stderr.flush()


class TokenFromAddress:
    """ASGI application around another: takes ?token= out of the address before anything logs it.

    The access log is written from the same scope after the reply.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, the token in its state instead of its query."""
        if scope["type"] == "http" and is_under(path_of(scope), TOP):
            query = parse_qsl(scope.get("query_string", b"").decode("latin-1"))
            token = next((value for name, value in query if name == "token"), None)
            if token is not None:
                rest = [(name, value) for name, value in query if name != "token"]
                scope["query_string"] = urlencode(rest).encode("latin-1")
                scope.setdefault("state", {})[_IN_ADDRESS] = token
        await self.app(scope, receive, send)


def access_of(request: Request) -> LeadAccess:
    """The access of the server that got this request."""
    access: LeadAccess = request.app.state.lead
    return access


def blank_log(access: LeadAccess, log_file: Path) -> None:
    """Put stars over the token in a log that was written before this server knew it."""
    if not log_file.exists():
        return
    written = log_file.read_bytes()
    blanked = access.blanked(written)
    if blanked != written:
        # In place: the logger has the file open, and appends.
        with open(log_file, "r+b") as file:
            file.write(blanked)


def token_in_address(request: Request) -> str | None:
    """What stood behind ?token=; None if nothing did."""
    token: str | None = getattr(request.state, _IN_ADDRESS, None)
    return token


def _same(offered: str, wanted: str) -> bool:
    return hmac.compare_digest(
        offered.encode("utf-8", "surrogatepass"), wanted.encode("utf-8", "surrogatepass")
    )


def _cookie_name(request: Request) -> str:
    # Browsers send cookies to every port of a machine, where another study may be served.
    return f"fairness_lead_{request.url.port or request.url.scheme}"
