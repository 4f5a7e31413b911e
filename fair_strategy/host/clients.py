"""Who asks: the id that a reader's client sends."""

from fair_strategy.workflows.desk import SHARED_CLIENT
from fair_strategy.workflows.intake import IMPORTER


def checked_client(client_id: object) -> str:
    """The client's id as text; that of stock Slicer where none is sent.

    Raises:
        ValueError: for the id that masks found in the folder are stored under.
    """
    text = str(client_id or SHARED_CLIENT)
    if text == IMPORTER:
        raise ValueError(f"client_id {text!r} is reserved; choose another one")
    return text
