"""Walks the whole loop once in a real browser, and takes pictures: read, submit, train, dashboard.

Next scan -> paint -> submit on the review page, as often as asked; then MONAI Label's own training
route; then the study lead's dashboard. Pictures go to docs/images/loop-*.png.

Run from the repository's root, with the extras `viewer`, `report` and `test`, and Chromium.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import requests
from review_study import PATIENCE_S, browser, log_in, review_page, study_server, until

PICTURES = Path("docs/images")
SIZE = {"width": 1280, "height": 800}
TOKEN = "a-token-for-the-walk"
CONF = {
    "audit_every": "0",
    "train_steps": "40",
    "validation_per_group": "6",  # the scans that are labelled already; fewer are not shown
    "lead_token": TOKEN,
}
SETTLED_S = 8.0
"""The views send a sharper picture some moments after the last change."""


def main() -> int:
    """Exit status: 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=4, help="submitted before the training")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with study_server(root, **CONF) as server:
            with review_page(root, server, "--readers", "1") as (url, _), browser() as chrome:
                read(chrome.new_context(viewport=SIZE).new_page(), url, given.scans)
            train(server)
            with browser() as chrome:
                look_at_dashboard(chrome.new_context(viewport=SIZE).new_page(), server)
    return 0


def read(page: Any, url: str, scans: int) -> None:
    """Correct and submit so many scans; pictures of the first."""
    log_in(page, url, "Dr. Example")
    page.keyboard.press("n")
    for number in range(scans):
        until(page, "s.has_case && !s.busy")
        for key in ("u", "z", "z", "z", "2"):
            page.keyboard.press(key)
        until(page, "s.tool === 'paint'")
        paint(page)
        if number == 0:
            picture(page, "1-painted", SETTLED_S)
        page.keyboard.press("Control+Enter")
        until(page, "!s.busy")
        page.wait_for_timeout(1500)
        if number == 0:
            picture(page, "2-submitted", 0.5)
    print(f"{scans} scans submitted", flush=True)


def paint(page: Any) -> None:
    """A short stroke in the axial view, beside its middle."""
    box = page.locator(".layout-grid-item").first.bounding_box()
    x, y = box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 6, y + 4, steps=4)
    page.mouse.up()
    page.wait_for_timeout(1500)


def train(server: str) -> None:
    """A round of training, as a click in MONAI Label starts it, and figures of the new model."""
    requests.post(f"{server}/train/caudate", json={}, timeout=60).raise_for_status()
    end = time.monotonic() + PATIENCE_S
    while measured_models(server) < 2:
        if time.monotonic() > end:
            raise TimeoutError("no figures of a second model; see the server's log")
        time.sleep(2)
    print("trained, scored and compared anew", flush=True)


def measured_models(server: str) -> int:
    """Of how many models the gap on the validation set is known."""
    (validation, *_) = figure(server, "performance")["series"]
    return sum(version["gap"] is not None for version in validation["versions"])


def figure(server: str, name: str) -> Any:
    """One of the dashboard's figures."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    reply = requests.get(f"{server}/fairness/api/{name}", headers=headers, timeout=60)
    reply.raise_for_status()
    return reply.json()


def look_at_dashboard(page: Any, server: str) -> None:
    """The dashboard after the training."""
    page.set_default_timeout(120_000)
    page.goto(f"{server}/fairness/?token={TOKEN}")
    page.wait_for_selector("body[data-loaded=true]")
    picture(page, "3-dashboard", 1.0)


def picture(page: Any, name: str, wait_s: float) -> None:
    """One picture of what the page shows, once it has settled."""
    page.wait_for_timeout(1000 * wait_s)
    page.screenshot(path=str(PICTURES / f"loop-{name}.png"))


if __name__ == "__main__":
    sys.exit(main())
