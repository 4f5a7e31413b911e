"""The client of a study's PACS, and the names that stand for what the PACS calls its patients."""

import hashlib
import hmac
import os
import secrets

from fair_strategy.data.dicom.archive import Archive, Found, login_of
from fair_strategy.store.database import Store
from fair_strategy.store.settings import get_value, set_value
from fair_strategy.workflows.study import Study, StudyError

_SALT = "pacs_salt"


def connect(study: Study) -> Archive:
    """The study's PACS; user and password come from the environment and are kept nowhere."""
    if study.pacs is None:
        raise StudyError(f"{study.location}: this study is a folder, not a PACS")
    login = login_of(os.environ)
    return Archive(study.pacs.url, timeout_s=study.pacs.timeout_s, login=login)


class Pseudonyms:
    """Names of cases and subjects: keyed digests, so that nobody without the key gets back.

    A PatientID is often a hospital number, and UIDs tell device and time of a scan; names reach
    readers, logs and file names. The key is the study's own and stays in its database.
    """

    def __init__(self, store: Store) -> None:
        self._key = bytes.fromhex(_salt(store))

    def case_id(self, series_uid: str) -> str:
        """Of a series: the same for ever, whatever becomes of its patient's tags."""
        return f"series-{self._digest('series', series_uid)}"

    def subject_id(self, found: Found) -> str:
        """Of a person; of the study alone where the PACS has no PatientID."""
        named = ("patient", found.patient) if found.patient else ("study", found.study_uid)
        return f"sub-{self._digest(*named)}"

    def submission(self, case_id: str, digest: str, created_at: float) -> str:
        """Key of one submitted label, from which the UIDs of its DICOM SEG are made."""
        return self._digest("label", f"{case_id}/{digest}/{created_at!r}")

    def _digest(self, kind: str, text: str) -> str:
        return hmac.new(self._key, f"{kind}/{text}".encode(), hashlib.sha256).hexdigest()[:16]


def _salt(store: Store) -> str:
    salt = get_value(store, _SALT)
    if salt is None:
        set_value(store, _SALT, secrets.token_hex(32))
        salt = get_value(store, _SALT)
    return str(salt)
