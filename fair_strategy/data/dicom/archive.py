"""Questions to a PACS over DICOMweb: what is there, give it to me, keep this.

Every answer is bounded in time and bytes; a wrong or partial one is an ArchiveUnavailable, never a
result.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from dicomweb_client import DICOMwebClient
from pydicom.config import disable_value_validation
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian

from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.data.dicom.session import AnswerTooLarge, BoundedSession
from fair_strategy.data.dicom.subgroups import STUDY_DATE, TAGS, Header, text_of

# Its lines quote addresses with the UIDs, and sometimes the values, that were asked for.
logging.getLogger("dicomweb_client").setLevel(logging.ERROR)

PAGE = 500
WAITS_S = (0.3, 1.0)
"""Before the second and the third try."""
_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_PATIENT, _ISSUER, _COUNT = "00100020", "00100021", "00201209"
_SERIES_DATE, _SERIES_TIME = "00080021", "00080031"
_ASKED_FOR = (*TAGS, _PATIENT, _ISSUER, _COUNT, _SERIES_DATE, _SERIES_TIME)
_AGAIN = (408, 429, 500, 502, 503, 504)

T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """One series that the archive lists.

    Attributes:
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        instances: how many it holds; None if the archive does not say.
        header: what the archive said of it, in the DICOM JSON model; personal, never to be shown.
    """

    study_uid: str
    series_uid: str
    instances: int | None
    header: Header

    @property
    def study_date(self) -> str:
        """YYYYMMDD; empty where it is not told."""
        return text_of(self.header, STUDY_DATE)

    @property
    def series_date(self) -> str:
        """Date and time of the series, sortable; empty where they are not told."""
        return text_of(self.header, _SERIES_DATE) + text_of(self.header, _SERIES_TIME)

    @property
    def patient(self) -> str:
        """Issuer and PatientID; empty where there is none."""
        patient = text_of(self.header, _PATIENT)
        return f"{text_of(self.header, _ISSUER)}\n{patient}" if patient else ""


class Archive:
    """One DICOMweb server.

    Args:
        url: root of its DICOMweb services.
        timeout_s: its longest silence; a whole answer may take ten times as long.
        login: user and password, or None.
    """

    def __init__(
        self, url: str, *, timeout_s: float = 20.0, login: tuple[str, str] | None = None
    ) -> None:
        self.host = urlsplit(url).netloc
        session = BoundedSession(timeout_s=timeout_s)
        session.auth = login
        self._client = DICOMwebClient(url=url, session=session, chunk_size=2**31 - 1)
        self._client.set_http_retry_params(retry=False)

    def series(self, filters: Mapping[str, str]) -> list[Found]:
        """All series that fit the filters, each once, by SeriesInstanceUID.

        Args:
            filters: DICOM keyword -> value; `*` and `?` stand for any text and any character. These
                are compared here, without regard to case: servers differ in what they make of them.
        """
        asked = {k: v for k, v in filters.items() if not set(v) & set("*?")}
        fields = [*_ASKED_FOR, *(f"{tag_for_keyword(k):08X}" for k in filters)]
        found: dict[str, Found] = {}
        offset = 0
        while page := self._page(asked, fields, offset):
            fresh = [entry for entry in map(self._listed, page) if entry.series_uid not in found]
            if not fresh:  # a server without paging answers the same again
                break
            found |= {entry.series_uid: entry for entry in fresh}
            offset += len(page)
        fitting = (entry for entry in found.values() if _fits(entry.header, filters))
        return sorted(fitting, key=lambda entry: entry.series_uid)

    def header(self, found: Found) -> Header:
        """Everything but the voxels of one instance of a series."""
        study, series = found.study_uid, found.series_uid
        listed = self._ask(
            "list the instances of a series",
            lambda: self._client.search_for_instances(study, series, limit=1),
        )
        if not listed:
            raise self._partial("lists a series without instances")
        instance = text_of(listed[0], _INSTANCE)
        return self._ask(
            "describe an instance",
            lambda: self._client.retrieve_instance_metadata(study, series, instance),
        )

    def instances(self, study_uid: str, series_uid: str, count: int | None) -> list[Dataset]:
        """The instances of a series, uncompressed; exactly `count` where that is known."""
        wanted = (("application/dicom", str(ExplicitVRLittleEndian)),)
        found = self._ask(
            "send a series",
            lambda: self._client.retrieve_series(study_uid, series_uid, media_types=wanted),
        )
        return self._counted(found, count)

    def headers(self, study_uid: str, series_uid: str, count: int | None) -> list[Dataset]:
        """The headers of all instances of a series."""
        found = self._ask(
            "describe a series",
            lambda: self._client.retrieve_series_metadata(study_uid, series_uid),
        )
        with disable_value_validation(), self._readable("describe a series"):
            return self._counted([_without_bulk(entry) for entry in found], count)

    def store(self, ds: Dataset) -> None:
        """Keep an object; returns once the archive says that it does."""
        with disable_value_validation():
            answer = self._ask("store an object", lambda: self._client.store_instances([ds]))
        if answer.get("FailedSOPSequence"):
            reason = answer.FailedSOPSequence[0].get("FailureReason")
            raise ArchiveUnavailable(f"the PACS at {self.host} did not keep an object ({reason})")
        kept = {str(i.ReferencedSOPInstanceUID) for i in answer.get("ReferencedSOPSequence") or ()}
        if str(ds.SOPInstanceUID) not in kept:
            raise self._partial("did not say that it keeps an object")

    def _page(self, asked: dict[str, str], fields: Sequence[str], offset: int) -> Sequence[Header]:
        return self._ask(
            "list its series",
            lambda: self._client.search_for_series(
                search_filters=asked, fields=fields, limit=PAGE, offset=offset
            ),
        )

    def _listed(self, header: Header) -> Found:
        study, series = text_of(header, _STUDY), text_of(header, _SERIES)
        if not study or not series:
            raise self._partial("lists a series without its UIDs")
        count = text_of(header, _COUNT)
        return Found(study, series, int(count) if count.isdecimal() else None, header)

    def _counted(self, found: list[T], count: int | None) -> list[T]:
        if not found or (count is not None and len(found) != count):
            raise self._partial(f"sent {len(found)} of {count or 'some'} instances of a series")
        return found

    def _partial(self, what: str) -> ArchiveUnavailable:
        return ArchiveUnavailable(
            f"the PACS at {self.host} {what}: only half an answer, or a series that is still "
            "arriving; nothing is lost, try again in a minute"
        )

    def _ask(self, what: str, question: Callable[[], T]) -> T:
        """The answer to a question, which is put again where that may help."""
        for wait in (*WAITS_S, None):
            try:
                with self._readable(what):
                    return question()
            except ArchiveUnavailable as error:
                if wait is None or not _may_help(error.__cause__):
                    raise
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def _readable(self, what: str) -> Iterator[None]:
        try:
            yield
        except requests.HTTPError as error:
            status = _status(error)
            raise ArchiveUnavailable(
                f"the PACS at {self.host} does not {what}: it answers {status}{_hint(status)}"
            ) from error
        except requests.Timeout as error:
            raise ArchiveUnavailable(
                f"the PACS at {self.host} is too slow to {what}; nothing is lost, try again later"
            ) from error
        except requests.ConnectionError as error:
            raise ArchiveUnavailable(
                f"the PACS at {self.host} cannot be reached, or broke off in the middle, asked to "
                f"{what}; nothing is lost, try again in a minute"
            ) from error
        except AnswerTooLarge as error:
            raise ArchiveUnavailable(
                f"the PACS at {self.host} sends more than any scan of a head has, asked to {what}; "
                "nothing is lost, have the PACS looked at"
            ) from error
        except _UNREADABLE as error:
            raise ArchiveUnavailable(
                f"the PACS at {self.host} answers what cannot be read, asked to {what}; nothing is "
                "lost, try again in a minute"
            ) from error


_UNREADABLE: tuple[type[Exception], ...] = (
    requests.RequestException, InvalidDicomError, AttributeError, EOFError, IndexError, KeyError,
    TypeError, ValueError,
)  # fmt: skip
"""What requests, dicomweb-client and pydicom raise on an answer that is none."""


def _may_help(cause: BaseException | None) -> bool:
    if isinstance(cause, requests.HTTPError):
        return _status(cause) in _AGAIN
    # Not after a silence, or a flood: three of them would keep a reader waiting.
    long = requests.Timeout, AnswerTooLarge
    return isinstance(cause, requests.RequestException) and not isinstance(cause, long)


def _without_bulk(header: Header) -> Dataset:
    """A header as dataset, without what it only names the address of (its voxels)."""
    told = {tag: element for tag, element in header.items() if "BulkDataURI" not in element}
    return Dataset.from_json(told)


def _status(error: requests.HTTPError) -> int:
    return error.response.status_code if error.response is not None else 0


def _hint(status: int) -> str:
    if status in (401, 403):
        return " (set MONAI_LABEL_DICOMWEB_USERNAME and MONAI_LABEL_DICOMWEB_PASSWORD)"
    if 300 <= status < 400:
        return " (it leads to another address; nothing is lost, start with that one)"
    if status == 404:
        return " (no such series, or a wrong address)"
    return "; nothing is lost, try again in a minute"


def _fits(header: Header, filters: Mapping[str, str]) -> bool:
    return all(
        fnmatchcase(text_of(header, f"{tag_for_keyword(keyword):08X}").lower(), pattern.lower())
        for keyword, pattern in filters.items()
    )


def login_of(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """User and password for the PACS, from the variables that MONAI Label reads."""
    for kind in ("DICOMWEB", "DATASTORE"):
        user = environment.get(f"MONAI_LABEL_{kind}_USERNAME")
        if user:
            return user, environment.get(f"MONAI_LABEL_{kind}_PASSWORD", "")
    return None
