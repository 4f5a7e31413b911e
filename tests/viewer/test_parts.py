"""The small parts of the page: keys, sentences, attributes, drafts, the command's refusals."""

import asyncio
import stat
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("trame_slicer", reason="the extra 'viewer' is not installed")

from typer.testing import CliRunner

from fair_strategy.cli.main import app
from fair_strategy.viewer.client import (
    Case,
    Progress,
    RefusedError,
    ReviewClient,
    ServerUnreachableError,
    Why,
)
from fair_strategy.viewer.markup import attributes, tagged
from fair_strategy.viewer.shortcuts import SHORTCUTS, by_group
from fair_strategy.viewer.wording import peaks_line, progress_line, why_lines
from tests.app.serving import free_port

pytestmark = pytest.mark.usefixtures("slicer")


# ---------------------------------------------------------------- keys


def test_no_key_does_two_things():
    keys = [shortcut.key for shortcut in SHORTCUTS]
    assert len(keys) == len(set(keys))
    assert sum(len(group) for group in by_group().values()) == len(keys)


def test_every_key_does_something_and_every_tool_has_one(scene, tmp_path):
    from trame.app import get_server

    from fair_strategy.viewer.page import ReviewPage
    from fair_strategy.viewer.reading import Reading
    from fair_strategy.viewer.tools import Tool

    async def actions() -> set[str]:
        server = get_server("keys", client_type="vue3")
        reading = Reading(scene, url="http://127.0.0.1:9", folder=tmp_path, rescue=tmp_path)
        return set(ReviewPage(server, reading).actions)

    known = asyncio.run(actions())
    assert {shortcut.action for shortcut in SHORTCUTS} - known == set()
    assert {f"tool_{tool}" for tool in Tool} <= {shortcut.action for shortcut in SHORTCUTS}


# ---------------------------------------------------------------- sentences


def test_why_tells_percentile_plausibility_and_age_of_the_judgement():
    assert why_lines(Why(percentile=91.4)) == ["More uncertain than 91 % of the scans."]
    lines = why_lines(Why(percentile=None, implausible=("volume", "side"), stale=True))
    assert lines[0] == "Its uncertainty is not known yet."
    assert "volume, side" in lines[1]
    assert "earlier model" in lines[2]


def test_counts_are_counts():
    from fair_strategy.viewer.overlay import Peak, Peaks

    assert progress_line(Progress(12, 16, 5)) == "12 labelled · 16 to go · 5 by you"
    peaks = Peaks([Peak((0.0, 0.0, 0.0), 0.5)])
    assert peaks_line(peaks) == "1 uncertain place"
    peaks.next()
    assert peaks_line(peaks) == "place 1 of 1"
    assert peaks_line(Peaks()) == "no uncertain places"


def test_attributes_are_escaped():
    assert attributes(aria_label='say "a"') == ['aria-label="say &quot;a&quot;"']
    assert attributes(title=("name",)) == [':title="name"']
    assert tagged("case") == ['data-test="case"']


# ---------------------------------------------------------------- drafts without a server


def test_a_draft_waits_here_while_the_server_is_away(tmp_path):
    from fair_strategy.viewer.drafts import Drafts

    client = ReviewClient(f"http://127.0.0.1:{free_port()}", "anna / ../x")
    rescue = tmp_path / "rescue"
    drafts = Drafts(client, rescue)
    mask = tmp_path / "mask.nii.gz"
    mask.write_bytes(b"first")
    for content in (b"first", b"second"):
        mask.write_bytes(content)
        with pytest.raises(ServerUnreachableError, match="does not answer"):
            drafts.save("sub-01_T1w", mask)
    found = drafts.load("sub-01_T1w", tmp_path)
    assert found is not None
    assert found.read_bytes() == b"second"
    assert found.parent == rescue
    assert stat.S_IMODE(rescue.stat().st_mode) == 0o700
    assert "anna" not in found.name

    other = Drafts(ReviewClient(client.url, "berta"), rescue)
    with pytest.raises(ServerUnreachableError):
        other.load("sub-01_T1w", tmp_path)  # not what anna drew
    drafts.forget("sub-01_T1w")
    assert not found.exists()
    client.close()


class Answering(BaseHTTPRequestHandler):
    """POST is taken; GET is refused."""

    def do_GET(self) -> None:
        self.answer(422, b'{"detail": "sub-01: a colleague is working on it"}')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, b"{}")

    def answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering():
    """A real server of the standard library, since what counts is what comes over the wire."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_refusal_is_the_servers_own_sentence(answering):
    client = ReviewClient(answering, "anna")
    with pytest.raises(RefusedError, match="a colleague is working on it") as refused:
        client.why("sub-01")
    client.close()
    assert refused.value.status == 422


def test_what_is_done_is_not_undone_by_a_count_that_does_not_come(scene, answering, tmp_path):
    from fair_strategy.viewer.drafts import Drafts
    from fair_strategy.viewer.reading import Reading

    reading = Reading(scene, url=answering, folder=tmp_path, rescue=tmp_path / "rescue")
    reading.client = ReviewClient(answering, "anna")
    reading.drafts = Drafts(reading.client, tmp_path / "rescue")
    reading.case, reading.progress = Case("sub-01"), Progress(3, 4, 1)
    assert asyncio.run(reading.skip("another time")) == "sub-01"
    assert reading.case is None
    assert reading.progress == Progress(3, 4, 1)
    reading.client.close()


# ---------------------------------------------------------------- the command


def test_other_machines_are_not_let_in_by_an_address_alone():
    done = CliRunner().invoke(app, ["review", "--host", "0.0.0.0"])
    assert done.exit_code == 2
    assert "--allow-remote" in done.output


def test_the_command_says_how_to_use_it():
    done = CliRunner().invoke(app, ["review", "--help"])
    assert done.exit_code == 0
    assert "--server" in done.output
    assert "--readers" in done.output


def test_behind_a_proxy_the_page_asks_in_the_readers_name():
    client = ReviewClient("http://127.0.0.1:9", "bert", "s" * 24)
    sent = client._session.headers
    assert sent["X-Fair-User"] == "bert"
    assert sent["X-Fair-Role"] == "reader"
    assert sent["X-Fair-Proxy-Secret"] == "s" * 24
    assert "ssss" not in repr(client)
    client.close()
    without = ReviewClient("http://127.0.0.1:9", "bert")
    assert "X-Fair-User" not in without._session.headers
    without.close()
