"""From an error of ours to a reply that a reader can act on."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import HTTPException
from monailabel.interfaces.exception import MONAILabelException

from fair_strategy.data.cohort import CohortError
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.host.sentences import sentence
from fair_strategy.store import StoreError


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn what is wrong with the request or its data into a 404 or 422 that says so.

    A PACS that does not answer makes a 503: the same request may succeed later.
    MONAI Label's own exception, and any other, would reach the reader as a bare 500.
    """
    try:
        yield
    except LookupError as error:
        raise HTTPException(404, _not_found(error)) from error
    except (ValueError, StoreError) as error:
        raise HTTPException(422, sentence(error)) from error
    except ArchiveUnavailable as error:
        raise HTTPException(503, sentence(error)) from error
    except MONAILabelException as error:
        raise HTTPException(422, error.msg) from error


@contextmanager
def no_values_in_stacks() -> Iterator[None]:
    """Raise a CohortError anew without what it quotes of the table.

    For tasks that MONAI Label runs: it logs a failed one's stack and shows it to readers.
    """
    try:
        yield
    except CohortError as error:
        raise CohortError(sentence(error)) from None


def _not_found(error: LookupError) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]!r}: no such scan in this study"
    return sentence(error)
