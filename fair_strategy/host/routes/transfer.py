"""Whole files in and out: sessions and the export, in front of MONAI Label's own routes.

MONAI Label unpacks what a session is sent, tar archives that write anywhere included, gives
sessions ids that can be guessed, and leaves each exported archive in the temporary folder.
"""

import os
import secrets
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, HTTPException, Query, UploadFile
from fastapi.responses import FileResponse
from monailabel.config import settings
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance
from starlette.background import BackgroundTask

from fair_strategy.host.clients import MAY_ADMINISTER, MAY_READ
from fair_strategy.host.errors import readable_errors
from fair_strategy.host.routes.routing import Refusal, StockRoute
from fair_strategy.host.uploads import received

router = APIRouter(prefix=settings.MONAI_LABEL_API_STR, route_class=StockRoute)


@router.put(
    "/session/", responses={406: {"model": Refusal, "description": "sessions are switched off"}}
)
def create_session(
    files: Annotated[list[UploadFile], File(description="one volume")],
    uncompress: bool = False,
    expiry: Annotated[int, Query(ge=0, description="seconds; 0 for the server's own")] = 0,
    user: User = MAY_READ,
) -> dict[str, Any]:
    """Keep a scan that is no case of the study for a while, so that a model can be run on it."""
    if uncompress or len(files) != 1:
        raise HTTPException(422, "a session takes one volume, and unpacks no archive")
    sessions = app_instance().sessions()
    if sessions is None:
        raise HTTPException(406, "sessions are switched off")
    with readable_errors(), received(files[0].file, files[0].filename or "") as path:
        session_id, session = sessions.add_session(
            str(path), expiry, session_id=secrets.token_hex(16)
        )
    Path(session.path).chmod(0o700)
    return {"session_id": session_id, "session_info": session.to_json()}


@router.get(
    "/datastore/dataset",
    response_class=FileResponse,
    responses={200: {"content": {"application/zip": {}}}},
)
def download_dataset(
    limit_cases: Annotated[int | None, Query(ge=1, description="so many at most")] = None,
    user: User = MAY_ADMINISTER,
) -> FileResponse:
    """A ZIP of the labelled scans with their labels: for the admin alone."""
    path = app_instance().datastore().get_dataset_archive(limit_cases)
    return FileResponse(
        path,
        media_type="application/zip",
        filename="dataset.zip",
        background=BackgroundTask(os.unlink, path),
    )
