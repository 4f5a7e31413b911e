"""How soon `/info/` and Next Sample are answered while scoring, training and five readers work.

    python benchmarks/answers_under_load.py [--seconds 60] [--copies 12] [--out PAGE]

A study of the sample cohort, copied so often that scoring lasts; its server scores in the
background, MONAI Label's own process trains, and five readers send scans to be segmented, one after
the other, each a new file to the server. Asked meanwhile, five times a second each: ``GET /``,
``GET /info/`` and Next Sample. Beside it the same without that work. --out replaces the table.

A stock server with the same network does the like, but for the training: its own scoring process
runs `epistemic_v2`, and five readers send the same scans.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import (
    APP,
    Server,
    check_page,
    multipart,
    our_server,
    percentile,
    replace_measured,
    stock_server,
    table,
    timed,
    wait_for,
)

from fair_strategy.data import bids

READERS = 5
OURS, STOCK = "weighted_entropy", "random"
EVERY_S = 0.2
LIMIT_MS = 100.0
STOCK_APP = f'''"""MONAI Label's own tasks around our network."""

import sys

sys.path.insert(0, {str(Path(__file__).parent.resolve())!r})

from pathlib import Path

from monailabel.interfaces.app import MONAILabelApp
from monailabel.tasks.activelearning.random import Random
from monailabel.tasks.scoring.epistemic_v2 import EpistemicScoring
from stock_scoring import Caudate, StochasticCaudate

from fair_strategy.learning.checkpoint import load_model

MODEL = Path({str((APP / "model" / "pretrained.pt").resolve())!r})


class Stock(MONAILabelApp):
    def init_infers(self):
        return {{"caudate": Caudate(load_model(MODEL))}}

    def init_strategies(self):
        return {{"random": Random()}}

    def init_scoring_methods(self):
        return {{"epistemic": EpistemicScoring(StochasticCaudate(load_model(MODEL)))}}

    def on_init_complete(self):
        self._auto_update_scoring = False  # else each Next Sample queues one more run of it
        super().on_init_complete()
'''
JSON = {"Content-Type": "application/json"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohort", type=Path, default=Path("sample-data/cohort"))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--copies", type=int, default=12)
    parser.add_argument("--work", type=Path, help="folder to work in")
    parser.add_argument("--out", type=Path, help="page whose table is replaced")
    given = parser.parse_args()
    check_page(given.out, "under load")
    if given.work:
        given.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        root = Path(folder)
        scans = copy_cohort(given.cohort, root / "studies", given.copies)
        conf = {"skip_minutes": "0", "train_every": "0", "validation_per_group": "2"}
        with our_server(root / "ours", root / "studies", **conf) as server:
            busy, done = while_busy(server, scans, given.seconds)
        conf["enable_background"] = "false"
        with our_server(root / "ours", root / "studies", **conf) as server:
            idle = asked(server, OURS, given.seconds / 4)
        flat = root / "flat"
        flat.mkdir()
        for scan in scans:
            (flat / scan.name).symlink_to(scan)
        with stock_server(root / "stock", flat, STOCK_APP) as server:
            stock_idle = asked(server, STOCK, given.seconds / 4)
            stock_busy, stock_done = while_stock_is_busy(server, scans, given.seconds)
    text = report(
        {
            ("ours", "idle"): idle,
            ("ours", "at work"): busy,
            ("stock", "idle"): stock_idle,
            ("stock", "at work"): stock_busy,
        },
        done,
        stock_done,
    )
    print(text)
    if given.out:
        replace_measured(given.out, text, "under load")


def copy_cohort(cohort: Path, target: Path, copies: int) -> list[Path]:
    """The scans so many times, as other subjects; the first copy with its masks."""
    found = []
    for scan in bids.walk(cohort):
        for copy in range(copies):
            subject = f"{scan.subject_id}x{copy:02d}"
            image = target / subject / "anat" / f"{subject}_T1w.nii.gz"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(scan.path.read_bytes())
            found.append(image)
        for mask in cohort.glob(f"derivatives/labels/{scan.subject_id}/anat/*_mask.nii.gz"):
            place = target / "derivatives" / "manual" / f"{scan.subject_id}x00" / "anat"
            place.mkdir(parents=True, exist_ok=True)
            named = mask.name.replace(scan.subject_id, f"{scan.subject_id}x00")
            (place / named).write_bytes(mask.read_bytes())
    return found


def while_busy(
    server: Server, scans: list[Path], seconds: float
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Milliseconds of each request while all of it runs; and how much was done meanwhile."""
    wait_for(server.scored, "scoring has begun")
    server.ask("POST", "/train/caudate", b"{}", **JSON)
    before = server.scored()
    with _readers(server, scans) as segmented:
        found = asked(server, OURS, seconds)
        done = {"scored": server.scored() - before, "segmented": len(segmented)}
        training = json.loads(server.ask("GET", "/train/"))["status"]
    if training != "RUNNING" or not all(done.values()):
        raise ValueError(f"the work ended before: training {training}, {done}; more --copies")
    server.ask("DELETE", "/train/")
    return found, done


def while_stock_is_busy(
    server: Server, scans: list[Path], seconds: float
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """The same of a stock server, without the training; it scores one scan after the other."""
    server.ask("POST", "/scoring/epistemic", b'{"device": "cpu", "max_workers": 1}', **JSON)
    wait_for(server.scored, "scoring has begun")
    before = server.scored()
    with _readers(server, scans) as segmented:
        found = asked(server, STOCK, seconds)
        done = {"scored": server.scored() - before, "segmented": len(segmented)}
        scoring = json.loads(server.ask("GET", "/scoring/"))["status"]
    if scoring != "RUNNING" or not done["segmented"]:
        raise ValueError(f"the work ended before: scoring {scoring}, {done}; more --copies")
    server.ask("DELETE", "/scoring/")
    return found, done


def asked(server: Server, strategy: str, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each request, at its pace."""
    found: dict[str, list[float]] = defaultdict(list)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        found["`GET /`"].append(timed(lambda: server.ask("GET", "/")))
        found["`GET /info/`"].append(timed(lambda: server.ask("GET", "/info/")))
        click = timed(lambda: server.next_sample(strategy, "reader"))
        found["Next Sample"].append(click)
        time.sleep(max(0.0, EVERY_S - (time.monotonic() - began)))
    return found


@contextmanager
def _readers(server: Server, scans: list[Path]) -> Iterator[list[None]]:
    ended, segmented = threading.Event(), []

    def read(number: int) -> None:
        mine = scans[number::READERS]
        while not ended.is_set():
            for scan in mine:
                body, kind = multipart({"params": "{}"}, {"file": scan.read_bytes()}, scan.name)
                server.ask("POST", "/infer/caudate", body, **{"Content-Type": kind})
                segmented.append(None)
                if ended.is_set():
                    return

    threads = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
    for thread in threads:
        thread.start()
    try:
        yield segmented
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def report(
    found: dict[tuple[str, str], dict[str, list[float]]],
    done: dict[str, int],
    stock_done: dict[str, int],
) -> str:
    """Markdown: milliseconds, and how many came within the limit."""
    rows = [
        [*which, what, *_cells(taken)]
        for which, requests in found.items()
        for what, taken in requests.items()
    ]
    names = ["server", "", "request", "n", "median, ms", "95th", "largest"]
    return (
        f"At work, ours: {done['scored']} scans were scored and {done['segmented']} segmented for "
        f"{READERS} readers, and a training ran. Stock: {stock_done['scored']} scored, "
        f"{stock_done['segmented']} segmented, no training. {os.cpu_count()} cores, average load "
        f"over five minutes {os.getloadavg()[1]:.1f}.\n\n"
        + table([*names, f"within {LIMIT_MS:.0f} ms"], rows)
    )


def _cells(taken: list[float]) -> list[str]:
    within = sum(ms <= LIMIT_MS for ms in taken) / len(taken)
    middle, high = statistics.median(taken), percentile(taken, 0.95)
    return [str(len(taken)), f"{middle:.1f}", f"{high:.1f}", f"{max(taken):.0f}", f"{within:.1%}"]


if __name__ == "__main__":
    main()
