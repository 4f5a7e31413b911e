"""Outcomes wait for the disk up to a bound, and whatever was put is written in the end."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fair_strategy.store.predictions import StoredPrediction
from fair_strategy.workflows import writing
from fair_strategy.workflows.assessment import Assessment
from fair_strategy.workflows.outcomes import Outcome

OUTCOME = Outcome(
    StoredPrediction(
        case_id="c",
        model="m",
        shape=(2, 2, 2),
        affine=np.eye(4),
        box=np.array([[0, 2]] * 3),
        mask=np.ones((2, 2, 2), dtype=np.bool_),
        entropy=np.ones((2, 2, 2), dtype=np.float16),
        peaks=(),
        flags=(),
        route="localised",
        trust=1.0,
        fingerprint="f",
    ),
    Assessment({"entropy": 0.5}, 8.0, (), ()),
    None,
)
BYTES = 8 + 16


@pytest.fixture
def disk(monkeypatch):
    """A disk that writes when it is let to; `kept` are the sizes of what it wrote at once."""
    told = SimpleNamespace(free=threading.Event(), kept=[])

    def keep(study, outcomes):
        told.free.wait(timeout=20)
        told.kept.append(len(outcomes))

    monkeypatch.setattr(writing, "keep", keep)
    return told


def put(writer, number):
    named = replace(OUTCOME, stored=replace(OUTCOME.stored, case_id=f"c{number}"))
    writer.put((SimpleNamespace(case_id=f"c{number}"), named))


def ids(found):
    return [record.case_id for record, _ in found]


@pytest.mark.parametrize("bound", [("_MOST", 2), ("_MOST_BYTES", 2 * BYTES)])
def test_what_waits_for_the_disk_is_bounded_in_number_and_in_bytes(disk, monkeypatch, bound):
    monkeypatch.setattr(writing, *bound)
    with writing.Writer(None) as writer:
        for number in range(2):
            put(writer, number)
            assert ids(writer.written()) == []
        put(writer, 2)
        threading.Timer(0.2, disk.free.set).start()
        first = ids(writer.written())  # waits for the disk
        assert disk.free.is_set()
        rest = ids(writer.written(everything=True))
    assert first[:1] == ["c0"]
    assert first + rest == ["c0", "c1", "c2"]


def test_what_comes_while_the_disk_is_busy_is_committed_together(disk):
    with writing.Writer(None) as writer:
        for number in range(8):
            put(writer, number)
        disk.free.set()
        found = ids(writer.written(everything=True))
    assert found == [f"c{number}" for number in range(8)]
    assert sum(disk.kept) == 8
    assert len(disk.kept) <= 2  # what had come when it began, and the rest


def test_what_has_no_outcome_comes_in_its_turn_and_writes_nothing(disk):
    disk.free.set()
    with writing.Writer(None) as writer:
        put(writer, 0)
        writer.put((SimpleNamespace(case_id="unreadable"), "why"))
        assert ids(writer.written(everything=True)) == ["c0", "unreadable"]
    assert sum(disk.kept) == 1


def test_that_nothing_can_be_written_is_raised(monkeypatch):
    def full(study, outcomes):
        raise OSError("no space left on device")

    monkeypatch.setattr(writing, "keep", full)
    with writing.Writer(None) as writer:
        put(writer, 0)
        with pytest.raises(OSError, match="no space left"):
            list(writer.written(everything=True))
