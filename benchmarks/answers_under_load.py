"""How soon `/info/` and Next Sample are answered while scoring, training and five readers work.

    python benchmarks/answers_under_load.py [--seconds 60] [--copies 12] [--out PAGE]

A study of the sample cohort, copied so often that scoring lasts; its server scores in the
background, MONAI Label's own process trains, and five readers send scans to be segmented, one after
the other, each a new file to the server. Asked meanwhile, five times a second each: ``GET /``,
``GET /info/`` and Next Sample. Beside it the same without that work. --out replaces the table.
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
    Server,
    multipart,
    our_server,
    percentile,
    replace_measured,
    table,
    timed,
    wait_for,
)

from fair_strategy.data import bids

READERS = 5
EVERY_S = 0.2
LIMIT_MS = 100.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohort", type=Path, default=Path("sample-data/cohort"))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--copies", type=int, default=12)
    parser.add_argument("--work", type=Path, help="folder to work in")
    parser.add_argument("--out", type=Path, help="page whose table is replaced")
    given = parser.parse_args()
    if given.work:
        given.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        root = Path(folder)
        scans = copy_cohort(given.cohort, root / "studies", given.copies)
        conf = {"skip_minutes": "0", "train_every": "0", "validation_per_group": "2"}
        with our_server(root, root / "studies", **conf) as server:
            busy, done = while_busy(server, scans, given.seconds)
        with our_server(root, root / "studies", enable_background="false", **conf) as server:
            idle = asked(server, given.seconds / 4)
    text = report(idle, busy, done)
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
    wait_for(lambda: _predicted(server) > 0, "scoring has begun")
    server.ask("POST", "/train/caudate", b"{}", **{"Content-Type": "application/json"})
    before = _predicted(server)
    with _readers(server, scans) as segmented:
        found = asked(server, seconds)
        done = {"scored": _predicted(server) - before, "segmented": len(segmented)}
        training = json.loads(server.ask("GET", "/train/"))["status"]
    if training != "RUNNING" or not all(done.values()):
        raise ValueError(f"the work ended before: training {training}, {done}; more --copies")
    server.ask("DELETE", "/train/")
    return found, done


def asked(server: Server, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each request, at its pace."""
    found: dict[str, list[float]] = defaultdict(list)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        found["`GET /`"].append(timed(lambda: server.ask("GET", "/")))
        found["`GET /info/`"].append(timed(lambda: server.ask("GET", "/info/")))
        click = timed(lambda: server.next_sample("weighted_entropy", "reader"))
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


def _predicted(server: Server) -> int:
    counted = json.loads(server.ask("GET", "/info/"))["datastore"]["label_tags"]
    return int(counted.get("original", 0))


def report(idle: dict[str, list[float]], busy: dict[str, list[float]], done: dict[str, int]) -> str:
    """Markdown: milliseconds, and how many came within the limit."""
    rows = [
        [when, what, *_cells(taken)]
        for when, found in (("idle", idle), ("at work", busy))
        for what, taken in found.items()
    ]
    names = ["server", "request", "n", "median, ms", "95th", "largest", f"within {LIMIT_MS:.0f} ms"]
    return (
        f"Meanwhile {done['scored']} scans were scored and {done['segmented']} segmented for "
        f"{READERS} readers, and a training ran. {os.cpu_count()} cores, average load over five "
        f"minutes {os.getloadavg()[1]:.1f}.\n\n{table(names, rows)}"
    )


def _cells(taken: list[float]) -> list[str]:
    within = sum(ms <= LIMIT_MS for ms in taken) / len(taken)
    middle, high = statistics.median(taken), percentile(taken, 0.95)
    return [str(len(taken)), f"{middle:.1f}", f"{high:.1f}", f"{max(taken):.0f}", f"{within:.1%}"]


if __name__ == "__main__":
    main()
