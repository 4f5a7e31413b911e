"""The review page in a real browser, at a real server: what a reader does in a day."""

import os
import signal
import time

import numpy as np
import pytest

from tests import contrast
from tests.viewer.study import Reader, label, wait_until

pytestmark = [pytest.mark.usefixtures("slicer"), pytest.mark.timeout(900)]
SUBGROUP_WORDS = ("group", "sex", "age", "weight", "utility", "quota", "gap")


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


_COUNT = """() => {
  window.frames_seen = [0, 0, 0, 0];
  document.querySelectorAll('.layout-grid-item').forEach((view, n) => new MutationObserver(
    () => window.frames_seen[n] += 1
  ).observe(view, { subtree: true, attributes: true, attributeFilter: ['src'], childList: true }));
}"""


def frames(reader: Reader, *, after_s: float = 0.0) -> list[int]:
    """How many pictures each view has had."""
    time.sleep(after_s)
    return reader.page.evaluate("() => window.frames_seen")


def test_a_turned_slice_draws_its_own_view_alone_and_a_drag_sets_the_window(new_reader):
    reader = new_reader("agnes")
    reader.next_case()
    box, mouse = reader.box(0), reader.page.mouse
    mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    reader.page.evaluate(_COUNT)
    wait_until(lambda: frames(reader) == frames(reader, after_s=1.5), what="views at rest")
    before = frames(reader)
    for _ in range(3):
        mouse.wheel(0, 100)
        time.sleep(0.6)
    wait_until(lambda: frames(reader)[0] >= before[0] + 3, what="three pictures")
    assert frames(reader)[1:] == before[1:], "and they would come first"

    assert reader.state("tool") == "look"
    low, high = reader.state("window")
    before = reader.picture(0)
    reader.stroke(0, dx=60, dy=0)
    reader.until(f"s.window[1] - s.window[0] > {1.2 * (high - low)}")
    reader.picture_changes(0, before)
    assert not reader.state("can_undo"), "nothing was drawn"


def test_what_is_typed_arrives_before_what_uses_it(new_reader):
    reader = new_reader("ada")
    reader.page.get_by_role("button", name="Leave; the draft is kept").click()
    reader.until("s.screen === 'login'")
    # While a call is on its way, as for seconds on a slow line, trame keeps changed values back.
    reader.page.evaluate("() => window.trame.client.beginBusy()")
    reader.page.fill("input[name=reader]", "ada again")
    reader.key("Enter")
    reader.until("s.screen === 'read'")
    assert reader.state("memory.name") == "ada again"  # who the process says is logged in
    reader.page.evaluate("() => window.trame.client.endBusy()")


def test_nothing_is_drawn_while_a_mask_is_handed_in(server, new_reader):
    reader = new_reader("bruno")
    case = reader.next_case()
    reader.key("2", "b", "+", "+", "+", "+")
    reader.until("s.tool === 'paint' && s.sphere")
    os.kill(server.process.pid, signal.SIGSTOP)  # it takes the mask, and answers later
    try:
        reader.key("Control+Enter")
        reader.until("s.busy")
        reader.stroke(0)
        reader.key("Space")
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    reader.until(f"s.has_case && !s.busy && s.case_name !== '{case}'")
    time.sleep(2.0)
    assert not reader.state("can_undo"), "it was drawn into the next scan"
    assert np.array_equal(label(server, case, "final"), label(server, case, "original"))


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
    reader.page.get_by_text("scissors: cut along the corners").wait_for()
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


def test_scissors_are_used_by_keyboard(server, new_reader):
    reader = new_reader("dirk")
    case = reader.next_case()
    reader.key("u", "4")  # at the most uncertain place, on the mask's edge
    reader.until("s.tool === 'scissors' && s.peaks.startsWith('place 1 of')")
    for way in ("ArrowLeft", "ArrowDown", "ArrowRight", "ArrowUp"):
        reader.key(*[way] * (5 if way in ("ArrowLeft", "ArrowDown") else 10), "Space")
    reader.until("s.corners === 4")
    reader.key("Backspace")
    reader.until("s.corners === 3")
    assert "Enter cuts" in reader.page.inner_text("[data-test=corners]")
    reader.key("Space", "Enter")
    reader.until("s.corners === 0 && s.can_undo")
    reader.set("auto_next", False)
    reader.key("Control+Enter")
    reader.until("!s.has_case && !s.busy")
    submitted, original = label(server, case, "final"), label(server, case, "original")
    assert np.count_nonzero(original & ~submitted) > 0
    assert not np.count_nonzero(submitted & ~original), "scissors that erase add nothing"


_FOCUS = """() => {
  const at = document.activeElement;
  let seen = false;
  for (let part = at, up = 0; part && up < 5; part = part.parentElement, up += 1) {
    const style = getComputedStyle(part);
    seen ||= style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2
      && parseFloat(style.opacity) > 0.9;
  }
  at.dataset.visited = 'yes';
  return [at.tagName, at.getAttribute('aria-label') || at.innerText || at.name || '', seen];
}"""
_LEFT_OUT = """() => [...document.querySelectorAll(
    '.fr button, .fr input, .fr select, .fr [role=slider], .fr [role=combobox]')]
  .filter((part) => part.checkVisibility() && !part.disabled && part.tabIndex >= 0
    && !part.closest('[inert]') && !part.dataset.visited)
  .map((part) => part.outerHTML.slice(0, 200))"""


def chosen(page, tool: str) -> None:
    """Wait until the page shows a tool as taken up, and no longer the one before."""
    page.locator(f".fr-tools [aria-pressed=true][title$='({tool})']").wait_for()


def test_tab_reaches_every_control_and_shows_where_it_is(new_reader):
    reader = new_reader("dana")
    reader.next_case()
    for tool in ("1", "2", "4", "5", "6", "7"):
        reader.key(tool)
        chosen(reader.page, tool)
        reader.page.evaluate("() => document.activeElement.blur()")
        unseen = []
        for _ in range(60):
            reader.page.keyboard.press("Tab")
            kind, name, seen = reader.page.evaluate(_FOCUS)
            if kind != "BODY" and not seen:
                unseen.append((kind, name))
        assert unseen == []
        assert reader.page.evaluate(_LEFT_OUT) == []


def walk_to(reader: Reader, choice) -> None:
    """Down through an open list until the focus rests on a choice.

    Once a list has unfolded, its first choice takes the focus: when that comes, before an arrow
    or after it, depends on how busy the machine is.
    """

    def rests() -> bool:
        focused = "e => e === document.activeElement"
        if not choice.evaluate(focused):
            return False
        time.sleep(0.5)
        return choice.evaluate(focused)

    for _ in range(20):
        if rests():
            return
        reader.key("ArrowDown")
    raise AssertionError("twenty arrows did not lead to the choice")


def test_a_list_is_opened_chosen_from_and_left_by_keyboard(new_reader):
    reader = new_reader("doris")
    reader.next_case()
    reader.key("7")
    field = reader.page.get_by_role("combobox", name="Smoothing")
    field.focus()
    choice = reader.page.get_by_role("option", name="opening")
    reader.key("ArrowDown")
    choice.wait_for()
    walk_to(reader, choice)
    reader.key("Enter")
    reader.until("s.smoothing === 'opening'")
    choice.wait_for(state="hidden")
    field.focus()
    reader.key("ArrowDown")
    choice.wait_for()
    reader.key("Escape")
    choice.wait_for(state="hidden")


def stays_faint(page) -> list[str]:
    """Texts of too little contrast; a dialog and a button that can be used now fade in first."""
    found: list[str] = []
    for _ in range(20):
        time.sleep(0.25)
        found = page.evaluate(contrast.FAINT, contrast.TEXT)
        if not found:
            break
    return found


def test_every_text_of_the_page_can_be_read(new_reader):
    reader = new_reader("doro")
    reader.next_case()
    page, faint = reader.page, {}
    assert page.evaluate(contrast.FAINT, 21), "white on black is the only pair that has 21"
    for tool in ("1", "2", "4", "5", "6", "7"):
        reader.key(tool)
        chosen(page, tool)
        faint[tool] = stays_faint(page)
    for key, button in (("h", "Close"), ("k", "Skip"), ("x", "Exclude")):
        reader.key(key)
        page.locator(".v-dialog").get_by_role("button", name=button, exact=True).wait_for()
        if key == "x":
            page.get_by_label("Reason (needed)").first.fill("motion")
        faint[key] = stays_faint(page)
        reader.key("Escape")
        page.locator(".v-dialog").wait_for(state="hidden")
    assert {where: texts for where, texts in faint.items() if texts} == {}


def test_beside_what_was_drawn_the_outline_lies_as_a_line_and_a_sentence_says_so(new_reader):
    reader = new_reader("emma")
    reader.next_case(hidden=True)
    reader.key("2", "b", "Space")
    reader.until("s.can_undo")
    reader.key("p")
    reader.until("!s.hidden && s.has_overlay && s.can_undo")
    assert "What you drew stays" in reader.state("message")


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
