"""The routes of a review page: why a scan, where to look, leases, skip, exclude, re-open, drafts.

Each is a thin translation of `workflows.review` and `workflows.drafts`. What they answer is bound
by decision 5: nothing from which a subgroup follows.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, HTTPException, Query, UploadFile
from fastapi.responses import FileResponse, Response
from monailabel.config import settings
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance

from fair_strategy.data.bids import check_id
from fair_strategy.host.asking import refuse_withheld
from fair_strategy.host.clients import (
    MAY_ANNOTATE,
    MAY_READ,
    acting,
    checked_client,
    checked_person,
)
from fair_strategy.host.errors import readable_errors
from fair_strategy.host.routes import replies
from fair_strategy.host.routes.routing import SentenceRoute
from fair_strategy.host.strategies import located, reply
from fair_strategy.host.tasks import LABELS
from fair_strategy.host.uploads import received
from fair_strategy.store import cases
from fair_strategy.workflows import drafts, review
from fair_strategy.workflows.double_reading import own_label_file
from fair_strategy.workflows.planning import offered
from fair_strategy.workflows.study import Study

log = logging.getLogger(__name__)

router = APIRouter(
    prefix=settings.MONAI_LABEL_API_STR + "/reader", tags=["Reader"], route_class=SentenceRoute
)
Image = Annotated[str, Query(description="id of the scan")]
Client = Annotated[str, Query(description="the reader's own name, as sent with Next Sample")]
Extension = Annotated[Literal[".nii.gz", ".nrrd"], Query(description="type of the file")]


@router.get("/options")
def options(user: User = MAY_READ) -> replies.Options:
    """What a page offers its reader."""
    study = _study()
    return replies.Options(
        skip_reasons=list(review.SKIP_REASONS),
        labels=dict(LABELS),
        lease_minutes=study.settings.lease_minutes,
        strategies=list(offered(study.settings)),
    )


@router.get("/why")
def why(image: Image = "", client_id: Client = "", user: User = MAY_READ) -> replies.Why:
    """Why this scan: its uncertainty in the pool, the model behind it, what is implausible."""
    with _asked(image) as study:
        found = review.why(study, image, _client(client_id, user))
    told = asdict(found) | {
        "model": found.model and found.model[:12],
        "trained_at": _time(found.trained_at),
    }
    return replies.Why(image=image, **told)


@router.post("/reveal")
def reveal(request: replies.OfScan, user: User = MAY_ANNOTATE) -> replies.Revealed:
    """Ask for a hidden pre-segmentation; it is recorded, once."""
    with _asked(request.image) as study:
        review.reveal(study, request.image, _client(request.client_id, user))
    return replies.Revealed(image=request.image, revealed=True)


@router.get("/peaks")
def peaks(image: Image = "", user: User = MAY_READ) -> replies.Peaks:
    """The places where the model is least certain; none while the prediction is hidden."""
    with _asked(image) as study:
        refuse_withheld(study, image)
        found = review.peaks(study, image)
    return replies.Peaks(
        image=image, peaks=[replies.Peak(position=at, entropy=nats) for at, nats in found]
    )


@router.get("/entropy", response_class=FileResponse)
def entropy(
    image: Image = "", extension: Extension = ".nii.gz", user: User = MAY_READ
) -> FileResponse:
    """The entropy map, float32, nats, on the scan's own grid; none while it is hidden."""
    with _asked(image) as study:
        refuse_withheld(study, image)
        path = review.entropy_file(study, image, extension)
    return FileResponse(path, filename=f"{image}_entropy{extension}")


@router.get("/current")
def current(client_id: Client = "", user: User = MAY_ANNOTATE) -> replies.Current:
    """The scan that the reader holds: how a page goes on that another browser began."""
    with readable_errors():
        found = review.current(_study(), _person(client_id, user))
    told = asdict(found)
    return replies.Current(image=told.pop("case_id"), **told)


@router.get("/lease")
def lease(image: Image = "", client_id: Client = "", user: User = MAY_READ) -> replies.Lease:
    """Whether the reader holds the scan, and for how long still."""
    with _asked(image) as study:
        found = review.hold(study, image, _client(client_id, user))
    return replies.Lease(image=image, **asdict(found))


@router.post("/renew")
def renew(request: replies.OfScan, user: User = MAY_ANNOTATE) -> replies.Lease:
    """Make the lease last its whole length from now; one that ran out stays out."""
    with _asked(request.image) as study:
        found = review.renew(study, request.image, _client(request.client_id, user))
    return replies.Lease(image=request.image, **asdict(found))


@router.post("/skip")
def skip(request: replies.OfScanBecause, user: User = MAY_ANNOTATE) -> replies.Skipped:
    """Give the scan back and say why; others get it at once, this reader after a pause."""
    with _asked(request.image) as study:
        client_id = _person(request.client_id, user)
        released = review.skip(study, request.image, client_id, request.reason)
    return replies.Skipped(image=request.image, released=released)


@router.post("/exclude")
def exclude(request: replies.OfScanBecause, user: User = MAY_ANNOTATE) -> replies.Excluded:
    """Take the scan out of the study, until its reader or the study lead re-opens it."""
    with _asked(request.image) as study:
        client_id = _person(request.client_id, user)
        review.exclude(study, request.image, client_id, request.reason)
    log.info("excluded %s", request.image)
    return replies.Excluded(image=request.image, excluded=True)


@router.post("/reopen")
def reopen(request: replies.Reopening, user: User = MAY_ANNOTATE) -> replies.Sample:
    """The scan submitted last, or one that this reader submitted or excluded, leased again."""
    study = _study()
    with readable_errors():
        image = None if request.image is None else check_id(request.image)
        handed = review.reopen(study, _person(request.client_id, user), image)
    return replies.Sample(**located(study, reply(handed)))


@router.get(
    "/draft",
    response_class=Response,
    responses={200: {"content": {"application/gzip": {}}}, 404: {"description": "no draft"}},
)
def read_draft(image: Image = "", client_id: Client = "", user: User = MAY_ANNOTATE) -> Response:
    """The reader's own unfinished mask, .nii.gz."""
    with _asked(image) as study:
        content = drafts.read_draft(study, image, _person(client_id, user))
    if content is None:
        raise HTTPException(404, f"{image}: you have no draft of this scan")
    return Response(content, media_type="application/gzip")


@router.put("/draft")
def save_draft(
    file: Annotated[UploadFile, File(description="mask on the scan's grid")],
    image: Image = "",
    client_id: Client = "",
    user: User = MAY_ANNOTATE,
) -> replies.DraftInfo:
    """Keep an unfinished mask, for this reader alone; it is no label."""
    with _asked(image) as study, received(file.file, file.filename or "") as path:
        saved = drafts.save_draft(study, image, _person(client_id, user), path)
    return _draft(image, saved)


@router.delete("/draft")
def delete_draft(
    image: Image = "", client_id: Client = "", user: User = MAY_ANNOTATE
) -> replies.Discarded:
    """Throw the reader's draft away."""
    with _asked(image) as study:
        gone = drafts.discard_draft(study, image, _person(client_id, user))
    return replies.Discarded(image=image, discarded=gone)


@router.get(
    "/label",
    response_class=Response,
    responses={200: {"content": {"application/gzip": {}}}, 404: {"description": "no label"}},
)
def own_label(image: Image = "", client_id: Client = "", user: User = MAY_READ) -> FileResponse:
    """The label of the scan that this reader has submitted; nobody else's."""
    with _asked(image) as study:
        path = own_label_file(study, image, _person(client_id, user))
    if path is None:
        raise HTTPException(404, f"{image}: you have submitted no label of this scan")
    return FileResponse(path, filename=f"{image}.nii.gz", media_type="application/gzip")


@router.get("/draft/info")
def draft_info(
    image: Image = "", client_id: Client = "", user: User = MAY_ANNOTATE
) -> replies.DraftInfo:
    """Whether the reader has a draft, and from when."""
    with _asked(image) as study:
        found = drafts.draft_info(study, image, _person(client_id, user))
    return _draft(image, found)


@router.get("/progress")
def progress(client_id: Client = "", user: User = MAY_READ) -> replies.Progress:
    """How far the study is, and how much of it this reader did."""
    with readable_errors():
        counted = cases.progress(_study().store, _client(client_id, user))
    labelled, pool, mine = counted
    return replies.Progress(labelled=labelled, pool=pool, mine=mine)


@contextmanager
def _asked(image: str) -> Iterator[Study]:
    """The study, for a block about a scan whose id was checked; what is wrong is a sentence."""
    with readable_errors():
        check_id(image)
        yield _study()


def _study() -> Study:
    study: Study = app_instance().study
    return study


def _client(client_id: str, user: User) -> str:
    return checked_client(acting(client_id, user))


def _person(client_id: str, user: User) -> str:
    return checked_person(acting(client_id, user))


def _draft(image: str, found: drafts.DraftInfo) -> replies.DraftInfo:
    told: dict[str, Any] = asdict(found) | {"saved_at": _time(found.saved_at)}
    return replies.DraftInfo(image=image, **told)


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
