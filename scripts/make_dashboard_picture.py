"""Draws docs/images/dashboard.png: a study played on the sample cohort, on its dashboard.

Run from the repository's root, with the extras `report` and `test` installed and Chromium at
/usr/bin/chromium (or named by --chromium). The reader is a function that submits the true mask of
each scan that is handed out; the minutes that this took are drawn at random, alike for every
subgroup. Everything else is the application's own.
"""

import argparse
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from lay_out_sample import lay_out
from playwright.sync_api import Page, sync_playwright

from fair_strategy.config import parse_conf
from fair_strategy.store import cases
from fair_strategy.workflows.desk import next_case, submit
from fair_strategy.workflows.intake import prepare
from fair_strategy.workflows.rounds import train_round
from fair_strategy.workflows.study import Study, open_study
from fair_strategy.workflows.upkeep import score_and_plan

COHORT = Path("sample-data/cohort")
APP = Path("apps/fair_caudate")
PICTURES = Path("docs/images")
TOKEN = "a-token-for-the-picture"
OPTIONS = {
    "validation_per_group": "5",
    "objective": "group_dro",
    "objective_eta": "0.1",
    "train_steps": "60",
    "seed": "5",
}
LABELLED_BEFORE = ("001", "002", "003", "004", "005", "006")
LABELS_OF_ROUND = (7, 4, 5)
WIDE, NARROW = (1280, 800), (420, 900)


def main() -> int:
    """Exit status: 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chromium", type=Path, default=Path("/usr/bin/chromium"))
    parser.add_argument("--folder", type=Path, help="of a study played before; or where to play it")
    parser.add_argument("--all", type=Path, help="folder for further pictures: dark, narrow, login")
    parser.add_argument("--port", type=int, default=8130)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        if not (folder / "state").exists():
            play(folder)
        with served(folder, given.port) as address:
            take_pictures(address, given.chromium, given.all)
    return 0


def play(folder: Path) -> None:
    """Several rounds of a study: scans handed out, labels submitted, a model trained."""
    lay_out(COHORT, folder / "studies")
    shutil.rmtree(folder / "studies" / "derivatives" / "reference")
    for subject in (folder / "studies" / "derivatives" / "labels").glob("sub-*"):
        if subject.name[-3:] not in LABELLED_BEFORE:
            shutil.rmtree(subject)
    study = open_study(
        folder / "studies",
        parse_conf(OPTIONS)[0],
        state_dir=folder / "state",
        shipped_model=APP / "model" / "pretrained.pt",
    )
    prepare(study)
    score_and_plan(study)
    rng = np.random.default_rng(5)
    for number, labels in enumerate(LABELS_OF_ROUND, start=1):
        for place in range(labels):
            annotate_next(study, f"reader-{1 + place % 2}", minutes=rng.gamma(6.0, 1.2))
        train_round(study, track=False)
        score_and_plan(study)
        print(f"round {number}: {len(cases.labelled_ids(study.store))} labels", flush=True)
    next_case(study, "weighted_entropy", "reader-1")


def annotate_next(study: Study, reader: str, *, minutes: float) -> None:
    """Take the next scan, and submit its true mask as if it had taken so many minutes."""
    handed = next_case(study, "weighted_entropy", reader)
    if handed is None:
        return
    with study.store.transaction() as connection:
        connection.execute(
            "UPDATE decisions SET created_at = created_at - ? WHERE case_id = ?",
            (60.0 * minutes, handed.case_id),
        )
    subject = cases.case(study.store, handed.case_id).subject_id
    truth = next((COHORT / "derivatives" / "reference").glob(f"*{subject}*/anat/*mask.nii.gz"))
    submit(study, handed.case_id, truth, client_id=reader)


@contextmanager
def served(folder: Path, port: int) -> Iterator[str]:
    """The address of a server of the study, as a study lead would start it."""
    options = {**OPTIONS, "state_dir": str(folder / "state"), "lead_token": TOKEN}
    options["enable_background"] = "false"
    conf = [word for name, value in options.items() for word in ("--conf", name, value)]
    command = [
        *(sys.executable, "-m", "monailabel.main", "start_server", "--app", str(APP)),
        *("--studies", str(folder / "studies"), "--host", "127.0.0.1", "--port", str(port)),
    ]
    environment = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    with open(folder / "server.log", "wb") as log:
        server = subprocess.Popen(
            [*command, *conf], stdout=log, stderr=subprocess.STDOUT, env=environment
        )
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(f"{address}/info/", server)
            yield address
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=60)


def wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    """Return once the server answers; RuntimeError if it ended, or after four minutes."""
    for _ in range(480):
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(address, timeout=10):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"the server did not come up at {address}; see server.log")


def take_pictures(address: str, chromium: Path, more: Path | None) -> None:
    """docs/images/dashboard.png, and further pictures where asked for."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=size(WIDE), device_scale_factor=1.5)
        page.set_default_timeout(120_000)
        open_dashboard(page, address)
        page.screenshot(path=PICTURES / "dashboard.png", full_page=False)
        if more is not None:
            more.mkdir(parents=True, exist_ok=True)
            take_all(page, more)
        browser.close()


def open_dashboard(page: Page, address: str) -> None:
    """Log in, and wait until everything is drawn."""
    page.goto(f"{address}/fairness/?token={TOKEN}")
    page.wait_for_selector("body[data-loaded=true]")
    page.wait_for_timeout(800)  # the charts' last frame


def take_all(page: Page, folder: Path) -> None:
    """The whole page in light and dark, narrow, for print, and with a decision open."""
    page.screenshot(path=folder / "light.png", full_page=True)
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(600)
    page.screenshot(path=folder / "dark.png", full_page=True)
    page.locator("#decisions-table button").first.click()
    page.locator("#replay").click()
    page.wait_for_selector("#replayed.same, #replayed.other")
    page.screenshot(path=folder / "decision-dark.png")
    page.locator("#close").click()
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(size(NARROW))
    page.wait_for_timeout(600)
    page.screenshot(path=folder / "narrow.png", full_page=True)
    page.set_viewport_size(size(WIDE))
    page.emulate_media(media="print")
    page.pdf(path=folder / "print.pdf")
    page.emulate_media(media="screen")
    page.context.clear_cookies()
    page.reload()
    page.screenshot(path=folder / "login.png")


def size(pixels: tuple[int, int]) -> dict[str, int]:
    """As the browser wants it."""
    return {"width": pixels[0], "height": pixels[1]}


if __name__ == "__main__":
    sys.exit(main())
