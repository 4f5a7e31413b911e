"""Colours that are meant to be read: the style sheets of the pages, without a browser."""

import re
from importlib import resources
from pathlib import Path

import pytest

from tests.contrast import MARKS, TEXT, ratio, variables

ROOT = Path(__file__).resolve().parents[2]
GROUPS = [f"group-{number}" for number in range(1, 7)]


def test_black_on_white_is_21_a_colour_on_itself_1_and_a_grey_as_worked_out_elsewhere():
    assert ratio("#000", "#ffffff") == pytest.approx(21.0)
    assert ratio("#1b7f9c", "#1b7f9c") == 1.0
    # 0x76 = 118: (118 / 255 = .4627, + .055) / 1.055 = .4907, ^ 2.4 = .1812; 1.05 / .2312 = 4.54.
    assert ratio("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)


def schemes() -> dict[str, dict[str, str]]:
    """The dashboard's colours in light, dark and print."""
    css = resources.files("fair_strategy.host.routes.page").joinpath("dashboard.css").read_text()
    light, rest = css.split("@media (prefers-color-scheme: dark)")
    dark, printed = rest.split("@media print")
    own = variables(light)
    return {"light": own, "dark": own | variables(dark), "print": own | variables(printed)}


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_and_marks_of_the_dashboard_stand_out(scheme):
    colours = schemes()[scheme]
    texts = [
        *((ink, on) for ink in ("ink", "soft", "accent", "warn") for on in ("page", "card")),
        *((ink, "warn-card") for ink in ("ink", "soft")), ("good", "card"),
        *(("on-accent", bar) for bar in ("labelled", "excluded", *GROUPS)),
        ("ink", "pool"),
    ]  # fmt: skip
    marks = [(mark, "card") for mark in ("labelled", "excluded", "strong-line", *GROUPS)]
    faint = [
        (one, on, round(ratio(colours[one], colours[on]), 2))
        for pairs, least in ((texts, TEXT), (marks, MARKS))
        for one, on in pairs
        if ratio(colours[one], colours[on]) < least
    ]
    assert faint == []


def test_the_review_page_is_read_on_its_grounds():
    css = (ROOT / "fair_strategy/viewer/static/page.css").read_text()
    colours = variables(css)
    for ink in ("text", "quiet", "accent", "warm"):
        for on in ("ground", "panel"):
            assert ratio(colours[ink], colours[on]) >= TEXT, (ink, on)


def test_a_problem_in_slicer_is_read_whether_slicer_is_light_or_dark():
    panel = (ROOT / "slicer_extension/FairReview/FairReviewPanel/__init__.py").read_text()
    (sheet,) = re.findall(r'problem\.setStyleSheet\("([^"]+)"\)', panel)
    style = dict(part.strip().split(": ") for part in sheet.split(";"))
    assert ratio(style["color"], style["background"]) >= TEXT
