"""Starts our application as a user would, and talks to it with Slicer's own client."""

import http.client
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.app import cohorts

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 250


@dataclass
class Server:
    """A running `monailabel start_server` of our application."""

    process: subprocess.Popen
    url: str
    root: Path

    @property
    def log(self) -> str:
        return (self.root / "server.log").read_text(errors="replace")

    @property
    def state(self) -> Path:
        return self.root / "state"

    def client(self, name: str) -> Any:
        """The stock Slicer plugin's own client."""
        module = slicer_client()
        return module.MONAILabelClient(self.url, tmpdir=str(self.root), client_id=name)


def slicer_client() -> ModuleType:
    """The client module that the wheel ships for Slicer."""
    folder = Path(sys.prefix) / "monailabel/plugins/slicer/MONAILabel/MONAILabelLib"
    spec = importlib.util.spec_from_file_location("slicer_client", folder / "client.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.get("slicer_client")
    if module is not None:
        return module
    module = sys.modules["slicer_client"] = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports cgi
        spec.loader.exec_module(module)
    closing_connections(module)
    return module


def closing_connections(module: ModuleType) -> None:
    """The stock client leaves its connections to the garbage collector, which warns."""
    module.http = SimpleNamespace(client=SimpleNamespace(HTTPConnection=_Closing))


class _Closing(http.client.HTTPConnection):
    def __del__(self) -> None:
        self.close()


def application(root: Path) -> Path:
    """A copy of our application with a tiny model, so that MONAI Label writes its folders here."""
    cohorts.write_model(root / "app" / "model" / "pretrained.pt")
    shutil.copy(ROOT / "apps" / "fair_caudate" / "main.py", root / "app" / "main.py")
    return root / "app"


def launch(
    root: Path, *options: str, port: int | None = None, more: Mapping[str, str] | None = None
) -> subprocess.Popen:
    """Start a server as a user would; its output goes to server.log.

    `more` is added to its environment.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_DATA_HOME": str(root / "data"),
        "MONAI_LABEL_SESSION_PATH": str(root / "sessions"),
        "OMP_NUM_THREADS": "1",
        **(more or {}),
    }
    command = [
        *(sys.executable, "-m", "monailabel.main", "start_server"),
        *("--app", str(root / "app"), "--studies", str(root / "studies")),
        *("--host", "127.0.0.1", "--port", str(port or free_port())),
        *("--conf", "state_dir", str(root / "state")),
        *options,
    ]
    with open(root / "server.log", "ab") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=root
        )


@contextmanager
def serve(root: Path, *options: str, more: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server on the folders of `root` that answers; it is ended, and must end well."""
    port = free_port()
    process = launch(root, *options, port=port, more=more)
    running = Server(process, f"http://127.0.0.1:{port}", root)
    try:
        wait_for(lambda: _answers(running), what="server start")
        yield running
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=60)
    assert code == 0, running.log[-3000:]


def _answers(running: Server) -> bool:
    assert running.process.poll() is None, running.log[-3000:]
    return bool(running.client("probe").info())


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(condition: Callable[[], Any], *, what: str, within_s: float = PATIENCE_S) -> Any:
    """The first true answer of a condition; the test fails if none comes in time."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            if answer := condition():
                return answer
        except OSError:
            pass
        time.sleep(0.3)
    pytest.fail(f"{what}: not within {within_s} s")
