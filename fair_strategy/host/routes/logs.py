"""The server's log, in front of MONAI Label's own route: without the study lead's token."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from monailabel.config import settings
from monailabel.endpoints import logs as stock_logs
from monailabel.endpoints.user.auth import User

from fair_strategy.host.clients import MAY_ADMINISTER
from fair_strategy.host.lead import access_of
from fair_strategy.host.routes.routing import StockRoute

router = APIRouter(prefix=settings.MONAI_LABEL_API_STR, route_class=StockRoute)


def log_file() -> Path:
    """Where MONAI Label logs to."""
    return Path(settings.MONAI_LABEL_APP_DIR) / "logs" / "app.log"


@router.get(
    "/logs/",
    response_class=Response,
    responses={200: {"content": {"text/html": {}, "text/plain": {}}}},
)
def logs(
    request: Request,
    lines: Annotated[int, Query(le=10**6, description="0: all of them")] = 300,
    html: bool = True,
    text: bool = False,
    refresh: int = 0,
    user: User = MAY_ADMINISTER,
) -> Response:
    """The last lines of the log; all of it for lines 0. Closed unless --conf allow_logs true."""
    reply = stock_logs.get_logs(str(log_file()), lines, html, text, refresh)
    content = log_file().read_bytes() if lines <= 0 else reply.body
    return Response(access_of(request).blanked(content), media_type=reply.media_type)
