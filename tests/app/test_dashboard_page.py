"""The dashboard in a real browser, on a real server."""

import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fair_strategy.config import StudySettings
from fair_strategy.workflows.desk import next_case, submit
from fair_strategy.workflows.intake import prepare
from fair_strategy.workflows.models import publish
from fair_strategy.workflows.study import open_study
from fair_strategy.workflows.upkeep import score_and_plan
from tests import contrast, pictures
from tests.app import cohorts, serving

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra test)")
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists(), reason="needs Chromium: apt-get install chromium"
)

PICTURES = Path(__file__).with_name("pictures")
FONT = "DejaVu Sans"
TOLERANCE = 6.0
"""Grey levels of the worst block of 16 x 16 pixels; repeated runs differed by 0."""
TOKEN = "a-token-of-the-lead"
OPTIONS = {"validation_per_group": "10"}
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A study of two model versions, six validation cases a subgroup, and two decisions."""
    root = tmp_path_factory.mktemp("dashboard")
    cohorts.write_cohort(root / "studies", per_group=12, labelled=6)
    serving.application(root)
    study = open_study(
        root / "studies",
        StudySettings(validation_per_group=10),
        state_dir=root / "state",
        shipped_model=root / "app" / "model" / "pretrained.pt",
    )
    prepare(study)
    score_and_plan(study)
    next_case(study, "weighted_entropy", "ann")
    second = root / "second.pt"
    publish(study, second, cohorts.write_model(second, seed=1), origin="trained", statistics={})
    score_and_plan(study)
    next_case(study, "weighted_entropy", "bob")
    study.store.close()
    with served(root, OPTIONS) as running:
        yield running


@contextmanager
def served(root, options) -> Iterator[serving.Server]:
    """A server of the study in a folder."""
    port = serving.free_port()
    conf = {**options, "lead_token": TOKEN, "enable_background": "false"}
    process = serving.launch(
        root, *(word for name, value in conf.items() for word in ("--conf", name, value)), port=port
    )
    running = serving.Server(process, f"http://127.0.0.1:{port}", root)
    serving.wait_for(lambda: running.client("probe").info(), what="server start")
    yield running
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0, running.log[-3000:]


ATTAINABLE = {"A": 0.95, "B": 0.8}


@pytest.fixture(scope="module")
def with_floor(tmp_path_factory):
    """A study of six validation cases a subgroup; its settings give the attainable Dice of each."""
    root = tmp_path_factory.mktemp("with-floor")
    cohorts.write_cohort(root / "studies", per_group=12, labelled=6)
    serving.application(root)
    study = open_study(
        root / "studies",
        StudySettings(validation_per_group=10, attainable=tuple(ATTAINABLE.items())),
        state_dir=root / "state",
        shipped_model=root / "app" / "model" / "pretrained.pt",
    )
    prepare(study)
    score_and_plan(study)
    study.store.close()
    told = ",".join(f"{name}={dice}" for name, dice in ATTAINABLE.items())
    with served(root, {**OPTIONS, "attainable": told}) as running:
        yield running


GROUPS = {"A": 7, "B": 6, "C": 2, "D": 5}
"""Scans by subgroup; C is too small to be shown."""
SHIFTS = (0, 1, 1, 2, 2, 3, 4)
"""Voxels between the masks of a scan's two readers, in the order of a subgroup's scans."""
WIDE = 10
"""Edge of a mask, voxels: shifted by k along it, two have a Dice of (WIDE - k) / WIDE."""


@pytest.fixture(scope="module")
def read_twice(tmp_path_factory):
    """A study whose scans two readers have read; one of A was found empty by one of them."""
    root = tmp_path_factory.mktemp("read-twice")
    cohorts.write_cohort(root / "studies", per_group=sum(GROUPS.values()) // 2, labelled=0)
    names = [f"sub-{number:02d}" for number in range(1, sum(GROUPS.values()) + 1)]
    groups = [group for group, count in GROUPS.items() for _ in range(count)]
    rows = [f"{name}\t{group}" for name, group in zip(names, groups, strict=True)]
    table = "\n".join(["participant_id\tgroup", *rows])
    (root / "studies" / "participants.tsv").write_text(table + "\n")
    serving.application(root)
    options = {"readers_per_case": "2", "validation_per_group": "0"}
    study = open_study(
        root / "studies",
        StudySettings(readers_per_case=2, validation_per_group=0),
        state_dir=root / "state",
        shipped_model=root / "app" / "model" / "pretrained.pt",
    )
    prepare(study)
    for place, (name, group) in enumerate(zip(names, groups, strict=True)):
        shift = SHIFTS[place - groups.index(group)]
        for client, start in (("anna", 10), ("ben", 10 + shift)):
            array = np.zeros(cohorts.SHAPE, np.uint8)
            array[start : start + WIDE, 10 : 10 + WIDE, 10 : 10 + WIDE] = 1
            if (group, shift, client) == ("A", 0, "ben"):
                array[:] = 0
            mask = cohorts.save(root / "mask.nii.gz", array)
            submit(study, f"{name}_T1w", mask, client_id=client)
    study.store.close()
    with served(root, options) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Watched:
    """A page, and what it asked for and complained of."""

    def __init__(self, page):
        self.page = page
        self.requested, self.complaints = [], []
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: self.requested.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))


@pytest.fixture
def watched(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    yield Watched(page)
    page.context.close()


def opened(watched, server):
    """The page after the address that the server printed."""
    watched.page.goto(f"{server.url}/fairness/?token={TOKEN}")
    watched.page.wait_for_selector("body[data-loaded=true]")
    return watched.page


def test_a_field_asks_for_the_token_and_says_if_it_is_another(watched, server):
    page = watched.page
    page.goto(f"{server.url}/fairness/")
    page.get_by_label("Token").fill("not the token")
    page.keyboard.press("Enter")
    page.get_by_text("That is not this server's token.").wait_for()
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Open").click()
    page.wait_for_selector("body[data-loaded=true]")
    assert page.url == f"{server.url}/fairness/"


def test_every_chart_is_drawn_and_nothing_is_fetched_from_elsewhere(watched, server):
    page = opened(watched, server)
    for chart in ("dice", "gap", "counts", "weights"):
        page.wait_for_selector(f"#{chart}-chart .main-svg")
    assert page.locator("#dice-chart .scatterlayer .trace").count() == 2
    assert page.locator("#dice-chart .errorbar").count() == 4  # two subgroups, two versions
    assert page.locator("#study").inner_text().startswith("studies · subgroups by group")
    elsewhere = [u for u in watched.requested if not u.startswith((server.url, "data:", "blob:"))]
    assert elsewhere == []
    assert len(watched.requested) > 10
    assert watched.complaints == []
    assert page.locator("#trouble").is_hidden()


def excess_tile(page):
    """What stands in the tile of the excess gap: the figure, and the line under it."""
    tile = page.locator("#tiles .tile", has=page.get_by_role("heading", name="Excess gap"))
    return tile.locator(".value").inner_text(), tile.locator("p").inner_text()


def test_where_every_subgroup_has_an_attainable_dice_the_excess_gap_is_told(watched, with_floor):
    page = opened(watched, with_floor)
    told = page.request.get(f"{with_floor.url}/fairness/api/performance").json()
    floor = ATTAINABLE["A"] - ATTAINABLE["B"]
    assert told["floor"]["value"] == pytest.approx(floor)
    chosen = page.locator("#evidence").input_value()
    (series,) = [s for s in told["series"] if s["evidence"] == chosen]
    (version,) = series["versions"]
    gap = version["gap"]
    assert gap["excess"] == pytest.approx(gap["value"] - floor)
    between = f"{gap['excess_low']:.3f} to {gap['excess_high']:.3f}"
    assert excess_tile(page) == (f"{gap['excess']:.3f}", f"{between}; version 1")
    assert page.locator("#floor").inner_text() == told["floor"]["sentence"]
    page.locator("#gap-table summary").click()
    cells = page.locator("#gap-table tbody tr").first.locator("th, td").all_inner_texts()
    assert cells[3] == f"{gap['excess']:.3f}"


def test_where_no_attainable_dice_is_given_the_excess_gap_is_not_known(watched, server):
    page = opened(watched, server)
    assert excess_tile(page) == ("not known", "no floor is known")


def test_the_table_behind_a_chart_has_its_numbers(watched, server):
    page = opened(watched, server)
    assert page.locator("#dice-table table").is_hidden()
    page.locator("#dice-table summary").focus()
    page.keyboard.press("Enter")
    rows = page.locator("#dice-table tbody tr")
    assert rows.count() == 4
    cells = rows.first.locator("th, td").all_inner_texts()
    assert (cells[0], cells[2], cells[3]) == ("1", "A", "6")
    assert 0 <= float(cells[4]) <= 1


def test_a_decision_is_opened_and_replayed_with_the_keyboard(watched, server):
    page = opened(watched, server)
    button = page.get_by_role("button", name="Open decision 2")
    button.last.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    assert "to bob" in dialog.get_by_role("heading", level=2).inner_text()
    assert page.locator("#candidates tr.chosen").count() == 1
    page.get_by_role("button", name="Replay").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#replayed.same")
    page.keyboard.press("Escape")
    assert dialog.is_hidden()


def test_the_page_and_its_charts_turn_dark_with_the_system(watched, server):
    page = opened(watched, server)
    background = "getComputedStyle(document.body).backgroundColor"
    ink = "document.querySelector('#dice-chart').layout.font.color"
    page.wait_for_selector("#dice-chart .main-svg")
    light = (page.evaluate(background), page.evaluate(ink))
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("(before) => " + ink + " !== before", arg=light[1])
    assert page.evaluate(background) != light[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_and_every_bar_ends_where_it_can_be_seen(watched, server, scheme):
    watched.page.emulate_media(color_scheme=scheme)
    page = opened(watched, server)
    page.wait_for_selector("#counts-chart .bars path")
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.evaluate(contrast.FAINT, contrast.TEXT) == []
    card = page.evaluate(_PAINT, ["figure", "backgroundColor"])
    edges = set(page.evaluate(_PAINT, ["#counts-chart .bars path", "stroke"]))
    assert len(edges) == 1, "the pool's own fill is pale on the card"
    assert contrast.ratio(edges.pop(), card[0]) >= contrast.MARKS
    page.get_by_role("button", name="Open decision 1", exact=True).first.click()
    page.locator("#decision").wait_for()
    assert page.evaluate(contrast.FAINT, contrast.TEXT) == []


_PAINT = """([what, of]) => [...document.querySelectorAll(what)]
  .map((part) => getComputedStyle(part)[of]).filter((paint) => paint !== "none")
  .map((paint) => "#" + paint.match(/[0-9]+/g).slice(0, 3)
    .map((v) => Number(v).toString(16).padStart(2, "0")).join(""))"""


def font() -> str:
    """The font that the page's text is drawn with; empty where fontconfig cannot be asked."""
    if shutil.which("fc-match") is None:
        return ""
    asked = ["fc-match", "--format=%{family}", "system-ui"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout


def compare(shown: bytes, name: str, pytestconfig, tmp_path: Path) -> None:
    write = pytestconfig.getoption("--new-pictures")
    pictures.check(shown, PICTURES / name, tolerance=TOLERANCE, write=write, scratch=tmp_path)


@pytest.mark.skipif(font() != FONT, reason=f"the pictures were drawn with {FONT}, here: {font()!r}")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("chart", ["dice", "counts"])
def test_a_chart_looks_as_it_did(watched, server, pytestconfig, tmp_path, scheme, chart):
    watched.page.emulate_media(color_scheme=scheme)
    page = opened(watched, server)
    page.wait_for_selector(f"#{chart}-chart .main-svg")
    drawn = page.locator(f"#{chart}-chart")
    shown = drawn.screenshot(animations="disabled")
    compare(shown, f"{chart}-{scheme}.png", pytestconfig, tmp_path)
    # A subgroup that is drawn in another colour is seen.
    marks = page.locator(f"#{chart}-chart .trace").first.locator("path")
    marks.evaluate_all("(all) => all.forEach((p) => { p.style.fill = p.style.stroke = '#7a7a7a' })")
    assert pictures.difference(drawn.screenshot(animations="disabled"), shown) > TOLERANCE


def test_how_far_readers_agree_is_a_table_by_subgroup_in_which_small_ones_are_hidden(
    watched, read_twice
):
    page = opened(watched, read_twice)
    section = page.get_by_role("region", name="How far readers agree")
    assert "goes to 2 readers, blind to each other; STAPLE makes" in section.inner_text()
    rows = section.locator("tbody tr")
    found = [row.locator("th, td").all_inner_texts() for row in rows.all()]
    # Dice of A: 0 (no outline), .6, .7, .8, .8, .9, .9; of B: .7, .8, .8, .9, .9, 1.
    assert found[0][:5] == ["A", "7", "0.800", "0.650 to 0.850", "6"]
    assert found[1][:5] == ["B", "6", "0.850", "0.800 to 0.900", "6"]
    # C could be worked out from all that are read: D is hidden with it.
    assert found[2:] == [["C", "suppressed", "suppressed"], ["D", "suppressed", "suppressed"]]
    told = page.request.get(f"{read_twice.url}/fairness/api/agreement").json()["groups"]
    assert found[0][5] == f"{told[0]['surface_distance_mm']['median']:.2f}"
    assert [g["n"] for g in told[2:]] == [None, None]
    assert page.locator("#agreement-refreshed").inner_text().startswith("Figures of")
    assert watched.complaints == []


def test_before_enough_scans_are_read_the_table_says_how_many_it_takes(watched, read_twice):
    page = opened(watched, read_twice)
    told = page.request.get(f"{read_twice.url}/fairness/api/agreement").json()
    page.route("**/api/agreement", lambda route: route.fulfill(json={**told, "groups": []}))
    page.get_by_role("button", name="Reload").click()
    page.get_by_text("Shown once 5 scans have been read by all their readers.").wait_for()
    assert page.locator("#agreement-table table").count() == 0


def test_where_a_scan_has_one_reader_nothing_is_said_of_agreement(watched, server):
    page = opened(watched, server)
    assert page.locator("#agreement").is_hidden()
    assert page.locator("#progress").is_hidden()  # nor of the course of trainings that were none


@pytest.mark.skipif(font() != FONT, reason=f"the pictures were drawn with {FONT}, here: {font()!r}")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_table_of_agreement_looks_as_it_did(
    watched, read_twice, pytestconfig, tmp_path, scheme
):
    watched.page.emulate_media(color_scheme=scheme)
    page = opened(watched, read_twice)
    drawn = page.locator("#agreement-table")
    shown = drawn.screenshot(animations="disabled")
    compare(shown, f"agreement-{scheme}.png", pytestconfig, tmp_path)


def test_on_a_narrow_screen_nothing_runs_out_of_the_page(watched, server):
    watched.page.set_viewport_size({"width": 390, "height": 800})
    page = opened(watched, server)
    page.wait_for_selector("#weights-chart .main-svg")
    page.wait_for_function("() => document.documentElement.scrollWidth <= window.innerWidth")


def test_a_server_that_is_gone_is_told_in_a_sentence(watched, server):
    page = opened(watched, server)
    page.context.set_offline(True)
    page.get_by_role("button", name="Reload").click()
    page.get_by_text("The server does not answer.").wait_for()
    page.context.set_offline(False)
    page.get_by_role("button", name="Reload").click()
    page.wait_for_selector("#trouble", state="hidden")


def test_without_the_charts_script_the_tables_are_open_and_a_sentence_says_so(watched, server):
    watched.page.route("**/plotly.min.js", lambda route: route.fulfill(status=404))
    page = opened(watched, server)
    page.get_by_text("The charts could not be drawn").wait_for()
    assert page.locator("#dice-table table").is_visible()
    assert page.locator("#dice-chart").is_hidden()


def test_the_token_is_in_no_log_that_readers_can_get_at(watched, server):
    opened(watched, server)
    logged = (server.root / "app" / "logs" / "app.log").read_text(errors="replace")
    assert f"'lead_token': '{'*' * len(TOKEN)}'" in logged
    assert TOKEN not in logged
    assert f"{server.url}/fairness/" in server.log
    # A training's process logs its options, and readers see its last lines.
    answer = running_training(server)
    logged = (server.root / "app" / "logs" / "app.log").read_text(errors="replace")
    assert logged.count("Initializing App") == 2
    assert TOKEN not in logged + answer


def running_training(server):
    """All that GET /train/ told of a training until it ended."""
    request = urllib.request.Request(
        f"{server.url}/train/caudate",
        data=b'{"train_steps": 1}',
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60):
        told = []

    def ended():
        with urllib.request.urlopen(f"{server.url}/train/?all=true", timeout=60) as reply:
            told.append(reply.read().decode())
        return '"DONE"' in told[-1] or '"ERROR"' in told[-1]

    serving.wait_for(ended, what="end of a training")
    return "".join(told)
