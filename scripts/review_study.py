"""The sample study with its server and its review page, for the picture and for the benchmark."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from lay_out_sample import lay_out

APP = Path("apps/fair_caudate")
COHORT = Path("sample-data/cohort")
PATIENCE_S = 600.0
STATE = "window.trame?.state?.state"


@contextmanager
def study_server(root: Path, **conf: str) -> Iterator[str]:
    """Address of a server of the sample cohort whose scans are all scored."""
    lay_out(COHORT, root / "studies")
    (root / "app" / "model").mkdir(parents=True)
    shutil.copy(APP / "main.py", root / "app" / "main.py")
    shutil.copy(APP / "model" / "pretrained.pt", root / "app" / "model" / "pretrained.pt")
    port = free_port()
    options = [word for pair in conf.items() for word in ("--conf", *pair)]
    command = [
        *(sys.executable, "-m", "monailabel.main", "start_server"),
        *("--app", str(root / "app"), "--studies", str(root / "studies")),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--conf", "state_dir", str(root / "state"), *options),
    ]
    url = f"http://127.0.0.1:{port}"
    with _running(command, root / "server.log", root):
        _wait(lambda: _scored(url), "scoring")
        yield url


@contextmanager
def review_page(root: Path, server: str, *options: str) -> Iterator[tuple[str, int]]:
    """Address of a review page, and the process id of its broker."""
    port = free_port()
    command = [
        *(sys.executable, "-c", "from fair_strategy.cli.main import main; main()", "review"),
        *("--server", server, "--port", str(port), *options),
    ]
    url = f"http://127.0.0.1:{port}"
    with _running(command, root / "review.log", root) as process:
        _wait(lambda: requests.get(f"{url}/health", timeout=5).ok, "start of the review page")
        yield url, process.pid


@contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium.

    Raises:
        FileNotFoundError: there is none.
    """
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise FileNotFoundError(2, "no Chromium: install the package chromium", "chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


def until(page: Any, condition: str) -> None:
    """Wait for an expression over `s`, the page's state."""
    script = f"() => {{ const s = {STATE}; return s && ({condition}) }}"
    page.wait_for_function(script)


def log_in(page: Any, url: str, name: str) -> None:
    """Open the page and log in."""
    page.set_default_timeout(1000 * PATIENCE_S)
    page.goto(url)
    page.fill("input[name=reader]", name)
    page.keyboard.press("Enter")
    until(page, "s.screen === 'read' && !s.busy")


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def _running(command: list[str], log: Path, root: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path.cwd()),
        "XDG_DATA_HOME": str(root / "data"),
        "XDG_STATE_HOME": str(root / "user"),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=root
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)


def _scored(url: str) -> bool:
    stats = requests.get(f"{url}/datastore/", params={"output": "stats"}, timeout=60).json()
    return bool(stats["label_tags"].get("original") == stats["total"])


def _wait(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            if condition():
                return
        except requests.RequestException:
            pass
        time.sleep(0.5)
    raise TimeoutError(f"{what}: not within {PATIENCE_S:g} s")
