"""How fast the review page is: opening, the next scan, a new slice; memory over many scans.

    python benchmarks/review_page.py [--visits 5] [--cases 50] [--slices 40] [--paint 0]
        [--server URL] [--out PAGE]

Starts the sample study, its server, the review page and a headless Chromium, all on this machine.
--visits counts first visits, each by a browser that has kept nothing, to a process that is warm.
--paint counts scans that are then drawn in, by a stroke and scissors, undone and submitted; once
few are left they are skipped. --server takes one of the sample study that runs already, with
audit_every and skip_minutes 0; painting uses its scans up. --out replaces the table in a page
between its two marks. Run it from the repository's root, with the extra `viewer`, playwright and
Chromium installed, and with nothing else running: what else runs is counted too.
"""

import argparse
import math
import os
import signal
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import requests

sys.path.insert(0, "scripts")

from review_study import (
    PATIENCE_S,
    STATE,
    browser,
    log_in,
    review_page,
    study_server,
    until,
)
from servers import check_page, replace_measured, wait_for

AIMS = {"visit": 2.0, "open": 2.0, "case": 1.5, "slice": 0.120}
SIZE = {"width": 1440, "height": 900}
READER = "reader"
FEW = 2
"""Scans of the pool that painting leaves to be skipped."""

_FORM = "input[name=reader]"
# Before a scan is open its view is drawn too, black.
_SCAN_IS_SEEN = """() => {
  const picture = document.querySelector('.layout-grid-item img');
  if (!(picture?.naturalWidth > 50)) return false;
  const small = new OffscreenCanvas(32, 32).getContext('2d');
  small.drawImage(picture, 0, 0, 32, 32);
  const red = small.getImageData(0, 0, 32, 32).data.filter((_, place) => place % 4 === 0);
  return red.filter((grey) => grey > 40).length > 32 * 32 / 20;
}"""
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

    form: list[float] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    open: list[float] = field(default_factory=list)
    case: list[float] = field(default_factory=list)
    slice: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    painted: list[float] = field(default_factory=list)
    submitted: int = 0


def main() -> int:
    """Exit status: 0."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--visits", type=int, default=5)
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--slices", type=int, default=40)
    parser.add_argument("--paint", type=int, default=0, help="scans that are drawn in as well")
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
            found = Measured()
            for number in range(asked.visits):
                visit(chrome, (url, server), broker, f"visitor {number + 1}", found)
            work(chrome, (url, server), broker, asked, found)
    table = report(found)
    sys.stdout.write(table)
    if asked.out is not None:
        replace_measured(asked.out, table)
    return 0


def visit(chrome: Any, addresses: tuple[str, str], broker: int, name: str, found: Measured) -> None:
    """One first visit by a new reader: the form, and the picture of the first scan.

    The broker starts the next warm process meanwhile, as it does for any reader. The visit's own
    process is ended afterwards, and its scan given back.
    """
    page_address, server = addresses
    wait_for(lambda: len(_ready(broker)) == len(_children(broker)) == 1, "a warm process")
    (own,) = _ready(broker)
    time.sleep(2.0)  # it answers: nothing of its start is counted
    context = chrome.new_context(viewport=SIZE)
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE_S)
    start = time.monotonic()
    page.goto(page_address, wait_until="commit")
    page.wait_for_selector(_FORM)
    found.form.append(time.monotonic() - start)
    page.fill(_FORM, name)
    start = time.monotonic()
    page.keyboard.press("Enter")
    until(page, "s.screen === 'read' && !s.busy")
    page.keyboard.press("n")
    until(page, "s.has_case")
    page.wait_for_function(_SCAN_IS_SEEN)
    found.start.append(time.monotonic() - start)
    until(page, "!s.busy")
    given_back = {"client_id": name, "image": page.evaluate(f"() => {STATE}.case_name")}
    context.close()
    os.kill(own, signal.SIGTERM)
    wait_for(lambda: own not in _children(broker), "end of the visit's process")
    body = {**given_back, "reason": "another time"}
    requests.post(f"{server}/reader/skip", json=body, timeout=60).raise_for_status()


def work(
    chrome: Any,
    addresses: tuple[str, str],
    broker: int,
    asked: argparse.Namespace,
    found: Measured,
) -> None:
    """One reader's day: open the page again, turn slices, go through cases, draw in some."""
    url, server = addresses
    page = chrome.new_context(viewport=SIZE).new_page()
    log_in(page, url, READER)
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
        _skip(page)
        found.case.append(_next(page))
        found.memory.append(_resident_mb(worker))
    for _ in range(asked.paint):
        _paint(page)
        if _left(server) > FEW:
            _submit(page)
            found.submitted += 1
        else:
            _skip(page)
        _next(page)
        found.painted.append(_resident_mb(worker))


def _skip(page: Any) -> None:
    page.keyboard.press("k")
    page.get_by_role("button", name="Skip", exact=True).click()
    until(page, "!s.has_case && !s.busy")
    page.locator(".v-dialog").wait_for(state="hidden")


def _submit(page: Any) -> None:
    page.keyboard.press("Control+Enter")
    until(page, "!s.has_case && !s.busy")


def _next(page: Any) -> float:
    page.evaluate("() => { window.frames_seen.length = 0 }")
    start = time.monotonic()
    page.keyboard.press("n")
    until(page, "s.has_case && !s.busy && window.frames_seen.length > 0")
    return time.monotonic() - start


def _left(server: str) -> int:
    """Scans that the reader could still be given."""
    told = requests.get(f"{server}/reader/progress", params={"client_id": READER}, timeout=60)
    return int(told.json()["pool"])


def _paint(page: Any) -> None:
    """A stroke and a cut by mouse in the axial view; the cut is taken back."""
    box = page.locator(".layout-grid-item").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.keyboard.press("2")
    until(page, "s.tool === 'paint'")
    _drag(page, [(x + 8 * step, y + 2 * step) for step in range(6)])
    until(page, "s.can_undo")
    page.keyboard.press("4")
    until(page, "s.tool === 'scissors'")
    turns = [2 * math.pi * step / 12 for step in range(13)]
    _drag(page, [(x + 60 * math.cos(turn), y + 60 * math.sin(turn)) for turn in turns])
    _rest(page)
    page.keyboard.press("Control+z")
    until(page, "s.can_undo && s.can_redo")  # the stroke, and the cut: both were made
    page.keyboard.press("1")
    until(page, "s.tool === 'look'")


def _drag(page: Any, places: list[tuple[float, float]]) -> None:
    page.mouse.move(*places[0])
    time.sleep(0.3)
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place)
        time.sleep(0.05)
    page.mouse.up()


def _rest(page: Any) -> None:
    """Until the axial view has had no new picture for a while."""
    before = -1
    while (now := page.evaluate("() => window.frames_seen.length")) != before:
        before = now
        time.sleep(1.0)


def report(found: Measured) -> str:
    """The table, and lines on memory; what was not measured is left out."""
    visits = [form + start for form, start in zip(found.form, found.start, strict=True)]
    rows = [
        ("first visit: to the login form", found.form, None),
        ("first visit: from the login to the first image", found.start, None),
        ("first visit: both, without the typing", visits, AIMS["visit"]),
        ("page opened again to its first image", found.open, AIMS["open"]),
        ("next scan to its first image", found.case, AIMS["case"]),
        ("wheel to the new axial slice", found.slice, AIMS["slice"]),
    ]
    lines = ["| what | median, s | 95th percentile, s | n | aim, s |", "|---|---|---|---|---|"]
    for what, seconds, aim in rows:
        if seconds:
            middle, high = statistics.median(seconds), sorted(seconds)[int(0.95 * len(seconds))]
            told = "" if aim is None else f"{aim:.3f}"
            lines.append(f"| {what} | {middle:.3f} | {high:.3f} | {len(seconds)} | {told} |")
    if found.memory:
        lines += ["", f"Memory of the worker over {_by_fifths(found.memory, 'scans')}"]
    if found.painted:
        painted = f"scans with a stroke, a cut and an undo each, {found.submitted} submitted"
        lines += ["", f"Then over {_by_fifths(found.painted, painted)}"]
    lines += [
        "",
        f"{os.cpu_count()} cores; average load over five minutes {os.getloadavg()[1]:.1f}.",
        "",
    ]
    return "\n".join(lines)


def _by_fifths(memory: list[float], what: str) -> str:
    ends = [len(memory) * n // 5 for n in range(6)]
    fifths = [memory[low:high] for low, high in pairwise(ends) if high > low]
    means = ", ".join(f"{statistics.mean(fifth):.0f}" for fifth in fifths)
    return f"{len(memory)} {what}, by fifths of them: {means} MiB."


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in listed.split()]


def _ready(broker: int) -> list[int]:
    """Those processes of the broker that listen."""
    return [pid for pid in _children(broker) if _listens(pid)]


def _listens(pid: int) -> bool:
    try:
        made = psutil.Process(pid).net_connections("tcp")
    except psutil.NoSuchProcess:
        return False
    return any(connection.status == psutil.CONN_LISTEN for connection in made)


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    sys.exit(main())
