"""Many readers at one real server whose wall clock jumps; counted from the store afterwards."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fair_strategy.data.volumes import read_mask
from fair_strategy.viewer.client import ReviewClient
from tests.app import cohorts, serving
from tests.app.reading_room import (
    Handout,
    Notes,
    Room,
    books,
    given_again,
    given_twice,
    marked_mask,
    noted,
)

CLOCK = Path(__file__).parent / "clock"
LEASE_S = 1.5
MANNERS = {"submit": 0.6, "skip": 0.12, "hand back": 0.12, "go away": 0.1, "late": 0.06}


class Clock:
    """The server's wall clock, which is set forward by a day and then back by two."""

    def __init__(self, offset: Path) -> None:
        self._offset = offset
        self.jumps = []
        self.set(0.0)

    def set(self, seconds: float) -> None:
        # By rename: the server reads it at any moment.
        part = self._offset.with_suffix(".part")
        part.write_text(str(seconds))
        os.replace(part, self._offset)

    def jump(self, notes: Notes) -> None:
        for after, seconds in ((4, 86400.0), (12, -86400.0)):
            if len(notes.submitted) >= after and seconds not in self.jumps:
                self.jumps.append(seconds)
                self.set(seconds)


@pytest.fixture
def room(tmp_path, request):
    """A server with scans of which none is labelled or scored, and its clock."""
    readers, scans = request.param
    cohorts.write_cohort(tmp_path / "studies", per_group=scans // 2, labelled=0)
    serving.application(tmp_path)
    clock = Clock(tmp_path / "clock")
    options = {
        "lease_minutes": LEASE_S / 60,
        "skip_minutes": 0.5 / 60,
        "validation_per_group": 0,
        "enable_background": "false",
        "readers_per_case": readers,
    }
    words = [str(word) for pair in options.items() for word in ("--conf", *pair)]
    more = {
        "PYTHONPATH": os.pathsep.join([str(CLOCK), str(serving.ROOT)]),
        "WALL_CLOCK": str(tmp_path / "clock"),
    }
    with serving.serve(tmp_path, *words, more=more) as server:
        yield server, clock


@pytest.mark.parametrize("room", [(1, 32)], indirect=True)
def test_no_scan_is_given_twice_none_is_lost_and_every_label_is_kept(room):
    server, clock = room
    notes = Room(server, MANNERS, lease_s=LEASE_S).read(8, meanwhile=clock.jump)
    found = books(server.state)
    assert clock.jumps == [86400.0, -86400.0]
    assert given_twice(notes.handouts, LEASE_S) == []
    assert found.handouts == noted(notes)
    assert (len(found.labelled), found.open) == (32, ())
    assert found.work == Counter(notes.submitted)
    assert found.skips == Counter(notes.skipped)
    assert max(found.times) - min(found.times) > 86400.0  # the server's clock did jump
    # Each manner occurred, and scans whose readers went away came back to somebody.
    assert notes.gone > 0
    assert notes.late > 0
    assert notes.skipped
    again = Counter(h.case_id for h in notes.handouts)
    assert max(again.values()) > 1


@pytest.mark.parametrize("room", [(2, 16)], indirect=True)
def test_two_read_each_scan_one_after_the_other_and_nobody_twice(room):
    server, clock = room
    _reopen_by_the_page(server)
    notes = Room(server, MANNERS, lease_s=LEASE_S, seed=1).read(8, meanwhile=clock.jump)
    found = books(server.state, readers=2)
    assert given_twice(notes.handouts, LEASE_S) == []
    assert given_again(notes.handouts) == []
    of_the_page = Counter({key: n for key, n in found.handouts.items() if key[0] == "page"})
    assert list(of_the_page.values()) == [2]  # handed out, and opened again
    assert found.handouts == noted(notes) + of_the_page
    assert found.work == Counter(notes.submitted) + Counter(of_the_page.keys())
    assert found.open == ()
    assert len(found.readers) == 16
    assert all(len(set(read_by)) >= 2 for read_by in found.readers.values())
    # Of what somebody had in hand when the last reading came, the background makes the label.
    assert {*found.labelled, *found.due} == found.readers.keys()
    assert len(found.labelled) > 8


def _reopen_by_the_page(server):
    """The review page's reader submits, and starts from their own label when they re-open it."""
    page = ReviewClient(server.url, "page")
    sent = cohorts.save(server.root / "sent.nii.gz", marked_mask(2**20))
    case_id = page.next_case("random").id
    assert page.own_label(case_id, server.root) is None
    page.submit(case_id, sent)
    assert page.reopen().id == case_id
    back = page.own_label(case_id, server.root)
    np.testing.assert_array_equal(read_mask(back).array, marked_mask(2**20))
    assert page.label(case_id, "final", server.root) is None
    page.submit(case_id, sent)
    page.close()


def test_the_proof_finds_a_scan_that_was_given_twice():
    held = Handout("ann", "c0", asked=0.0, got=0.1, left=5.0)
    early = Handout("bob", "c0", asked=0.9, got=1.0)
    after_its_end = Handout("bob", "c0", asked=4.9, got=5.1)
    expired = Handout("bob", "c0", asked=2.9, got=3.1)
    assert given_twice([held, early], lease_s=10.0) == [(held, early)]
    assert given_twice([held, after_its_end], lease_s=10.0) == []
    assert given_twice([held, expired], lease_s=3.0) == []
    held.submitted, once_more = True, Handout("ann", "c0", asked=6.0, got=6.1)
    assert given_again([held, once_more, early]) == [(held, once_more)]
    held.submitted = False
    assert given_again([held, once_more]) == []
