"""Who asks: the user whom the proxy names, else the id that a reader's client sends."""

from typing import Any

from fastapi import Depends, Request
from monailabel.config import settings
from monailabel.endpoints.user.auth import DEFAULT_USER, RBAC, User

from fair_strategy.host.access import caller_of
from fair_strategy.store.readings import CONSENSUS
from fair_strategy.workflows.desk import SHARED_CLIENT
from fair_strategy.workflows.intake import IMPORTER

LONGEST = 64


def checked_client(client_id: object) -> str:
    """The client's id as text, without blanks around it; that of stock Slicer where none is sent.

    Raises:
        ValueError: if it is too long or not printable, or is an id that this study itself stores
            labels under.
    """
    text = str(client_id or "").strip() or SHARED_CLIENT
    if text in (IMPORTER, CONSENSUS):
        raise ValueError(f"client_id {text!r} is reserved; choose another one")
    if len(text) > LONGEST or not text.isprintable():
        raise ValueError(f"client_id: expected 1 to {LONGEST} printable characters; shorten it")
    return text


def checked_person(client_id: object) -> str:
    """The id of one reader; what is one person's own cannot be done under the id that all share.

    Raises:
        ValueError: as `checked_client`, and for no id or that of stock Slicer.
    """
    text = checked_client(client_id)
    if text == SHARED_CLIENT:
        raise ValueError(
            f"client_id: expected a reader's own name, got none or {SHARED_CLIENT!r}, which "
            "everybody shares; choose a name and send it with each request"
        )
    return text


class Authenticated(User):
    """A user whom the proxy has named."""


async def _anybody(request: Request) -> User:
    return _authenticated(request) or DEFAULT_USER


def _allowed(role: str) -> Any:
    if not settings.MONAI_LABEL_AUTH_ENABLE:
        # MONAI Label's own are two more dependencies of each request, which find the same user.
        return Depends(_anybody)
    stock = Depends(RBAC(role))

    async def user(request: Request, found: User = stock) -> User:
        return _authenticated(request) or found

    return Depends(user)


def _authenticated(request: Request) -> Authenticated | None:
    caller = caller_of(request.scope)
    return Authenticated(username=caller.name, roles=[caller.role]) if caller else None


MAY_READ = _allowed(settings.MONAI_LABEL_AUTH_ROLE_USER)
MAY_ANNOTATE = _allowed(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR)
MAY_ADMINISTER = _allowed(settings.MONAI_LABEL_AUTH_ROLE_ADMIN)
"""What routes take as `user`. The roles of the proxy are judged before, in `access`."""


def user_name(user: User) -> str | None:
    """Name of an authenticated user; None where nobody is authenticated."""
    # MONAI Label calls everybody admin where its authentication is off.
    known = settings.MONAI_LABEL_AUTH_ENABLE or isinstance(user, Authenticated)
    return user.username if known else None


def acting(client_id: object, user: User) -> object:
    """Under which id a request acts: an authenticated user's name, whatever the client says."""
    return user_name(user) or client_id
