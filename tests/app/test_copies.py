"""When the running server copies its database."""

import pytest

from fair_strategy.host.copies import EVERY_S, Copies
from fair_strategy.store.recovery import backups
from fair_strategy.store.settings import set_value


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def copies(study):
    clock = Clock()
    return Copies(study, clock=clock), clock


def write(study, value):
    set_value(study.store, "turn", value)


def test_a_round_that_has_ended_is_copied(study, copies):
    made, _ = copies
    write(study, "scored")
    assert not made.look()
    assert not made.look(after="compare")
    assert made.look(after="score")
    assert len(backups(study.state_dir)) == 1


def test_what_was_written_since_is_copied_now_and_then(study, copies):
    made, clock = copies
    write(study, "submitted")
    clock.now = EVERY_S
    assert made.look()
    clock.now += EVERY_S - 1
    write(study, "submitted again")
    assert not made.look()
    clock.now += 1
    assert made.look()


def test_a_database_that_did_not_change_is_not_copied(study, copies):
    made, clock = copies
    clock.now = EVERY_S
    assert not made.look()
    assert not made.look(after="score")
    assert backups(study.state_dir) == []


def test_a_copy_that_fails_is_said_and_tried_again_at_its_time(study, copies, caplog):
    made, clock = copies
    write(study, "submitted")
    (study.state_dir / "backups").write_text("a file in the place of the folder")
    clock.now = EVERY_S
    assert not made.look()
    assert "no copy of the database was made" in caplog.text
    (study.state_dir / "backups").unlink()
    clock.now += EVERY_S
    assert made.look()
