"""Readers over HTTP who write down what they were answered, to look for it after a kill."""

import gzip
import hashlib
import json
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import nibabel as nib
import numpy as np
import requests

from tests.app import cohorts

TIMEOUT_S = 30.0


@dataclass
class Sent:
    """One mask on its way: what was sent with it, and whether it was answered."""

    comment: str
    digest: str
    answered: bool = False
    later: str | None = None


@dataclass
class Book:
    """What one reader was answered.

    Attributes:
        handed: scans, in the order in which they were handed out.
        sent: masks of each scan, oldest first.
        holds: the scan that the reader has; None while a request that may change it is under way.
        failed: answers that were none of those expected.
    """

    handed: list[str] = field(default_factory=list)
    sent: dict[str, list[Sent]] = field(default_factory=lambda: defaultdict(list))
    holds: str | None = None
    failed: list[str] = field(default_factory=list)

    def expected(self, case_id: str) -> list[Sent]:
        """The masks of which one must be there: the last answered, or one sent after it."""
        sent = self.sent[case_id]
        answered = [n for n, s in enumerate(sent) if s.answered]
        return sent[answered[-1] :] if answered else []


class Reader(threading.Thread):
    """Next Sample, infer, submit, add to the info, submit again, until the server is gone."""

    def __init__(self, url: str, name: str, book: Book, seed: list[int]) -> None:
        super().__init__(daemon=True)
        self.book = book
        self._url, self._client = url, name
        self._seed = "-".join(map(str, seed))
        self._rng = np.random.default_rng(seed)
        self._http = requests.Session()
        self._count = 0
        self._ending = threading.Event()

    def run(self) -> None:
        """Read until the connection breaks."""
        try:
            while not self._ending.is_set():
                self._one()
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            pass  # the second: killed in the midst of an answer, which then does not count
        finally:
            self._http.close()

    def stop(self) -> None:
        """End before the next scan."""
        self._ending.set()

    def _one(self) -> None:
        case_id = self._next()
        # Another reader may have labelled what this one sent without an answer.
        own = sorted(c for c, sent in self.book.sent.items() if any(s.answered for s in sent))
        if case_id is None and own:
            case_id = str(self._rng.choice(own))
        if case_id is None:
            time.sleep(0.1)
            return
        if self._rng.random() < 0.3:
            self._ask("POST", "/infer/caudate", params={"image": case_id, "output": "image"})
        self._submit(case_id)
        if self._rng.random() < 0.3:
            self._add_info(case_id)

    def _next(self) -> str | None:
        self.book.holds = None
        given = self._ask(
            "POST", "/activelearning/weighted_entropy", json={"client_id": self._client}
        )
        case_id = given.json().get("id") if given is not None else None
        if case_id is not None:
            self.book.handed.append(case_id)
            self.book.holds = case_id
        return case_id

    def _submit(self, case_id: str) -> None:
        mask = (self._rng.random(cohorts.SHAPE) > 0.5).astype(np.uint8)
        self._count += 1
        sent = Sent(f"{self._client} {self._seed} {self._count}", digest_of(mask))
        self.book.sent[case_id].append(sent)
        self.book.holds = None
        params = {"client_id": self._client, "comment": sent.comment}
        given = self._ask(
            "PUT",
            "/datastore/label",
            params={"image": case_id, "tag": "final"},
            data={"params": json.dumps(params)},
            files={"label": ("mask.nii.gz", encoded(mask))},
        )
        sent.answered = given is not None

    def _add_info(self, case_id: str) -> None:
        sent = self.book.sent[case_id][-1]
        later = f"later {self._count}"
        given = self._ask(
            "PUT",
            "/datastore/label/info",
            params={"label": case_id, "tag": "final"},
            data={"info": json.dumps({"later": later})},
        )
        if given is not None:
            sent.later = later

    def _ask(self, method: str, path: str, **given: Any) -> requests.Response | None:
        try:
            answer = self._http.request(method, self._url + path, timeout=TIMEOUT_S, **given)
        except requests.Timeout:
            self.book.failed.append(f"{method} {path}: no answer within {TIMEOUT_S} s")
            return None
        if answer.status_code == 200:
            return answer
        self.book.failed.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return None


def encoded(mask: np.ndarray) -> bytes:
    """A .nii.gz file's bytes."""
    return gzip.compress(nib.Nifti1Image(mask, cohorts.AFFINE).to_bytes(), 1)


def digest_of(mask: np.ndarray) -> str:
    """As the store has it: of the voxels, whatever the file's packing."""
    return hashlib.sha256(np.packbits(mask != 0).tobytes()).hexdigest()
