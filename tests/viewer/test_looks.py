"""What the review page looks like, compared with pictures that were looked at."""

import time
from pathlib import Path

import pytest
import requests

from tests import pictures
from tests.app import serving
from tests.viewer.study import Reader

pytestmark = [pytest.mark.usefixtures("slicer"), pytest.mark.timeout(900)]
PICTURES = Path(__file__).with_name("pictures")
CASE = "sub-019_T1w"
TOLERANCE = 6.0
"""Grey levels of the worst block of 16 x 16 pixels; repeated runs differed by 0."""


def take(server: serving.Server, case_id: str, name: str) -> None:
    """Next Sample until a reader has this scan, with what is hidden of it."""
    for _ in range(60):
        mine = {"client_id": name}
        asked = requests.post(
            f"{server.url}/activelearning/weighted_entropy", json=mine, timeout=60
        )
        found = asked.json().get("id")
        if found == case_id:
            body = {**mine, "image": case_id}
            requests.post(f"{server.url}/reader/reveal", json=body, timeout=60).raise_for_status()
            return
        body = {**mine, "image": found, "reason": "another time"}
        requests.post(f"{server.url}/reader/skip", json=body, timeout=60).raise_for_status()
    raise AssertionError(f"{case_id} was not handed out")


def settled(reader: Reader, view: int) -> bytes:
    """What a view shows once it has stopped changing."""
    before = b""
    for _ in range(60):
        time.sleep(1.5)
        shown = reader.picture(view)
        if shown == before:
            return shown
        before = shown
    raise AssertionError("the view never came to rest")


@pytest.mark.parametrize(("view", "name"), [(0, "axial"), (3, "sagittal")])
def test_a_slice_with_mask_overlay_scale_and_letters_looks_as_it_did(
    server, new_reader, pytestconfig, tmp_path, view, name
):
    reader_name = f"painter {name}"
    take(server, CASE, reader_name)
    reader = new_reader(reader_name)
    reader.until("s.has_case && !s.busy && s.has_peaks")
    reader.key("u", "z", "z")
    reader.until("s.peaks.startsWith('place 1 of')")
    reader.page.locator(".v-snackbar__wrapper").wait_for(state="hidden")
    shown = settled(reader, view)
    write = pytestconfig.getoption("--new-pictures")
    reference = PICTURES / f"{name}.png"
    pictures.check(shown, reference, tolerance=TOLERANCE, write=write, scratch=tmp_path)
    # The comparison sees what matters: the overlay, the mask, one letter.
    for key in ("e", "m"):
        reader.key(key)
        reader.picture_changes(view, shown)
        without = settled(reader, view)
        assert pictures.difference(without, shown) > 3 * TOLERANCE
        reader.key(key)
        reader.picture_changes(view, without)
        assert pictures.difference(settled(reader, view), shown) <= TOLERANCE
    letter = reader.page.locator(f"[data-edge={'Red' if view == 0 else 'Yellow'}-left]")
    letter.evaluate("(edge) => { edge.textContent = 'L' }")
    assert pictures.difference(reader.picture(view), shown) > TOLERANCE
    requests.post(
        f"{server.url}/reader/skip",
        json={"client_id": reader_name, "image": CASE, "reason": "another time"},
        timeout=60,
    ).raise_for_status()


def test_the_surface_shows_what_is_drawn_and_undo_takes_it_from_there(new_reader):
    reader = new_reader("painter of surfaces")
    reader.next_case()
    reader.page.locator(".v-snackbar__wrapper").wait_for(state="hidden")
    before = settled(reader, 1)
    reader.key("2", "b")
    reader.until("s.tool === 'paint' && s.sphere")
    reader.set("brush_mm", 16)
    reader.stroke(0)
    reader.until("s.can_undo")
    reader.key("1")  # the brush is shown in this view too
    reader.until("s.tool === 'look'")
    reader.picture_changes(1, before)
    drawn = settled(reader, 1)
    assert pictures.difference(drawn, before) > 3 * TOLERANCE
    reader.key("Control+z")
    reader.until("!s.can_undo && s.can_redo")
    reader.picture_changes(1, drawn)
    assert pictures.difference(settled(reader, 1), before) <= TOLERANCE
