"""From an error of ours to a reply that a reader can act on."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import MONAILabelException

from fair_strategy.data.cohort import CohortError
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.host.sentences import sentence
from fair_strategy.store import StoreError
from fair_strategy.store.faults import storage_fault

log = logging.getLogger(__name__)


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


async def storage_answer(request: Request, error: Exception) -> JSONResponse:
    """A 503 with a sentence for a disk or a database that cannot do now what was asked.

    Raises:
        Exception: the error itself, if it tells of something else.
    """
    told = storage_fault(error)
    if told is None:
        raise error
    log.error("%s %s: %s", request.method, request.url.path, told)
    return JSONResponse({"detail": told}, status_code=503)


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
