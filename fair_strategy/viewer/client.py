"""The MONAI Label server as the review page uses it: MONAI Label's own routes and `/reader/*`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from fair_strategy.config_proxy import ROLE_HEADER, SECRET_HEADER, USER_HEADER
from fair_strategy.viewer.overlay import Peak

CONNECT_S = 5.0
ANSWER_S = 30.0
PREDICTION_S = 300.0
"""Where a scan was not predicted yet, asking for what its prediction holds predicts it."""
_MAY_PREDICT = ("/datastore/label", "/reader/entropy", "/reader/peaks")


class ServerUnreachableError(RuntimeError):
    """The server does not answer; the sentence says which."""


class RefusedError(RuntimeError):
    """The server refused, with its own sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class Case:
    """A scan that is leased to this reader; `submitted`: it has a label of theirs."""

    id: str
    submitted: bool = False


@dataclass(frozen=True, slots=True)
class Why:
    """Why this scan: nothing in it tells a subgroup."""

    percentile: float | None = None
    implausible: tuple[str, ...] = ()
    model: str | None = None
    trained_at: str | None = None
    stale: bool = False
    note: str = ""
    hide_presegmentation: bool = False
    revealed: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """What the server offers to a reader."""

    skip_reasons: tuple[str, ...]
    labels: Mapping[str, int]
    lease_minutes: float
    strategies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts: scans that are labelled, scans left for this reader, labels by this reader."""

    labelled: int = 0
    pool: int = 0
    mine: int = 0


@dataclass
class ReviewClient:
    """One reader at one server. Every call blocks; call it from a thread.

    Args:
        url: of the server, such as http://127.0.0.1:8000.
        client_id: the reader's name.
        proxy_secret: where the server answers its proxy only; the page then vouches for the reader.

    Every method raises ServerUnreachableError or RefusedError, each with a sentence for the reader.
    """

    url: str
    client_id: str
    proxy_secret: str = field(default="", repr=False)
    _session: requests.Session = field(default_factory=requests.Session, repr=False)

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/")
        # A proxy of the environment must not see loopback traffic.
        self._session.trust_env = urlsplit(self.url).hostname not in ("127.0.0.1", "localhost")
        if self.proxy_secret:
            named = {USER_HEADER: self.client_id, ROLE_HEADER: "reader"}
            self._session.headers.update({SECRET_HEADER: self.proxy_secret, **named})

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    # ------------------------------------------------------------ what to read

    def options(self) -> Options:
        """What the server offers."""
        found = self._json("GET", "/reader/options")
        return Options(
            tuple(found["skip_reasons"]),
            dict(found["labels"]),
            float(found["lease_minutes"]),
            tuple(found["strategies"]),
        )

    def next_case(self, strategy: str) -> Case | None:
        """The next scan for this reader; None when nothing is left."""
        found = self._json("POST", f"/activelearning/{strategy}", json=self._mine())
        return _case(found)

    def reopen(self, case_id: str | None = None) -> Case | None:
        """This reader's last submitted case, or a named one, leased again."""
        asked = self._mine() | ({"image": case_id} if case_id else {})
        found = _case(self._json("POST", "/reader/reopen", json=asked))
        return None if found is None else replace(found, submitted=True)

    def why(self, case_id: str) -> Why:
        """Why this scan was chosen."""
        found = self._json("GET", "/reader/why", params=self._mine(case_id))
        known = {name: found[name] for name in Why.__dataclass_fields__ if name in found}
        known["implausible"] = tuple(known.get("implausible") or ())
        return Why(**known)

    def peaks(self, case_id: str) -> list[Peak]:
        """The most uncertain places of a scan, highest first."""
        found = self._json("GET", "/reader/peaks", params={"image": case_id})
        return [Peak(tuple(p["position"]), float(p["entropy"])) for p in found["peaks"]]

    def progress(self) -> Progress:
        """Counts for the progress bar."""
        found = self._json("GET", "/reader/progress", params={"client_id": self.client_id})
        return Progress(*(int(found[name]) for name in ("labelled", "pool", "mine")))

    # ------------------------------------------------------------ files

    def scan(self, case_id: str, folder: Path) -> Path:
        """Download the scan's file."""
        return self._file("/datastore/image", {"image": case_id}, folder, "scan")

    def label(self, case_id: str, tag: str, folder: Path) -> Path | None:
        """Download a label (`original` is the pre-segmentation); None where there is none."""
        return self._file_or_none("/datastore/label", {"label": case_id, "tag": tag}, folder, tag)

    def own_label(self, case_id: str, folder: Path) -> Path | None:
        """Download what this reader submitted; None where there is nothing."""
        return self._file_or_none("/reader/label", self._mine(case_id), folder, "own")

    def entropy(self, case_id: str, folder: Path) -> Path | None:
        """Download the entropy map; None where there is none."""
        asked = {"image": case_id, "extension": ".nii.gz"}
        return self._file_or_none("/reader/entropy", asked, folder, "entropy")

    # ------------------------------------------------------------ what a reader does

    def submit(self, case_id: str, mask: Path, *, model: str | None = None) -> None:
        """Hand in the mask."""
        info = {"client_id": self.client_id, **({"model": model} if model else {})}
        with mask.open("rb") as content:
            self._json(
                "PUT",
                "/datastore/label",
                params={"image": case_id, "tag": "final"},
                data={"params": json.dumps(info)},
                files={"label": (mask.name, content)},
            )

    def skip(self, case_id: str, reason: str) -> None:
        """Give the scan back, with a reason."""
        self._json("POST", "/reader/skip", json={**self._mine(case_id), "reason": reason})

    def exclude(self, case_id: str, reason: str) -> None:
        """Take the scan out of the study, with a reason."""
        self._json("POST", "/reader/exclude", json={**self._mine(case_id), "reason": reason})

    def reveal(self, case_id: str) -> None:
        """Say that the reader asked for the hidden pre-segmentation."""
        self._json("POST", "/reader/reveal", json=self._mine(case_id))

    # ------------------------------------------------------------ lease and draft

    def current(self) -> Case | None:
        """The scan that this reader holds, wherever they took it; None if they hold nothing."""
        found = self._json("GET", "/reader/current", params=self._mine())
        return Case(found["image"], found["submitted"]) if found["image"] else None

    def renew(self, case_id: str) -> bool:
        """Hold the lease for longer; False if it was lost."""
        return bool(self._json("POST", "/reader/renew", json=self._mine(case_id))["held"])

    def save_draft(self, case_id: str, mask: Path) -> None:
        """Keep an unfinished mask at the server."""
        with mask.open("rb") as content:
            self._json(
                "PUT",
                "/reader/draft",
                params=self._mine(case_id),
                files={"file": (mask.name, content)},
            )

    def draft(self, case_id: str, folder: Path) -> Path | None:
        """Download this reader's unfinished mask; None where there is none."""
        return self._file_or_none("/reader/draft", self._mine(case_id), folder, "draft")

    def drop_draft(self, case_id: str) -> None:
        """Forget the unfinished mask."""
        self._json("DELETE", "/reader/draft", params=self._mine(case_id))

    # ------------------------------------------------------------ how

    def _mine(self, case_id: str | None = None) -> dict[str, str]:
        mine = {"client_id": self.client_id}
        return mine if case_id is None else {"image": case_id, **mine}

    def _json(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        found = self._ask(method, path, **how)
        content = found.json() if found.content else {}
        return dict(content) if isinstance(content, Mapping) else {}

    def _file_or_none(
        self, path: str, params: dict[str, str], folder: Path, name: str
    ) -> Path | None:
        try:
            return self._file(path, params, folder, name)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    def _file(self, path: str, params: dict[str, str], folder: Path, name: str) -> Path:
        found = self._ask("GET", path, params=params)
        target = folder / f"{name}{_suffix(found.headers.get('content-disposition', ''))}"
        target.write_bytes(found.content)
        return target

    def _ask(self, method: str, path: str, **how: Any) -> requests.Response:
        slow = method == "GET" and path in _MAY_PREDICT
        limits = (CONNECT_S, PREDICTION_S if slow else ANSWER_S)
        try:
            found = self._session.request(method, self.url + path, timeout=limits, **how)
        except requests.RequestException as error:
            raise ServerUnreachableError(f"The server {self.url} does not answer.") from error
        if found.status_code >= 400:
            raise RefusedError(found.status_code, _refusal(found))
        return found


def _case(found: Mapping[str, Any]) -> Case | None:
    if not found.get("id"):
        return None
    return Case(str(found["id"]))


def _suffix(disposition: str) -> str:
    return next((s for s in (".nii.gz", ".nrrd", ".nii") if s in disposition), ".nii.gz")


def _refusal(found: requests.Response) -> str:
    try:
        detail = found.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = None
    if isinstance(detail, str):
        return detail
    return f"The server answered {found.status_code} to {found.request.path_url.split('?')[0]}."
