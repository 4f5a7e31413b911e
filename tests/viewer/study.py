"""A study with its server and its review page, for tests that look through a real browser."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from fair_strategy.data.volumes import read_labels
from tests.app import serving

# Every scan but the implausible ones is an audit slot, so that both ways are walked: hidden, and
# asked for.
STUDY = (
    *("--conf", "audit_every", "1", "--conf", "quota_batch", "0"),
    *("--conf", "validation_per_group", "0"),
)
PATIENCE_MS = 240_000
STATE = "window.trame?.state?.state"


def chromium() -> str | None:
    """Path of a Chromium; None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@dataclass
class ReviewServer:
    """A running `fair-strategy review`."""

    process: subprocess.Popen
    url: str
    root: Path

    @property
    def log(self) -> str:
        return (self.root / "review.log").read_text(errors="replace")

    def health(self) -> dict[str, int]:
        """Its counts."""
        import requests

        return requests.get(f"{self.url}/health", timeout=60).json()

    def workers(self) -> list[int]:
        """Process ids of its workers."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(word) for word in listed.split()]


@contextmanager
def review_page(root: Path, server_url: str, *options: str) -> Iterator[ReviewServer]:
    """Start the review page as a lead would, end it as Ctrl-C does."""
    port = serving.free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": str(serving.ROOT),
        "XDG_STATE_HOME": str(root / "user"),
        "OMP_NUM_THREADS": "1",
    }
    command = [
        *(sys.executable, "-c", "from fair_strategy.cli.main import main; main()", "review"),
        *("--server", server_url, "--port", str(port), *options),
    ]
    with open(root / "review.log", "wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=root
        )
    running = ReviewServer(process, f"http://127.0.0.1:{port}", root)
    try:
        serving.wait_for(lambda: _answers(running), what="start of the review page")
        yield running
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=90) == 0, running.log[-3000:]


def _answers(running: ReviewServer) -> bool:
    import requests

    assert running.process.poll() is None, running.log[-3000:]
    try:
        return requests.get(f"{running.url}/health", timeout=5).ok
    except requests.ConnectionError:
        return False


@dataclass
class Reader:
    """A reader at a page of a real browser; every request that the page makes is kept."""

    page: Any
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def enter(self, url: str, name: str) -> None:
        """Open the page and log in; where all places are taken, the page tries again itself."""
        self.page.goto(url)
        self.page.fill("input[name=reader]", name)
        self.page.keyboard.press("Enter")
        self.until("s.screen === 'read'")

    def state(self, name: str) -> Any:
        return self.page.evaluate(f"() => {STATE}.{name}")

    def set(self, name: str, value: Any) -> None:
        """Set a value as the page's own controls do."""
        self.page.evaluate("([name, value]) => window.trame.state.set(name, value)", [name, value])

    def until(self, condition: str) -> None:
        """Wait for an expression over `s`, the page's state."""
        self.page.wait_for_function(f"() => {{ const s = {STATE}; return s && ({condition}) }}")

    def key(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def next_case(self, *, hidden: bool = False) -> str:
        """Take the next scan; its name. Whatever is hidden is asked for, or looked for."""
        for _ in range(6):
            self.key("n")
            self.until("(s.has_case || s.nothing_left) && !s.busy")
            assert not self.state("nothing_left"), "no scan is left for this reader"
            if not hidden:
                self.key("p")
                self.until("!s.hidden && !s.busy")
            if self.state("hidden") == hidden:
                return self.state("case_name")
            self.skip("another time")
        raise AssertionError("none of the first scans was hidden")

    def skip(self, reason: str) -> None:
        auto = self.state("auto_next")
        self.set("auto_next", False)
        self.key("k")
        self.page.get_by_label(reason, exact=True).check()
        self.page.get_by_role("button", name="Skip", exact=True).click()
        self.until("!s.has_case && !s.busy")
        self.set("auto_next", auto)
        self.page.locator(".v-dialog").wait_for(state="hidden")

    def box(self, view: int) -> dict[str, float]:
        """Where a view is on the page: 0 axial, 1 surface, 2 coronal, 3 sagittal."""
        return self.page.locator(".layout-grid-item").nth(view).bounding_box()

    def stroke(self, view: int, *, dx: float = 40, dy: float = 10) -> None:
        """Draw a short line from the middle of a view."""
        box, mouse = self.box(view), self.page.mouse
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        mouse.move(x, y)
        time.sleep(0.3)
        mouse.down()
        for step in range(1, 6):
            mouse.move(x + dx * step / 5, y + dy * step / 5)
            time.sleep(0.1)
        mouse.up()

    def picture(self, view: int) -> bytes:
        """What a view shows now."""
        box = self.box(view)
        clip = {"x": box["x"], "y": box["y"], "width": box["width"], "height": box["height"]}
        return self.page.screenshot(clip=clip)

    def picture_changes(self, view: int, before: bytes) -> None:
        """Wait until a view shows something else."""
        wait_until(lambda: self.picture(view) != before, what="a new picture in the view")


def wait_until(condition: Callable[[], bool], *, what: str, within_s: float = 60.0) -> None:
    """Wait for something that a test sees itself."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {within_s} s"
        time.sleep(0.2)


def foreign(requests: list[str], home: str) -> list[str]:
    """Requests to elsewhere than the review page."""
    own = urlsplit(home).netloc
    return [
        url for url in requests
        if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != own
    ]  # fmt: skip


def label(server: serving.Server, case: str, tag: str) -> np.ndarray:
    """Where a label is, as the stock client gets it from the server."""
    path = server.client("checker").download_label(case, tag)
    return read_labels(Path(path)).array != 0
