"""Who asks: the id that a reader's client sends."""

from monailabel.config import settings
from monailabel.endpoints.user.auth import User

from fair_strategy.workflows.desk import SHARED_CLIENT
from fair_strategy.workflows.intake import IMPORTER

LONGEST = 64


def checked_client(client_id: object) -> str:
    """The client's id as text, without blanks around it; that of stock Slicer where none is sent.

    Raises:
        ValueError: if it is too long or not printable, or is the id that masks found in the folder
            are stored under.
    """
    text = str(client_id or "").strip() or SHARED_CLIENT
    if text == IMPORTER:
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


def user_name(user: User) -> str | None:
    """Name of an authenticated user; None where authentication is off."""
    # MONAI Label then calls everybody admin.
    return user.username if settings.MONAI_LABEL_AUTH_ENABLE else None
