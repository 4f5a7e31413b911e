"""How often an archive is asked: regularly, and ever more rarely while it does not answer."""

import pytest

from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.host.dicomweb import LONGEST_WAIT_S, PacsWatcher, Patience
from fair_strategy.store import cases
from fair_strategy.workflows.study import open_study
from tests.app import cohorts
from tests.pacs.conftest import scan_series


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_waits_double_up_to_a_bound_and_a_success_ends_them():
    clock = Clock()
    patience = Patience(60.0, clock=clock)
    waits = []
    for _ in range(9):
        assert patience.due
        patience.failed()
        before = clock.now
        while not patience.due:
            clock.now += 1
        waits.append(clock.now - before)
    assert waits == [5, 10, 20, 40, 80, 160, LONGEST_WAIT_S, LONGEST_WAIT_S, LONGEST_WAIT_S]
    patience.succeeded()
    clock.now += 59
    assert not patience.due
    clock.now += 1
    assert patience.due


def test_a_series_that_arrives_is_taken_up_at_the_next_look_that_is_due(orthanc, tmp_path):
    cohorts.write_model(tmp_path / "pretrained.pt")
    study = open_study(
        orthanc.dicomweb, state_dir=tmp_path / "state", shipped_model=tmp_path / "pretrained.pt"
    )
    clock = Clock()
    watcher = PacsWatcher(study, poll_s=60.0, clock=clock)
    assert watcher.look()
    assert cases.cases(study.store) == []
    orthanc.store(scan_series(1)[1])
    assert not watcher.look()
    clock.now += 60
    assert watcher.look()
    assert len(cases.cases(study.store)) == 1
    orthanc.stop()
    clock.now += 60
    with pytest.raises(ArchiveUnavailable):
        watcher.look()
    assert not watcher.look()  # not at once again
    orthanc.start()
    clock.now += 5
    assert watcher.look()
