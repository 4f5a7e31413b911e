"""How fast the review page is: opening, the next scan, a new slice; memory over many scans.

    python benchmarks/review_page.py [--cases 50] [--slices 40] [--server URL] [--out PAGE]

Starts the sample study, its server, the review page and a headless Chromium, all on this machine.
--server takes one of the sample study that runs already, with audit_every and skip_minutes 0.
--out replaces the table in a page between its two marks. Run it from the repository's root, with
the extra `viewer`, playwright and Chromium installed, and with nothing else running: what else
runs is counted too.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, "scripts")

from review_study import browser, log_in, review_page, study_server, until
from servers import check_page, replace_measured

AIMS = {"open": 2.0, "case": 1.5, "slice": 0.120}

# The first view is the axial one; a frame arrives as a new source of its picture.
_WATCH = """() => {
  window.frames_seen = [];
  const view = document.querySelector('.layout-grid-item');
  new MutationObserver(() => window.frames_seen.push(performance.now())).observe(
    view, { subtree: true, attributes: true, attributeFilter: ['src'], childList: true });
}"""
_TURN = """() => new Promise((resolve, reject) => {
  const view = document.querySelector('.layout-grid-item');
  const area = view.querySelector('img, canvas').getBoundingClientRect();
  const start = performance.now();
  const before = window.frames_seen.length;
  const options = { deltaY: 100, bubbles: true, cancelable: true,
    clientX: area.x + area.width / 2, clientY: area.y + area.height / 2 };
  view.querySelector('img, canvas').dispatchEvent(new WheelEvent('wheel', options));
  const wait = () => {
    if (window.frames_seen.length > before) return resolve(window.frames_seen[before] - start);
    if (performance.now() - start > 10000) return reject(new Error('no new picture'));
    requestAnimationFrame(wait);
  };
  wait();
})"""


@dataclass
class Measured:
    """Seconds, and MiB of the worker process."""

    open: list[float] = field(default_factory=list)
    case: list[float] = field(default_factory=list)
    slice: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


def main() -> int:
    """Exit status: 0."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--slices", type=int, default=40)
    parser.add_argument("--server", help="address of a server whose scans are all scored")
    parser.add_argument("--out", type=Path, help="page whose table is replaced")
    asked = parser.parse_args()
    check_page(asked.out)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        served = (
            nullcontext(asked.server)
            if asked.server
            else study_server(root, audit_every="0", skip_minutes="0")
        )
        with (
            served as server,
            review_page(root, server, "--readers", "2") as (url, broker),
            browser() as chrome,
        ):
            found = measure(chrome, url, broker, asked)
    table = report(found)
    sys.stdout.write(table)
    if asked.out is not None:
        replace_measured(asked.out, table)
    return 0


def measure(chrome: Any, url: str, broker: int, asked: argparse.Namespace) -> Measured:
    """Open, turn slices, go through cases."""
    found = Measured()
    page = chrome.new_context(viewport={"width": 1440, "height": 900}).new_page()
    log_in(page, url, "reader")
    page.keyboard.press("n")
    until(page, "s.has_case && !s.busy")
    worker = max(_children(broker), key=_resident_mb)  # a spare one holds no scan
    for _ in range(5):
        start = time.monotonic()
        page.reload()
        until(page, "s.has_case")
        page.wait_for_function(
            "() => document.querySelector('.layout-grid-item img')?.naturalWidth > 50"
        )
        found.open.append(time.monotonic() - start)
    page.evaluate(_WATCH)
    for _ in range(asked.slices):
        time.sleep(0.6)  # the sharper picture of before has come
        found.slice.append(page.evaluate(_TURN) / 1000)
    page.evaluate("() => window.trame.state.set('auto_next', false)")
    for _ in range(asked.cases):
        page.keyboard.press("k")
        page.get_by_role("button", name="Skip", exact=True).click()
        until(page, "!s.has_case && !s.busy")
        page.locator(".v-dialog").wait_for(state="hidden")
        page.evaluate("() => { window.frames_seen.length = 0 }")
        start = time.monotonic()
        page.keyboard.press("n")
        until(page, "s.has_case && !s.busy && window.frames_seen.length > 0")
        found.case.append(time.monotonic() - start)
        found.memory.append(_resident_mb(worker))
    return found


def report(found: Measured) -> str:
    """The table."""
    rows = [
        ("page opened again to its first image", found.open, AIMS["open"]),
        ("next scan to its first image", found.case, AIMS["case"]),
        ("wheel to the new axial slice", found.slice, AIMS["slice"]),
    ]
    lines = ["| what | median, s | 95th percentile, s | n | aim, s |", "|---|---|---|---|---|"]
    for what, seconds, aim in rows:
        middle, high = statistics.median(seconds), sorted(seconds)[int(0.95 * len(seconds))]
        lines.append(f"| {what} | {middle:.3f} | {high:.3f} | {len(seconds)} | {aim:.3f} |")
    memory = found.memory
    fifth = max(len(memory) // 5, 1)
    means = [statistics.mean(memory[n * fifth : (n + 1) * fifth]) for n in range(5)]
    lines += [
        "",
        f"Memory of the worker over {len(memory)} scans, by fifths of them: "
        f"{', '.join(f'{mean:.0f}' for mean in means)} MiB. {os.cpu_count()} cores; "
        f"average load over five minutes {os.getloadavg()[1]:.1f}.",
        "",
    ]
    return "\n".join(lines)


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in listed.split()]


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    sys.exit(main())
