"""The review page in a real browser, at a real server: what a reader does in a day."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from fair_strategy.data.volumes import read_labels
from tests.app import serving
from tests.viewer.study import (
    Reader,
    ReviewServer,
    chromium,
    review_page,
)

pytestmark = [
    # In some runs a new reader's page does not come up within four minutes; the cause is not known.
    pytest.mark.skipif(os.environ.get("REVIEW_PAGE") != "1", reason="set REVIEW_PAGE=1 to run"),
    pytest.mark.usefixtures("slicer"),
    pytest.mark.timeout(900),
]
# Every scan but the implausible ones is an audit slot, so that both ways are walked: hidden, and
# asked for.
STUDY = (
    *("--conf", "audit_every", "1", "--conf", "quota_batch", "0"),
    *("--conf", "validation_per_group", "0"),
)
SUBGROUP_WORDS = ("group", "sex", "age", "weight", "utility", "quota", "gap")


@pytest.fixture(scope="module")
def server(slicer: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[serving.Server]:
    """A server of the sample cohort and the shipped model, whose scans are all predicted."""
    root = tmp_path_factory.mktemp("study")
    shutil.copytree(serving.ROOT / "sample-data" / "cohort", root / "studies")
    serving.application(root)
    shipped = serving.ROOT / "apps" / "fair_caudate" / "model" / "pretrained.pt"
    shutil.copy(shipped, root / "app" / "model" / "pretrained.pt")
    port = serving.free_port()
    process = serving.launch(root, *STUDY, port=port)
    running = serving.Server(process, f"http://127.0.0.1:{port}", root)

    def scored() -> bool:
        assert process.poll() is None, running.log[-3000:]
        stats = running.client("probe").info()["datastore"]
        return stats["label_tags"].get("original") == stats["total"]

    serving.wait_for(scored, what="scoring in the background")
    serving.wait_for(lambda: "score done" in running.log, what="end of the scoring run")
    yield running
    running.process.send_signal(signal.SIGINT)  # one of the tests starts another
    assert running.process.wait(timeout=60) == 0, running.log[-3000:]


@pytest.fixture(scope="module")
def review(
    server: serving.Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReviewServer]:
    with review_page(
        tmp_path_factory.mktemp("review"), server.url, "--readers", "4", "--keep-seconds", "20"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def browser(slicer: None) -> Iterator[object]:
    path = chromium()
    if path is None:
        pytest.skip("there is no Chromium here (Debian: chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        chrome = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chrome
        chrome.close()


@pytest.fixture
def new_reader(browser, review):
    """Opens the page in a browser of its own, logged in under a name."""
    contexts, readers = [], []

    def entered(name: str, *, viewport: tuple[int, int] = (1200, 760)) -> Reader:
        width, height = viewport
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        reader = Reader(context.new_page())
        readers.append(reader)
        reader.enter(review.url, name)
        return reader

    yield entered
    for context in contexts:
        context.close()
    for reader in readers:
        assert reader.errors == []
        assert foreign(reader.requests, review.url) == []


def foreign(requests: list[str], home: str) -> list[str]:
    """Requests to elsewhere than the review page."""
    own = urlsplit(home).netloc
    return [
        url for url in requests
        if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != own
    ]  # fmt: skip


def label(server: serving.Server, case: str, tag: str) -> np.ndarray:
    """Where a label is, as the stock client gets it from the server."""
    path = server.client("checker").download_label(case, tag)
    return read_labels(Path(path)).array != 0


# ---------------------------------------------------------------- a reader's day


def test_open_next_look_paint_undo_and_submit(server, new_reader):
    reader = new_reader("anna")
    case = reader.next_case()
    page = reader.page

    # Why this scan, in words; a percentile and nothing that a subgroup follows from.
    shown = page.inner_text("body")
    assert "More uncertain than" in shown
    assert [word for word in SUBGROUP_WORDS if word in shown.lower().split()] == []
    assert [name for name in page.evaluate("() => Object.keys(window.trame.state.state)")
            if name in SUBGROUP_WORDS] == []  # fmt: skip

    # Letters of the radiological convention, and a bar in nats up to ln 2.
    letters = {e: page.inner_text(f"[data-edge=Red-{e}]") for e in ("left", "right", "top")}
    assert letters == {"left": "R", "right": "L", "top": "A"}
    assert "0.69" in page.inner_text("[data-test=scale]")

    # The overlay goes and comes.
    reader.key("u")
    reader.until("s.peaks.startsWith('place 1 of')")
    time.sleep(1.0)
    with_overlay = reader.picture(0)
    reader.key("e")
    reader.until("!s.overlay_shown")
    reader.picture_changes(0, with_overlay)
    assert page.locator("[data-test=scale]").count() == 0
    reader.key("e")

    # Paint, undo, paint again.
    reader.key("2", "b")
    reader.until("s.tool === 'paint' && s.sphere")
    reader.set("brush_mm", 12)
    reader.stroke(0)
    reader.until("s.can_undo")
    reader.key("Control+z")
    reader.until("!s.can_undo && s.can_redo")
    reader.stroke(0)
    reader.until("s.can_undo")

    reader.set("auto_next", False)
    reader.key("Control+Enter")
    reader.until("!s.has_case && !s.busy")
    assert "1 by you" in reader.state("progress")
    submitted, original = label(server, case, "final"), label(server, case, "original")
    assert submitted.shape == original.shape
    # The brush added voxels around its line, and took none away.
    assert np.count_nonzero(submitted & ~original) > 20
    assert not np.count_nonzero(original & ~submitted)

    # Re-opened, it is what was submitted.
    reader.key("o")
    reader.until("s.has_case && !s.busy")
    assert reader.state("case_name") == case
    reader.key("Control+Enter")
    reader.until("!s.has_case && !s.busy")
    assert np.array_equal(label(server, case, "final"), submitted)


def test_a_second_browser_gets_another_case_and_its_own_scene(new_reader):
    first, second = new_reader("berta"), new_reader("carl")
    one, two = first.next_case(), second.next_case()
    assert one != two
    first.key("2", "Space")
    first.until("s.can_undo")
    assert not second.state("can_undo")


def test_the_keyboard_alone_is_enough(server, new_reader):
    reader = new_reader("dora")
    case = reader.next_case()
    reader.key("h")
    reader.page.get_by_text("brush at the cross-hair").wait_for()
    reader.key("Escape")
    reader.until("!s.show_help")
    reader.page.locator(".v-dialog").wait_for(state="hidden")
    reader.key("2", "b", "+", "+", "+", "+", "v", "ArrowLeft", "ArrowUp", "PageUp", "Space")
    reader.until("s.can_undo && s.active_view === 'Green'")
    low, high = reader.state("window")
    reader.key("c")
    reader.until(f"s.window[1] - s.window[0] < {high - low}")
    # Pressed twice by mistake, it submits once: the next scan is not handed in unseen.
    reader.key("Control+Enter", "Control+Enter")
    reader.until(f"s.has_case && !s.busy && s.case_name !== '{case}'")
    assert "1 by you" in reader.state("progress")
    changed = label(server, case, "final") != label(server, case, "original")
    assert changed.any()


def test_a_hidden_pre_segmentation_comes_when_it_is_asked_for(new_reader):
    reader = new_reader("emil")
    reader.next_case(hidden=True)
    assert reader.page.locator("[data-test=scale]").count() == 0
    assert reader.page.is_visible("[data-test=hidden]")
    assert not reader.state("has_overlay")
    assert not reader.state("has_peaks")
    reader.key("p")
    reader.until("!s.hidden && s.has_overlay")
    assert not reader.page.is_visible("[data-test=hidden]")


def test_skipping_and_excluding_need_a_reason(server, new_reader):
    reader = new_reader("fritz")
    first = reader.next_case()
    reader.skip("wrong anatomy")
    second = reader.next_case()
    assert second != first
    reader.set("auto_next", False)
    reader.key("x")
    exclude = reader.page.get_by_role("button", name="Exclude", exact=True)
    assert exclude.is_disabled()
    reader.page.get_by_label("Reason (needed)").first.fill("motion")
    exclude.click()
    reader.until("!s.has_case && !s.busy")
    assert "is excluded" in reader.state("message")
    served = {reader.next_case()}
    assert second not in served


# ---------------------------------------------------------------- nothing is lost


def test_a_reload_a_closed_tab_and_a_crash_keep_the_edit(server, review, new_reader):
    reader, neighbour = new_reader("gerda"), new_reader("hans")
    case = reader.next_case()
    original = label(server, case, "original")
    neighbour.next_case()
    reader.key("2", "b", "+", "+", "+", "Space")
    reader.until("s.can_undo")
    reader.until("s.saved === 'draft saved'")

    reader.page.reload()
    reader.until("s.has_case && s.can_undo")
    assert reader.state("case_name") == case

    context, address = reader.page.context, reader.page.url
    reader.page.close()
    again = Reader(context.new_page())
    again.page.goto(review.url)
    again.until("s.has_case && s.can_undo")
    assert again.page.url == address
    again.page.get_by_text(case).first.wait_for()  # the page stands, not its state alone

    assert again.errors == []  # once the process is killed, trame's own script complains
    session = urlsplit(address).path.split("/")[2]
    os.kill(worker_of(review, session), signal.SIGKILL)
    again.page.click("#reconnect")
    again.until("s.screen === 'login'")
    assert again.page.input_value("input[name=reader]") == "gerda"
    again.page.get_by_text(f"You were reading {case}").wait_for()
    again.page.click("button[type=submit]")
    again.until("s.has_case && !s.busy")
    assert again.state("case_name") == case
    assert again.state("saved") == "draft restored"
    assert neighbour.state("has_case"), "the crash of one session does not touch another"

    again.set("auto_next", False)
    again.key("Control+Enter")
    again.until("!s.has_case && !s.busy")
    assert (label(server, case, "final") != original).any()


def worker_of(review: ReviewServer, session: str) -> int:
    """The process of a session: its log file, which it holds open, is named after it."""
    for pid in review.workers():
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            if session in os.readlink(descriptor):
                return pid
    raise AssertionError(f"no process holds the log of {session}")


def test_where_the_server_is_away_a_sentence_says_so_and_retry_goes_on(server, new_reader):
    reader = new_reader("ida")
    case = reader.next_case()
    reader.key("2", "b", "+", "+", "+", "Space")
    reader.until("s.can_undo && s.saved === 'draft saved'")
    reader.set("auto_next", False)
    # Stopped, its port is open and nobody answers; ended, the connection is refused. The latter.
    port = urlsplit(server.url).port
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(timeout=60) == 0
    reader.key("Space")
    reader.until("s.saved.startsWith('server away')")
    reader.key("Control+Enter")
    reader.page.wait_for_selector("[data-test=problem]")
    problem = reader.page.inner_text("[data-test=problem]")
    assert "does not answer" in problem
    assert "nothing is lost" in problem
    assert reader.state("has_case")

    server.process = serving.launch(server.root, *STUDY, port=port)
    serving.wait_for(lambda: server.client("probe").info(), what="start of the server")
    reader.page.click("[data-test=retry]")
    reader.until("!s.has_case && !s.busy && !s.problem")
    assert (label(server, case, "final") != label(server, case, "original")).any()
