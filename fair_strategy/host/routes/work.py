"""Routes that start work or change models, in front of MONAI Label's own."""

import logging
import os
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, HTTPException, UploadFile
from monailabel.config import settings
from monailabel.endpoints import scoring as stock_scoring, train as stock_train
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance

from fair_strategy.host.clients import MAY_ADMINISTER, MAY_ANNOTATE
from fair_strategy.host.errors import readable_errors
from fair_strategy.host.routes.routing import Refusal, StockRoute
from fair_strategy.host.strategies import refuse_foreign_keys
from fair_strategy.host.tasks import TRAIN_OPTIONS, checked_steps
from fair_strategy.host.uploads import copy_bounded
from fair_strategy.learning.checkpoint import MAX_BYTES, load_model
from fair_strategy.workflows.models import publish

log = logging.getLogger(__name__)

router = APIRouter(prefix=settings.MONAI_LABEL_API_STR, route_class=StockRoute)


@router.post("/train/{model}")
def train(
    model: str,
    params: dict[str, Any] | None = None,
    run_sync: bool = False,
    enqueue: bool = False,
    user: User = MAY_ADMINISTER,
) -> Any:
    """Start a round of training; options that belong to the study are refused at once."""
    _known(model, app_instance().info()["trainers"])
    refuse_foreign_keys(params or {}, TRAIN_OPTIONS)
    checked_steps(params or {})
    with readable_errors():
        return stock_train.run_model(model, params, run_sync, enqueue)


@router.post("/scoring/{method}")
def scoring(
    method: str,
    params: dict[str, Any] | None = None,
    run_sync: bool = False,
    user: User = MAY_ANNOTATE,
) -> Any:
    """Start a scoring method; options that belong to the study are refused at once."""
    _known(method, app_instance().info()["scoring"])
    refuse_foreign_keys(params or {})
    with readable_errors():
        return stock_scoring.run_method(method, params, run_sync)


@router.put("/model/{model}")
def upload_model(
    model: str, file: Annotated[UploadFile, File()], user: User = MAY_ADMINISTER
) -> dict[str, Any]:
    """Publish an uploaded checkpoint beside the others; none is ever overwritten."""
    app = app_instance()
    _known(model, app.info()["models"])
    folder = app.study.state_dir / "models"
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".upload-{os.getpid()}-{id(file)}.pt"
    try:
        with readable_errors(), open(partial, "wb") as copy:
            copy_bounded(file.file, copy, most=MAX_BYTES)
        with readable_errors():
            checksum = load_model(partial).checksum
        path: Path = folder / f"{checksum}.pt"
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    publish(app.study, path, checksum, origin="uploaded", statistics={})
    app.async_scoring(None)
    return {"checksum": f"SHA256:{checksum}", "modified_time": int(path.stat().st_mtime)}


@router.delete("/model/{model}", responses={403: {"model": Refusal, "description": "always"}})
def delete_model(model: str, user: User = MAY_ADMINISTER) -> None:
    """Refused: decisions are replayed with the model that they were taken with."""
    raise HTTPException(403, "models are never deleted; publish another one instead")


def _known(name: str, known: dict[str, Any]) -> None:
    if name not in known:
        raise HTTPException(404, f"{name!r}: expected one of {', '.join(known)}")
