"""The study lead's dashboard: its page, and its files."""

import logging
from functools import lru_cache
from html import escape
from importlib import resources
from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from monailabel.interfaces.utils.app import app_instance

from fair_strategy.host.lead import TOP, access_of, token_in_address
from fair_strategy.host.routes.routing import Refusal
from fair_strategy.workflows.overview.summary import latest_audit_report

log = logging.getLogger(__name__)

router = APIRouter(prefix=TOP, tags=["Fairness"])

POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    # The charts set styles on their elements and add a sheet of their own.
    "style-src 'self' 'unsafe-inline'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
PLOTLY = "plotly.min.js"
_KINDS = {".css": "text/css", ".js": "text/javascript"}

Bearer = Annotated[
    HTTPAuthorizationCredentials | None,
    Depends(HTTPBearer(auto_error=False, description="the study lead's token")),
]


def require_lead(request: Request, header: Bearer) -> None:
    """Refuse with 401 whoever is not the study lead."""
    access_of(request).require(request, header)


@router.get("", include_in_schema=False)
@router.get(
    "/",
    response_class=HTMLResponse,
    responses={401: {"content": {"text/html": {}}, "description": "a field for the token"}},
)
def dashboard(request: Request, header: Bearer) -> Response:
    """The page; without the token, a field to give it."""
    token = token_in_address(request)
    if token is not None:
        return _exchanged(request, token)
    if access_of(request).admits(request, header):
        return _page("dashboard.html")
    return _login("")


@router.post("/login", include_in_schema=False)
def login(request: Request, token: Annotated[str, Form()]) -> Response:
    """Take the token from the field."""
    return _exchanged(request, token.strip())


@router.get("/page/{name}", include_in_schema=False)
def page_file(name: str) -> Response:
    """A file of the page; nothing of the study is in it."""
    if name == PLOTLY:
        return _file(plotly_script(), ".js", cache="private, max-age=86400")
    kind = name[name.rfind(".") :]
    if kind not in _KINDS or name not in _names():
        raise HTTPException(404, f"{name!r}: no such file of the dashboard")
    return _file(_read(name), kind, cache="no-cache")


@router.get(
    "/audit",
    response_class=Response,
    dependencies=[Depends(require_lead)],
    responses={
        200: {"content": {"text/html": {}}},
        401: {"model": Refusal, "description": "not the study lead"},
        404: {"model": Refusal, "description": "no audit has been made yet"},
    },
)
def audit_report() -> Response:
    """The report of the study's last audit."""
    report = latest_audit_report(app_instance().study)
    if report is None:
        raise HTTPException(404, "no audit of this study has been made yet")
    return HTMLResponse(report.read_bytes(), headers=_headers(REPORT_POLICY))


@lru_cache(maxsize=1)
def plotly_script() -> bytes:
    """The script that draws the charts, from the installed package."""
    from plotly.offline import get_plotlyjs

    script: bytes = get_plotlyjs().encode()
    return script


def _exchanged(request: Request, token: str) -> Response:
    access = access_of(request)
    if not access.accepts(token):
        log.warning("dashboard: refused, the token is another one")
        return _login("That is not this server's token.")
    path = f"{request.scope.get('root_path', '')}{TOP}"
    # Away from the address that holds the token.
    response = RedirectResponse(f"{path}/", status_code=303, headers=_headers(POLICY))
    access.remember(request, response, path=path)
    return response


def _login(message: str) -> Response:
    return _page("login.html", status=401, message=message)


def _page(name: str, *, status: int = 200, **values: str) -> Response:
    text = _read(name).decode()
    for key, value in values.items():
        text = text.replace(f"{{{{{key}}}}}", escape(value))
    return HTMLResponse(text, status_code=status, headers=_headers(POLICY))


def _file(content: bytes, kind: str, *, cache: str) -> Response:
    headers = {**_headers(POLICY), "Cache-Control": cache}
    return Response(content, media_type=_KINDS[kind], headers=headers)


def _headers(policy: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        # Without a referrer a browser also hides the origin of a form, and the guard refuses it.
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    folder = resources.files("fair_strategy.host.routes.page")
    return frozenset(file.name for file in folder.iterdir())


@lru_cache(maxsize=32)
def _read(name: str) -> bytes:
    return resources.files("fair_strategy.host.routes.page").joinpath(name).read_bytes()
