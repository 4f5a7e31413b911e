"""The reader routes of a fair-strategy server, by the standard library alone."""

from __future__ import annotations

import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode, urlsplit

JSON_TIMEOUT_S = 10.0
FILE_TIMEOUT_S = 60.0


class ReaderError(Exception):
    """What went wrong, as a sentence for the reader."""


class ReaderClient:
    """One reader at one server.

    Args:
        url: of the server, with http or https.
        client_id: the reader's name, as the MONAI Label module sends it.
    Raises:
        ReaderError: from every method, if the server refuses or does not answer.
    """

    def __init__(self, url: str, client_id: str) -> None:
        self.url = url.rstrip("/")
        self.client_id = client_id
        # Straight to the server, as the MONAI Label module goes: no proxy from the environment.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def options(self) -> dict[str, Any]:
        """Reasons to skip, labels, and minutes of a lease."""
        return self._get("options")

    def why(self, image: str) -> dict[str, Any]:
        """Why this scan: percentile, implausible output, model, whether the score is stale."""
        return self._get("why", image=image, client_id=self.client_id)

    def peaks(self, image: str) -> list[dict[str, Any]]:
        """Where the model is least certain: position in RAS mm, and entropy in nats."""
        found: list[dict[str, Any]] = self._get("peaks", image=image)["peaks"]
        return found

    def entropy(self, image: str, path: str) -> None:
        """Write the entropy map (float32, nats, on the scan's grid) to a `.nii.gz` file."""
        request = self._request("entropy", image=image, extension=".nii.gz")
        partial = path + ".part"
        try:
            with self._open(request, FILE_TIMEOUT_S) as reply, open(partial, "wb") as file:
                shutil.copyfileobj(reply, file)
            os.replace(partial, path)
        except (OSError, HTTPException) as error:
            raise ReaderError(f"The entropy map of {image} did not arrive: {error}.") from error
        finally:
            if os.path.exists(partial):
                os.remove(partial)

    def lease(self, image: str) -> dict[str, Any]:
        """Whether this reader holds the scan, and for how many seconds."""
        return self._get("lease", image=image, client_id=self.client_id)

    def renew(self, image: str) -> dict[str, Any]:
        """Start the lease anew."""
        return self._post("renew", image)

    def reveal(self, image: str) -> dict[str, Any]:
        """Ask for the model's work on a scan that came without it; the server keeps a note."""
        return self._post("reveal", image)

    def skip(self, image: str, reason: str) -> dict[str, Any]:
        """Hand the scan back."""
        return self._post("skip", image, reason=reason)

    def exclude(self, image: str, reason: str) -> dict[str, Any]:
        """Take the scan out of the study; only the study lead can put it back."""
        return self._post("exclude", image, reason=reason)

    def _get(self, route: str, **query: str) -> dict[str, Any]:
        return self._json(self._request(route, **query))

    def _post(self, route: str, image: str, **fields: str) -> dict[str, Any]:
        request = self._request(route)
        request.data = json.dumps({"image": image, "client_id": self.client_id, **fields}).encode()
        request.add_header("Content-Type", "application/json")
        return self._json(request)

    def _request(self, route: str, **query: str) -> urllib.request.Request:
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise ReaderError(f"Server address {self.url!r}: expected http://… or https://….")
        tail = f"?{urlencode(query)}" if query else ""
        return urllib.request.Request(f"{self.url}/reader/{route}{tail}")

    def _json(self, request: urllib.request.Request) -> dict[str, Any]:
        try:
            with self._open(request, JSON_TIMEOUT_S) as reply:
                found = json.load(reply)
        except (OSError, HTTPException, ValueError) as error:
            raise ReaderError(f"{self.url} sent no usable answer: {error}.") from error
        if not isinstance(found, dict):
            raise ReaderError(f"{self.url} sent no usable answer: expected a JSON object.")
        return found

    def _open(self, request: urllib.request.Request, timeout_s: float) -> Any:
        try:
            return self._opener.open(request, timeout=timeout_s)
        except urllib.error.HTTPError as error:
            with error:
                raise ReaderError(_sentence(error)) from error
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise ReaderError(
                f"{self.url} does not answer ({reason}). Is the server running? "
                "Your work in Slicer is not touched; press Refresh to try again."
            ) from error


def _sentence(error: urllib.error.HTTPError) -> str:
    """The server's own sentence, where it sent one."""
    try:
        detail = json.load(error).get("detail")
    except (OSError, ValueError, AttributeError):
        detail = None
    if isinstance(detail, list):  # FastAPI lists what is wrong with a request
        parts = [str(part.get("msg")) for part in detail if isinstance(part, Mapping)]
        detail = "; ".join(parts)
    if error.code == 404 and detail in (None, "Not Found"):
        return "This server has no reader routes: it is no fair-strategy server, or an older one."
    return str(detail) if detail else f"The server refused: {error.code} {error.reason}."
