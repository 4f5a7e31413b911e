"""Stands between our server and a real archive, and spoils its answers in one chosen way."""

import http.server
import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable

KEPT = ("Accept", "Content-Type", "Authorization")
MOVED = "/moved"
FLOOD_PIECE, FLOOD_PIECES = 1 << 16, 1 << 13
"""512 MiB in all, should nobody stop it: more than the buffers of both ends hold."""


class FaultyProxy:
    """A proxy on loopback; `fault` names what it does to the requests whose path fits `where`.

    Faults: `refuse` (503), `silent` (no answer), `drip` (a byte now and then), `cut` (half of the
    promised bytes), `fewer` (one instance of a series missing, well-formed), `empty` (an empty
    list), `untold` (lists say nothing of the patient), `nonsense` (HTML), `lost` (passed on, but
    the answer never comes back), `flood` (an answer without an end), `moved` (to another path,
    where the right answer is), `moved flood` (both).
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.fault = ""
        self.where = ""
        self.asked: list[str] = []
        self.cut_off = False
        """Whether whoever asked had enough of a flood."""
        self._ending = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()

    def spoil(self, fault: str, where: str = "") -> None:
        self.fault, self.where = fault, where
        self.asked.clear()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                proxy.answer(self, None)

            def do_POST(self) -> None:
                proxy.answer(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def answer(self, handler: http.server.BaseHTTPRequestHandler, body: bytes | None) -> None:
        self.asked.append(f"{handler.command} {handler.path}")
        fault = self.fault if re.search(self.where, handler.path) else ""
        if handler.path.startswith(MOVED):
            fault, handler.path = "", handler.path.removeprefix(MOVED)
        if fault == "refuse":
            return _reply(handler, 503, "text/plain", b"busy")
        if fault == "silent":
            self._ending.wait(20)
            return None
        if fault == "moved":
            return _redirect(handler, MOVED + handler.path)
        if "flood" in fault:
            return self._flood(handler, moved="moved" in fault)
        status, kind, content = self._pass_on(handler, body)
        spoilt: dict[str, Callable[[], None]] = {
            "lost": lambda: None,
            "drip": lambda: self._drip(handler, kind, content),
            "cut": lambda: _reply(handler, status, kind, content[: len(content) // 2], content),
            "fewer": lambda: _reply(handler, status, kind, _fewer(content)),
            "untold": lambda: _reply(handler, status, kind, _untold(content)),
            "empty": lambda: _reply(handler, 200, kind, b"[]"),
            "nonsense": lambda: _reply(handler, 200, "text/html", b"<html>log in</html>"),
        }
        return spoilt.get(fault, lambda: _reply(handler, status, kind, content))()

    def _pass_on(
        self, handler: http.server.BaseHTTPRequestHandler, body: bytes | None
    ) -> tuple[int, str, bytes]:
        headers = {name: handler.headers[name] for name in KEPT if handler.headers[name]}
        request = urllib.request.Request(self.target + handler.path, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, reply.headers.get("Content-Type", ""), reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers.get("Content-Type", ""), error.read()
        except urllib.error.URLError:
            return 502, "text/plain", b"the archive is down"

    def _drip(self, handler: http.server.BaseHTTPRequestHandler, kind: str, content: bytes) -> None:
        _head(handler, 200, kind, len(content))
        for byte in content[:200]:
            try:
                handler.wfile.write(bytes([byte]))
            except OSError:  # whoever asked has had enough
                return
            if self._ending.wait(0.02):
                return

    def _flood(self, handler: http.server.BaseHTTPRequestHandler, *, moved: bool) -> None:
        handler.send_response(307 if moved else 200)
        if moved:
            handler.send_header("Location", MOVED + handler.path)
        handler.send_header("Content-Type", "application/dicom+json")
        handler.end_headers()  # HTTP/1.0: what has no length ends with the connection
        try:
            for _ in range(FLOOD_PIECES):
                handler.wfile.write(b" " * FLOOD_PIECE)
        except OSError:
            self.cut_off = True


def _redirect(handler: http.server.BaseHTTPRequestHandler, to: str) -> None:
    handler.send_response(307)
    handler.send_header("Location", to)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def _head(handler: http.server.BaseHTTPRequestHandler, status: int, kind: str, length: int) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()


def _reply(
    handler: http.server.BaseHTTPRequestHandler,
    status: int,
    kind: str,
    content: bytes,
    promised: bytes | None = None,
) -> None:
    _head(handler, status, kind, len(content if promised is None else promised))
    handler.wfile.write(content)


def _untold(content: bytes) -> bytes:
    """A list of series without the tags that make subgroups."""
    listed = json.loads(content)
    for entry in listed:
        for tag in ("00100030", "00100040", "00101010", "00102160"):
            entry.pop(tag, None)
    return json.dumps(listed).encode()


def _fewer(content: bytes) -> bytes:
    """A multipart message without its first part."""
    boundary = content.split(b"\r\n", 1)[0] or content.split(b"\r\n", 2)[1]
    parts = content.split(boundary)
    return boundary.join([parts[0], *parts[2:]])
