"""An HTTP session whose every answer is whole, of the server that was asked, and bounded."""

from __future__ import annotations

import time
from typing import Any

import requests
import urllib3

PIECE = 1 << 20
ANSWER = 10
"""A whole answer may take so many times the longest silence."""

MOST_BYTES = 2 << 30
"""And have so many bytes once it is unpacked: a head of 512 x 512 x 1000 voxels takes a quarter."""


class AnswerTooLarge(requests.RequestException):
    """An answer that has more bytes than any series of a head."""


class BoundedSession(requests.Session):
    """Reads each answer to its end before it is returned.

    A server that sends a byte now and then would hold up a plain session for ever, and one that
    breaks off would be noticed only by whoever reads the body. One that is endless, or that unpacks
    to more than any scan has, is ended at `MOST_BYTES`. A redirection is not followed: whoever
    speaks for the archive must not choose whom this machine asks.

    Args:
        timeout_s: the longest silence, also while connecting.
    """

    def __init__(self, *, timeout_s: float) -> None:
        super().__init__()
        self._timeout_s = timeout_s

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send a request and read its answer.

        Raises:
            requests.HTTPError: a redirection.
            requests.Timeout: a silence, or an answer, that lasts too long.
            requests.ConnectionError: also for an answer that ends too early.
            AnswerTooLarge: more than `MOST_BYTES`.
        """
        options |= {"timeout": self._timeout_s, "stream": True, "allow_redirects": False}
        end = time.monotonic() + ANSWER * self._timeout_s
        response = super().send(request, **options)
        try:
            body = _read(response.raw, end)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.ReadTimeout("the answer stopped") from error
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError("the answer ended too early") from error
        finally:
            response.close()
        # As requests itself keeps a body that it has read; there is no public way.
        response._content = body
        response._content_consumed = True
        if response.is_redirect:
            raise requests.HTTPError("a redirection", response=response)
        return response

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: for another target requests would read the answer by itself, without a bound."""
        return


def _read(raw: urllib3.response.BaseHTTPResponse, end: float) -> bytes:
    body = bytearray()
    # read1 returns what has come; read would wait for a whole piece, however slowly it drips.
    while piece := raw.read1(PIECE, decode_content=True):
        body += piece
        if len(body) > MOST_BYTES:
            raise AnswerTooLarge(f"the answer has more than {MOST_BYTES} bytes")
        if time.monotonic() > end:
            raise requests.ReadTimeout("the answer took too long")
    return bytes(body)
