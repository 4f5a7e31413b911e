"""What did not wait for the disk is there soon, whatever the background is waiting for."""

import queue

import pytest

from fair_strategy.host import flushing
from fair_strategy.host.flushing import Flushing


class Disk:
    """A store that notes what is asked of it; it fails as often as it is told to."""

    def __init__(self, fails=0):
        self.asked, self.fails = queue.Queue(), fails

    def flush(self):
        self.asked.put("flush")
        if self.fails:
            self.fails -= 1
            raise OSError(5, "Input/output error")

    def empty_log(self):
        self.asked.put("empty")


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


def test_a_disk_that_fails_is_told_of_once_and_asked_again(caplog):
    assert asked_of(Disk(fails=3), 6) == ["flush"] * 6
    assert caplog.text.count("is not on the disk yet") == 1


def test_when_it_ends_it_forces_once_more(monkeypatch):
    monkeypatch.setattr(flushing, "FLUSH_S", 60.0)
    disk = Disk()
    running = Flushing(disk)
    running.start()
    running.stop()
    assert disk.asked.get(timeout=20) == "flush"
