"""A study, its datastore, and one running server that all tests of this folder share."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

with warnings.catch_warnings():
    # MONAI Label's own imports warn (distutils, pkg_resources); ours must not.
    warnings.simplefilter("ignore")
    import monailabel.app
    import monailabel.datastore.local  # noqa: F401

from fair_strategy.config import StudySettings
from fair_strategy.workflows.intake import prepare
from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.study import Study, open_study

ROOT = Path(__file__).resolve().parents[2]
STARTS_WITHIN_S = 240


def _sibling(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


cohorts = _sibling("cohorts")


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

    def client(self, name: str):
        """The stock Slicer plugin's own client."""
        module = slicer_client()
        return module.MONAILabelClient(self.url, tmpdir=str(self.root), client_id=name)


def slicer_client() -> ModuleType:
    """The client module that the wheel ships for Slicer."""
    folder = Path(sys.prefix) / "monailabel/plugins/slicer/MONAILabel/MONAILabelLib"
    spec = importlib.util.spec_from_file_location("slicer_client", folder / "client.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports cgi
        spec.loader.exec_module(module)
    return module


def application(root: Path) -> Path:
    """A copy of our application with a tiny model, so that MONAI Label writes its folders here."""
    cohorts.write_model(root / "app" / "model" / "pretrained.pt")
    shutil.copy(ROOT / "apps" / "fair_caudate" / "main.py", root / "app" / "main.py")
    return root / "app"


def launch(root: Path, *options: str, port: int | None = None) -> subprocess.Popen:
    """Start a server as a user would; its output goes to server.log."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_DATA_HOME": str(root / "data"),
        "MONAI_LABEL_SESSION_PATH": str(root / "sessions"),
        "OMP_NUM_THREADS": "1",
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


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(condition, *, within_s: float, what: str):
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


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("server")
    cohorts.write_cohort(root / "studies", per_group=8)
    application(root)
    port = free_port()
    process = launch(root, "--conf", "validation_per_group", "2", port=port)
    running = Server(process, f"http://127.0.0.1:{port}", root)

    def up():
        assert process.poll() is None, running.log[-3000:]
        return running.client("probe").info()

    wait_for(up, within_s=STARTS_WITHIN_S, what="server start")
    yield running
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0, running.log[-3000:]


@pytest.fixture(scope="session")
def scored(server: Server) -> Server:
    """The same server, once its background has scored every scan and planned."""
    client = server.client("probe")

    def done():
        stats = client.info()["datastore"]
        return stats["label_tags"].get("original") == stats["total"]

    wait_for(done, within_s=STARTS_WITHIN_S, what="scoring in the background")
    wait_for(lambda: "score done" in server.log, within_s=60, what="end of the scoring run")
    return server


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A prepared study without a server; two scans are labelled."""
    cohorts.write_cohort(tmp_path / "studies")
    cohorts.write_model(tmp_path / "pretrained.pt")
    opened = open_study(
        tmp_path / "studies",
        StudySettings(),
        state_dir=tmp_path / "state",
        shipped_model=tmp_path / "pretrained.pt",
    )
    prepare(opened)
    make_plans(opened)
    return opened
