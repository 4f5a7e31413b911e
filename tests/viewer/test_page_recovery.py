"""The review page in a real browser: nothing that was drawn is lost, and every way leads back."""

import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from fair_strategy.data.volumes import read_labels
from tests.app import serving
from tests.viewer.conftest import give_back
from tests.viewer.study import STUDY, Reader, ReviewServer, label, review_page, wait_until

pytestmark = [pytest.mark.usefixtures("slicer"), pytest.mark.timeout(900)]


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
    # The broker learns of it a moment later; on a busy machine that may take longer than it waits.
    wait_until(lambda: review.health()["pages"] == 1, what="end of the closed page's connection")
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


def test_another_browser_finds_the_scan_its_draft_and_the_last_case(server, new_reader):
    name = "greta"
    first = new_reader(name)
    case = first.next_case(hidden=True)
    first.key("2", "b", "+", "+", "+", "Space")
    first.until("s.can_undo && s.saved === 'draft saved'")

    second = new_reader(name)  # a context of its own: nothing is remembered there
    second.until("s.has_case && !s.busy")
    assert second.state("case_name") == case
    assert second.state("saved") == "draft restored"
    assert second.state("hidden"), "another browser is no way to what is hidden"
    assert not second.state("has_overlay")
    assert f"Back at {case}, with your draft." in second.state("message")
    second.set("auto_next", False)
    second.key("Control+Enter")
    second.until("!s.has_case && !s.busy")
    drawn = label(server, case, "final")
    assert drawn.any()

    third = new_reader(name)
    assert not third.state("has_case")
    third.key("o")
    third.until("s.has_case && !s.busy")
    assert third.state("case_name") == case
    # Re-opened and left without a draft, it is found as it was submitted.
    fourth = new_reader(name)
    fourth.until("s.has_case && !s.busy")
    assert fourth.state("case_name") == case
    # What was submitted is the reader's own: what the model found lies beside it, not over it.
    fourth.key("p")
    fourth.until("!s.hidden && s.has_overlay && !s.busy")
    assert "What you drew stays" in fourth.state("message")
    fourth.set("auto_next", False)
    fourth.key("Control+Enter")
    fourth.until("!s.has_case && !s.busy")
    assert (label(server, case, "final") == drawn).all()


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


# ---------------------------------------------------------------- processes that end


def test_a_process_that_is_killed_while_its_page_loads_is_told_and_tried_again(browser, review):
    context = browser.new_context()
    reader = Reader(context.new_page())

    def kill(route):
        session = urlsplit(route.request.url).path.split("/")[2]
        os.kill(worker_of(review, session), signal.SIGKILL)
        route.continue_()

    # What the page asks for first; it then waits for an answer that does not come.
    reader.page.route("**/paraview/", kill, times=1)
    reader.page.goto(review.url)
    reader.page.get_by_text("The connection to the review page is lost.").wait_for()
    reader.page.click("#reconnect")
    reader.until("s.screen === 'login'")
    context.close()


def test_a_page_in_which_nothing_is_done_ends_and_its_draft_is_found(server, browser, tmp_path):
    options = ("--readers", "1", "--spare", "0", "--idle-minutes", "0.2", "--keep-seconds", "600")
    with review_page(tmp_path, server.url, *options) as review:
        context = browser.new_context()
        reader = Reader(context.new_page())
        reader.enter(review.url, "jakob")
        case = reader.next_case()
        reader.key("2", "b", "+", "+", "+", "Space")
        reader.until("s.can_undo")
        reader.page.get_by_text("The connection to the review page is lost.").wait_for()
        wait_until(lambda: review.workers() == [], what="end of the idle process")
        reader.page.click("#reconnect")
        reader.until("s.screen === 'login'")
        reader.page.click("button[type=submit]")
        reader.until("s.has_case && !s.busy")
        assert reader.state("case_name") == case
        assert reader.state("saved") == "draft restored"
        context.close()


def test_what_was_done_just_before_the_page_is_stopped_is_kept(server, browser, tmp_path):
    from fair_strategy.viewer.client import ReviewClient

    drafts = ReviewClient(server.url, "klara")
    (tmp_path / "drafts").mkdir()

    def kept(case: str) -> int:
        draft = drafts.draft(case, tmp_path / "drafts")
        assert draft is not None
        return np.count_nonzero(read_labels(draft).array)

    with review_page(tmp_path, server.url, "--readers", "1", "--spare", "0") as review:
        context = browser.new_context()
        reader = Reader(context.new_page())
        reader.enter(review.url, "klara")
        case = reader.next_case()
        reader.key("2", "b", "+", "Space")
        reader.until("s.saved === 'draft saved'")
        drawn = kept(case)
        reader.key("Control+z")
        reader.until("s.can_redo && s.saved === ''")
        context.close()
    # The page was stopped before the next draft was due.
    assert kept(case) < drawn
    give_back(server, {"klara"})
