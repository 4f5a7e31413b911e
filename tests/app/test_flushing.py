"""What did not wait for the disk is there soon."""

import queue
import sqlite3

import pytest

from fair_strategy.host import flushing
from fair_strategy.host.flushing import Flushing


class Disk:
    """A store that notes what is asked of it; it fails as often as it is told to."""

    def __init__(self, fails=0, error=None, log_fails=False):
        self.asked, self.fails = queue.Queue(), fails
        self.error, self.log_fails = error or OSError(5, "Input/output error"), log_fails

    def flush(self):
        self.asked.put("flush")
        if self.fails:
            self.fails -= 1
            raise self.error

    def empty_log(self):
        self.asked.put("empty")
        if self.log_fails:
            raise sqlite3.OperationalError("disk I/O error")


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(flushing, "FLUSH_S", 0.01)


def asked_of(disk, times):
    running = Flushing(disk)
    running.start()
    asked = [disk.asked.get(timeout=20) for _ in range(times)]
    running.stop()
    return asked


def test_the_log_is_forced_to_the_disk_again_and_again_and_emptied_seldom():
    assert asked_of(Disk(), 5) == ["flush"] * 5


def test_the_log_is_emptied_when_it_is_time(monkeypatch):
    monkeypatch.setattr(flushing, "EMPTY_S", 0.0)
    assert asked_of(Disk(), 4) == ["flush", "empty"] * 2


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ValueError("of no kind")])
def test_a_disk_that_fails_is_told_of_once_and_asked_again(caplog, error):
    assert asked_of(Disk(fails=3, error=error), 6) == ["flush"] * 6
    assert caplog.text.count("is not on the disk yet") == 1


def test_a_log_that_is_not_emptied_is_no_hand_out_that_is_not_on_the_disk(monkeypatch, caplog):
    monkeypatch.setattr(flushing, "EMPTY_S", 0.0)
    assert asked_of(Disk(log_fails=True), 4) == ["flush", "empty"] * 2
    assert caplog.text.count("was not emptied") == 1
    assert "on the disk yet" not in caplog.text


def test_when_it_ends_it_forces_once_more(monkeypatch):
    monkeypatch.setattr(flushing, "FLUSH_S", 60.0)
    disk = Disk()
    running = Flushing(disk)
    running.start()
    running.stop()
    assert disk.asked.get(timeout=20) == "flush"
