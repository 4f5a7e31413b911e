"""Routes that a reader's Slicer calls, in front of MONAI Label's own and compatible with them.

MONAI Label's are coroutines that call blocking code: one reader's inference holds up everybody.
These are plain functions, which FastAPI runs in threads. What they answer is what the stock client
expects; what they refuse, they refuse with a sentence.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, File, Form, HTTPException, UploadFile
from fastapi.responses import FileResponse, JSONResponse, Response
from monailabel.config import settings
from monailabel.endpoints import datastore as stock_datastore, infer as stock_infer
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import get_mime_type
from requests_toolbelt import MultipartEncoder

from fair_strategy.data.bids import check_id
from fair_strategy.host.asking import refuse_withheld
from fair_strategy.host.clients import MAY_ANNOTATE, MAY_READ, acting, user_name
from fair_strategy.host.datastore import FINAL, MADE_BY_MODEL, StudyDatastore
from fair_strategy.host.errors import readable_errors
from fair_strategy.host.routes.routing import Refusal, StockRoute
from fair_strategy.host.tasks import UploadedScan
from fair_strategy.host.uploads import received, told_as

log = logging.getLogger(__name__)

router = APIRouter(prefix=settings.MONAI_LABEL_API_STR, route_class=StockRoute)
Params = Annotated[str, Form()]
KINDS = ("multipart/form-data", "application/json", "application/octet-stream")
"""What inference answers: mask and description, one of the two, or markups."""


@router.get("/info/")
def app_info(user: User = MAY_READ) -> dict[str, Any]:
    """What the application offers, and counts."""
    told: dict[str, Any] = app_instance().info()
    return told


@router.post("/activelearning/{strategy}", response_model=dict[str, Any])
def next_sample(
    strategy: str, params: dict[str, Any] | None = None, user: User = MAY_READ
) -> Response:
    """The next scan for the client in ``params["client_id"]``."""
    request = {**(params or {}), "strategy": strategy}
    request["client_id"] = acting(request.get("client_id"), user)
    answer: dict[str, Any] = app_instance().next_sample(request)
    log.info("next sample by %s: %s", strategy, answer.get("id", "nothing left"))
    # Made here: of anything else FastAPI would look at every value, in another thread.
    return JSONResponse(answer)


@router.post(
    "/infer/{model}",
    response_class=Response,
    responses={
        200: {"content": {kind: {} for kind in KINDS}},
        409: {"model": Refusal, "description": "outline the scan first, or ask once more"},
    },
)
def infer(
    background_tasks: BackgroundTasks,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Params = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    output: stock_infer.ResultType | None = None,
    user: User = MAY_READ,
) -> Any:
    """The mask, or the uncertainty peaks, of a scan of the study or of one that is sent along."""
    if output == stock_infer.ResultType.dicom_seg:
        raise HTTPException(422, "output 'dicom_seg' is not made; choose image, json or all")
    request = {**_from_client(params), "model": model, "save_label": False}
    request["client_id"] = acting(request.get("client_id"), user)
    app = app_instance()
    with readable_errors(), _scan(app, image, session_id, file) as scan:
        result = app.infer({**request, "image": scan})
    made, described = Path(result["file"]), result["params"]
    background_tasks.add_task(made.unlink, missing_ok=True)
    return _answer(made, described, output)


@router.put("/datastore/label")
def save_label(
    image: str,
    label: Annotated[UploadFile, File()],
    params: Params = "{}",
    tag: str = FINAL,
    user: User = MAY_ANNOTATE,
) -> dict[str, Any]:
    """Take a reader's mask."""
    info = _from_client(params)
    info["client_id"] = acting(info.get("client_id"), user)
    app = app_instance()
    with readable_errors(), received(label.file, label.filename or "") as path:
        label_id = app.datastore().save_label(image, str(path), tag or FINAL, info)
        more = app.on_save_label(image, label_id)
    return {**(more or {}), "image": image, "label": label_id}


@router.get("/datastore/label", response_class=FileResponse)
def download_label(label: str, tag: str, user: User = MAY_READ) -> Any:
    """A label's file; tags `original` and `uncertainty` are made from the stored prediction.

    Those of a scan that is to be outlined without them are not found until its reader asks for
    them: stock Slicer, which fetches `original` by itself, then goes on without.
    """
    if tag in MADE_BY_MODEL:
        refuse_withheld(app_instance().study, label)
    return stock_datastore.download_label(label, tag)


@router.head("/datastore/label")
def check_label(image: str, tag: str, user: User = MAY_READ) -> Any:
    """Whether there is such a label."""
    return stock_datastore.download_label(image, tag, check_only=True)


@router.get("/datastore/")
def datastore(output: stock_datastore.ResultType | None = None, user: User = MAY_READ) -> Any:
    """Counts; or everything, which is made once for each state of the store."""
    found: StudyDatastore = app_instance().datastore()
    if output == stock_datastore.ResultType.all:
        return Response(found.json_bytes(), media_type="application/json")
    return stock_datastore.datastore(output)


@router.put("/datastore/image")
def add_image(
    file: Annotated[UploadFile, File()],
    image: str | None = None,
    params: Params = "{}",
    user: User = MAY_ANNOTATE,
) -> dict[str, Any]:
    """Put a new scan into the image folder."""
    name = file.filename or ""
    with readable_errors(), received(file.file, name) as path:
        case_id = image or _stem(name)
        info = {k: v for k, v in _from_client(params).items() if k != "client_id"}
        return {"image": app_instance().datastore().add_image(case_id, str(path), info)}


@router.get("/datastore/image", response_class=FileResponse)
def download_image(image: str, user: User = MAY_READ) -> FileResponse:
    """A scan's file."""
    answer: FileResponse = stock_datastore.download_image(image)
    return answer


@router.head("/datastore/image")
def check_image(image: str, user: User = MAY_READ) -> Any:
    """Whether there is such a scan."""
    return stock_datastore.download_image(image, check_only=True)


@router.put("/datastore/image/info")
def update_image_info(
    image: str, info: Annotated[str, Form()] = "{}", user: User = MAY_ANNOTATE
) -> None:
    """Merge keys into a scan's info."""
    app_instance().datastore().update_image_info(image, _info(info, user))


@router.put("/datastore/label/info")
def update_label_info(
    label: str, tag: str, info: Annotated[str, Form()] = "{}", user: User = MAY_ANNOTATE
) -> None:
    """Merge keys into a label's info."""
    app_instance().datastore().update_label_info(label, tag, _info(info, user))


def _answer(
    made: Path, described: dict[str, Any], output: stock_infer.ResultType | None
) -> Response:
    # As MONAI Label answers, but for the file that it leaves open.
    if output == stock_infer.ResultType.json:
        return JSONResponse(described)
    kind = get_mime_type(made.name)
    if output == stock_infer.ResultType.image:
        return FileResponse(made, media_type=kind, filename=made.name)
    parts = {
        "params": (None, json.dumps(described), "application/json"),
        "image": (made.name, made.read_bytes(), kind),
    }
    form = MultipartEncoder(fields=parts)
    return Response(form.to_string(), media_type=form.content_type)


@contextmanager
def _scan(
    app: Any, image: str, session_id: str, file: UploadFile | None
) -> Iterator[str | UploadedScan]:
    """What to segment: the id of a scan of the study, or a file that only this server wrote."""
    if file is not None and file.filename:
        with received(file.file, file.filename) as path:
            yield UploadedScan(path)
    elif session_id:
        session = app.sessions().get_session(check_id(session_id))
        if session is None:
            raise HTTPException(404, f"session {session_id!r} is unknown or has expired")
        with told_as("the session's scan", session.image):
            yield UploadedScan(session.image)
    elif image:
        yield check_id(image)
    else:
        raise HTTPException(422, "expected an image id, a file or a session, got none of them")


def _from_client(text: str, name: str = "params") -> dict[str, Any]:
    try:
        given = json.loads(text or "{}")
        # What cannot be sent out again is not kept: NaN, infinity, half of a surrogate pair.
        json.dumps(given, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, f"{name}: expected JSON, {error}") from error
    if not isinstance(given, Mapping):
        raise HTTPException(422, f"{name}: expected a JSON object")
    return dict(given)


def _info(text: str, user: User) -> dict[str, Any]:
    sent_by = user_name(user)
    return {**_from_client(text, "info"), **({"user": sent_by} if sent_by else {})}


def _stem(name: str) -> str:
    base = name.replace("\\", "/").rpartition("/")[2]
    for suffix in (".nii.gz", ".nii", ".nrrd"):
        base = base.removesuffix(suffix)
    return base
