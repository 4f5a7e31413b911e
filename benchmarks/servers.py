"""Starts our application and a stock one as a user would, and times requests to them."""

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

APP = Path("apps/fair_caudate")
PATIENCE_S = 300.0
STOCK_MAIN = '''"""A stock application: MONAI Label's own datastore and strategies, nothing else."""

from monailabel.interfaces.app import MONAILabelApp
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random


class Stock(MONAILabelApp):
    def init_strategies(self):
        return {"random": Random(), "first": First()}
'''


@dataclass(frozen=True)
class Server:
    """One that answers.

    Attributes:
        port: on loopback.
        started_s: from its command to its first answer, s.
        pid: of its process.
    """

    port: int
    started_s: float
    pid: int

    def cpu_s(self) -> float:
        """CPU seconds of the process so far, in steps of a hundredth."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
        """The reply, over a connection of its own as the stock client makes one each time.

        Raises:
            ValueError: for a status of 400 or above.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body=body, headers=headers)
            reply = connection.getresponse()
            content = reply.read()
        finally:
            connection.close()
        if reply.status >= 400:
            raise ValueError(f"{method} {path}: {reply.status} {content[:300]!r}")
        return content

    def next_sample(self, strategy: str, client_id: str) -> dict[str, Any]:
        """Next Sample, as the stock client sends it."""
        body = json.dumps({"client_id": client_id}).encode()
        kind = {"Content-Type": "application/json"}
        answer: dict[str, Any] = json.loads(
            self.ask("POST", f"/activelearning/{strategy}", body, **kind)
        )
        return answer

    def submit(self, image: str, mask: bytes, client_id: str, **info: str) -> None:
        """Submit, as the stock client sends it; more label info is added to the reader's name."""
        params = json.dumps({"client_id": client_id, **info})
        body, kind = multipart({"params": params}, {"label": mask})
        self.ask("PUT", f"/datastore/label?image={image}", body, **{"Content-Type": kind})

    def objects(self) -> dict[str, Any]:
        """What it tells of each scan."""
        found: dict[str, Any] = json.loads(self.ask("GET", "/datastore/?output=all"))["objects"]
        return found

    def scored(self) -> int:
        """Scans with a score: they have a prediction then, in a stock server a value."""
        return sum(
            "original" in found["labels"] or "epistemic_entropy" in found["image"]["info"]
            for found in self.objects().values()
        )


def multipart(
    fields: dict[str, str], files: dict[str, bytes], filename: str = "upload.nii"
) -> tuple[bytes, str]:
    """A form with fields and files, and its content type."""
    edge = "edge-of-the-parts"
    parts = [
        f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()
        for name, text in fields.items()
    ]
    for name, content in files.items():
        head = f'--{edge}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"'
        parts += [f"{head}\r\n\r\n".encode(), content, b"\r\n"]
    return b"".join([*parts, f"--{edge}--\r\n".encode()]), f"multipart/form-data; boundary={edge}"


@contextmanager
def our_server(root: Path, studies: Path, **conf: str) -> Iterator[Server]:
    """Our application with the shipped model; its state is in ``root/state``."""
    write_our_app(root)
    options = {"state_dir": str(root / "state"), **conf}
    words = [word for name, value in options.items() for word in ("--conf", name, value)]
    with _running(root, studies, words) as server:
        yield server


@contextmanager
def stock_server(root: Path, studies: Path, main: str = STOCK_MAIN) -> Iterator[Server]:
    """A stock application on a flat folder."""
    write_stock_app(root, main)
    with _running(root, studies, []) as server:
        yield server


def write_our_app(root: Path) -> None:
    """A copy, so that MONAI Label writes its folders there."""
    (root / "app" / "model").mkdir(parents=True, exist_ok=True)
    shutil.copy(APP / "main.py", root / "app" / "main.py")
    shutil.copy(APP / "model" / "pretrained.pt", root / "app" / "model" / "pretrained.pt")


def write_stock_app(root: Path, main: str = STOCK_MAIN) -> None:
    """The stock application, which is one file."""
    (root / "app").mkdir(parents=True, exist_ok=True)
    (root / "app" / "main.py").write_text(main, encoding="utf-8")


@contextmanager
def _running(root: Path, studies: Path, options: Sequence[str]) -> Iterator[Server]:
    port = _free_port()
    command = [
        *(sys.executable, "-m", "monailabel.main", "start_server"),
        *("--app", str(root / "app"), "--studies", str(studies)),
        *("--host", "127.0.0.1", "--port", str(port), *options),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": os.environ.get("PYTHONPATH", str(Path.cwd())),
        "XDG_DATA_HOME": str(root / "data"),
        "MONAI_LABEL_SESSION_PATH": str(root / "sessions"),
    }
    started, log = time.perf_counter(), root / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=root
        )
    try:
        server = Server(port, 0.0, process.pid)
        wait_for(lambda: server.ask("GET", "/info/"), f"start of the server, see {log}", process)
        yield replace(server, started_s=time.perf_counter() - started)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)


def wait_for(
    condition: Callable[[], Any], what: str, process: subprocess.Popen[bytes] | None = None
) -> None:
    """Until a condition holds.

    Raises:
        TimeoutError: if it does not in time, or the process ends before.
    """
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and (process is None or process.poll() is None):
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise TimeoutError(what)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def timed(call: Callable[[], Any]) -> float:
    """Milliseconds by the clock that a call takes."""
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def flush_ms(folder: Path, times: int = 30) -> float:
    """Milliseconds for which the disk is waited for once: the median of some flushes of 4 KiB."""
    path = folder / "flushed"
    taken = []
    with path.open("wb") as file:
        for _ in range(times):
            file.write(b"x" * 4096)
            file.flush()
            taken.append(timed(lambda: os.fsync(file.fileno())))
    path.unlink()
    return statistics.median(taken)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that a share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (names, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(names), *lines[1:]])


def measure_parts(given: argparse.Namespace, measure: Callable[[str, Path], str]) -> None:
    """Print the text of each part asked for, and put it into the page if there is one.

    Args:
        given: names in `parts`, a page or None in `out`, a folder or None in `work`.
        measure: the text of a part, from its name and a folder of its own.
    """
    check_page(given.out, *given.parts)
    if given.work:
        given.work.mkdir(parents=True, exist_ok=True)
    for name in given.parts:
        with tempfile.TemporaryDirectory(dir=given.work) as folder:
            text = measure(name, Path(folder))
        print(text, flush=True)
        if given.out:
            replace_measured(given.out, text, name)


def check_page(page: Path | None, *names: str) -> None:
    """End the command with a sentence, before it measures, if a page lacks the marks of a name.

    Args:
        page: None for no page.
        names: as of `replace_measured`; none for the tables without a name.
    """
    for name in names or ("",):
        try:
            if page is not None:
                _around(page, name)
        except (OSError, ValueError) as error:
            raise SystemExit(f"--out: {error}") from error


def replace_measured(page: Path, text: str, name: str = "") -> None:
    """Put a text, after the command that made it, between a page's two marks of a name."""
    before, after = _around(page, name)
    content = f"{before}\n\nMade by `{command()}`.\n\n{text.strip()}\n\n{after}"
    page.write_text(content, encoding="utf-8")


def _around(page: Path, name: str) -> tuple[str, str]:
    """What stands before the text between two marks, and what behind; with the marks."""
    kind = f"measured: {name}" if name else "measured"
    start, end = f"<!-- {kind} -->", f"<!-- /{kind} -->"
    content = page.read_text(encoding="utf-8")
    before, _, rest = content.partition(start)
    _, _, after = rest.partition(end)
    if (content.count(start), rest.count(end)) != (1, 1):
        raise ValueError(f"{page}: expected {start} and then {end}, once each; add the two lines")
    return before + start, end + after


def command() -> str:
    """The command that runs, as it was given, but for places of this machine."""
    given = [
        word
        for part in sys.argv[1:]
        for word in (part.split("=", 1) if part.startswith("--") else [part])
    ]
    shown = [_shown(word, option) for option, word in pairwise(["", *given])]
    threads = os.environ.get("OMP_NUM_THREADS")
    first = [f"OMP_NUM_THREADS={threads}"] if threads else []
    return " ".join([*first, "python", f"benchmarks/{Path(sys.argv[0]).name}", *shown])


def _shown(word: str, option: str) -> str:
    path = Path(word)
    if option != "--work" and path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return "DIR" if option == "--work" or path.is_absolute() else word
