"""The tools of the side panel by mouse in a real browser; what they did is read from the draft."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from fair_strategy.data.volumes import read_image, read_labels
from tests.viewer.study import Reader, label, wait_until

pytestmark = [pytest.mark.usefixtures("slicer"), pytest.mark.timeout(900)]
LONG_S = 240.0
SMALLEST = 200
"""Voxels of a piece that "Remove small pieces" keeps: the dab of the test has fewer."""


@dataclass
class AtWork:
    """A reader with a scan, who uses the mouse alone.

    Attributes:
        server: address of the server, which keeps the drafts.
        folder: for what is downloaded.
    """

    reader: Reader
    server: str
    name: str
    case: str
    folder: Path

    def __post_init__(self) -> None:
        from fair_strategy.viewer.client import ReviewClient

        self.client = ReviewClient(self.server, self.name)

    def draft(self) -> np.ndarray | None:
        """Where the mask is that was kept last; None before the first."""
        found = self.client.draft(self.case, self.folder)
        return None if found is None else read_labels(found).array != 0

    def becomes(self, wanted: Callable[[np.ndarray], bool], *, what: str) -> np.ndarray:
        """The first draft that is as wanted."""
        kept: list[np.ndarray] = []

        def there() -> bool:
            found = self.draft()
            if found is None or not wanted(found):
                return False
            kept.append(found)
            return True

        wait_until(there, what=what, within_s=LONG_S)
        return kept[-1]

    def take_up(self, tool: str) -> None:
        self.reader.page.click(f"[data-test=tool-{tool}]")
        self.reader.page.locator(f"[data-test=tool-{tool}][aria-pressed=true]").wait_for()

    def press(self, button: str) -> None:
        self.reader.page.get_by_role("button", name=button, exact=True).click()

    def drag(self, places: Sequence[tuple[float, float]]) -> None:
        """Press the left button at the first place, let it go at the last."""
        mouse = self.reader.page.mouse
        mouse.move(*places[0])
        time.sleep(0.3)
        mouse.down()
        for place in places[1:]:
            mouse.move(*place)
            time.sleep(0.1)
        mouse.up()

    def try_out(self, use: Callable[[], None], *, on: np.ndarray, what: str) -> np.ndarray:
        """What a tool makes of a mask; taken back by the panel's button, the mask is as before."""
        use()
        made = self.becomes(lambda mask: not np.array_equal(mask, on), what=what)
        self.reader.until("s.can_undo && !s.can_redo")
        self.reader.page.click("[data-test=undo]")
        self.becomes(lambda mask: np.array_equal(mask, on), what=f"undo of {what}")
        self.reader.until("s.can_redo")
        return made


def pieces(mask: np.ndarray) -> np.ndarray:
    """Number of each voxel's connected piece; 0 outside."""
    return ndimage.label(mask)[0]


def sizes(mask: np.ndarray) -> np.ndarray:
    """Voxels of each connected piece."""
    return np.bincount(pieces(mask).ravel())[1:]


def of_pieces(mask: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The pieces of a mask that are to be kept, one truth value a piece."""
    return np.concatenate([[False], keep])[pieces(mask)]


def raise_lowest(work: AtWork, intensity: float) -> tuple[float, float]:
    """Drag the lower thumb of "Intensities" to about an intensity; the range that it then is."""
    row = work.reader.page.locator(".fr-row", has_text="Intensities")
    row.scroll_into_view_if_needed()
    thumb = row.locator(".v-slider-thumb").first.bounding_box()
    track = row.locator(".v-slider-track").bounding_box()
    lowest, highest = work.reader.state("intensities")
    share = (intensity - lowest) / (highest - lowest)
    y = thumb["y"] + thumb["height"] / 2
    end = track["x"] + share * track["width"]
    work.drag([(thumb["x"] + thumb["width"] / 2, y), (end - 5, y), (end, y)])
    step = (highest - lowest) / 200
    # A pixel is about a step of the slider.
    work.reader.until(f"Math.abs(s.paint_range[0] - {intensity}) < {4 * step}")
    low, high = work.reader.state("paint_range")
    return low, high


def dab(work: AtWork, original: np.ndarray, at: tuple[float, float]) -> np.ndarray:
    """The mask with a dab of a round brush beside it, for the other tools to work on."""
    work.take_up("paint")
    work.reader.page.get_by_label("round, through slices (b)").check()
    work.reader.set("brush_mm", 8)
    work.drag([at, (at[0] + 1, at[1])])
    drawn = work.becomes(lambda mask: mask.sum() > original.sum(), what="a dab of the brush")
    assert not (original & ~drawn).any()
    assert len(sizes(drawn)) == len(sizes(original)) + 1
    assert 10 < drawn.sum() - original.sum() < min(SMALLEST, sizes(original).max())
    return drawn


def test_each_tool_of_the_panel_is_used_by_mouse_and_taken_back(server, new_reader, tmp_path):
    name = "mina"
    reader = new_reader(name)
    case = reader.next_case()
    original = label(server, case, "original")
    work = AtWork(reader, server.url, name, case, tmp_path)
    box = reader.box(0)
    x, y = box["x"] + box["width"] / 2, box["y"] + 0.72 * box["height"]  # behind the caudate
    drawn = dab(work, original, (x, y))

    work.take_up("islands")
    largest = work.try_out(
        lambda: work.press("Keep the largest piece"), on=drawn, what="the largest piece"
    )
    assert np.array_equal(largest, of_pieces(drawn, sizes(drawn) == sizes(drawn).max()))
    reader.set("smallest", SMALLEST)
    without_small = work.try_out(
        lambda: work.press("Remove small pieces"), on=drawn, what="no small pieces"
    )
    assert np.array_equal(without_small, of_pieces(drawn, sizes(drawn) >= SMALLEST))

    work.take_up("smoothing")
    smooth = work.try_out(lambda: work.press("Smooth"), on=drawn, what="a smoother mask")
    # 3 mm on voxels of 1.5 mm: the median of 3 x 3 x 3 voxels.
    assert np.array_equal(smooth, ndimage.median_filter(drawn, size=3))

    work.take_up("threshold")
    scan = read_image(work.client.scan(case, tmp_path)).array
    low, high = raise_lowest(work, float(np.median(scan[drawn])))
    within = work.try_out(
        lambda: work.press("Keep only what lies within"), on=drawn, what="a range of intensities"
    )
    assert np.array_equal(within, drawn & (scan >= low) & (scan <= high))

    work.take_up("scissors")
    turns = np.linspace(0, 2 * math.pi, 13)
    around = [(x + 45 * math.cos(turn), y + 45 * math.sin(turn)) for turn in turns]
    cut = work.try_out(lambda: work.drag(around), on=drawn, what="a cut around the dab")
    assert np.array_equal(cut, original)
