"""What waits for the disk, what does not, and what a power cut takes of the latter."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fair_strategy.store import Store, cases, database, plans, readings, reveals, scores
from fair_strategy.store.database import DATABASE_NAME
from fair_strategy.store.scores import ModelRecord, ScoreRecord

FULL, NORMAL = 2, 1


def score(study) -> None:
    record = ScoreRecord("c0", "10-1", "model-a", "settings", {}, 1.0, (), 0.0)
    scores.add_score(study.store, record)


SWIFT: dict[str, Callable[..., object]] = {
    "a hand-out": lambda study: study.take("ann"),
    "what was shown with it": lambda study: plans.set_seen_model(
        study.store, "c0", "ann", "model-a", wait_for_disk=False
    ),
    "a lease that goes on": lambda study: plans.renew(study.store, "ann", now=0.0, lease_s=60.0),
    "a score": score,
    "a plan": lambda study: study.plan("c0", "c1"),
}
WAITING: dict[str, Callable[..., object]] = {
    "a label": lambda study: study.save("c0"),
    "a label's info": lambda study: cases.update_label_info(study.store, "c5", "final", {"a": 1}),
    "a reading": lambda study: readings.save_reading(
        study.store, study.label("c1", readings.reading_tag("ann")), edited_mm3=None
    ),
    "a reveal": lambda study: reveals.reveal(study.store, "c0", "ann"),
    "what was asked for": lambda study: plans.set_seen_model(study.store, "c0", "ann", "model-a"),
    "a case given back": lambda study: plans.release(
        study.store, "c0", "ann", now=0.0, cool_down_s=1.0, reason="moved"
    ),
    "a case taken again": lambda study: plans.take_again(
        study.store, "c0", "ann", now=0.0, lease_s=60.0
    ),
    "a case set aside": lambda study: cases.exclude(study.store, "c1", "artefact", by="ann"),
    "a model": lambda study: scores.add_model(
        study.store, ModelRecord("model-b", Path("b.pt"), 1.0, "shipped", {})
    ),
}


def levels(study, work: Callable[..., object]) -> set[int]:
    """How each commit of some work was synchronised: FULL waits for the disk, NORMAL does not."""
    found, connection = set(), study.store.read()
    level = connection.execute("PRAGMA synchronous").fetchone()[0]

    def follow(statement: str) -> None:
        nonlocal level
        if statement.startswith("PRAGMA synchronous"):
            level = {"FULL": FULL, "NORMAL": NORMAL}[statement.rpartition(" ")[2]]
        if statement == "COMMIT":
            found.add(level)

    connection.set_trace_callback(follow)
    work(study)
    connection.set_trace_callback(None)
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == level
    return found


@pytest.mark.parametrize("name", SWIFT)
def test_what_somebody_waits_for_or_can_be_made_again_does_not_wait_for_the_disk(study, name):
    assert levels(study, SWIFT[name]) == {NORMAL}


@pytest.mark.parametrize("name", WAITING)
def test_what_a_reader_made_or_told_waits_for_the_disk(study, name):
    study.save("c5")
    study.take("ann")
    assert levels(study, WAITING[name]) == {FULL}


def test_after_a_swift_transaction_that_failed_the_next_one_waits_again(study):
    with pytest.raises(KeyError), study.store.transaction(wait_for_disk=False):
        raise KeyError("on the way")
    assert levels(study, lambda study: study.save("c0")) == {FULL}


def test_a_switch_that_is_interrupted_is_made_again(study):
    study.save("c1")

    class Interrupted:
        in_transaction = False

        def execute(self, statement):
            study.store.read().execute(statement)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.store._set_waiting(Interrupted(), False)
    assert levels(study, lambda study: study.save("c0")) == {FULL}


def test_a_thread_that_committed_swiftly_waits_again_for_a_label_after_it_was_closed(study):
    study.take("ann")
    study.store.close()
    assert levels(study, lambda study: study.save("c0")) == {FULL}


def after_a_power_cut(store: Store, folder: Path, log: bytes) -> Store:
    """The database of a machine whose disk has this much of the log."""
    folder.mkdir(mode=0o700)
    shutil.copy(store.path, folder / DATABASE_NAME)
    (folder / f"{DATABASE_NAME}-wal").write_bytes(log)
    return Store.open(folder)


def log_of(store: Store) -> Path:
    return store.path.with_name(f"{DATABASE_NAME}-wal")


def handed(store: Store) -> list[tuple[str, str]]:
    return [(decision.case_id, decision.client_id) for decision in plans.decisions(store)]


def test_a_disk_that_has_a_label_has_its_hand_out_and_what_was_shown_with_it(study, tmp_path):
    study.take("ann", now=0.0, shown=("c0", "model-a"))
    study.save("c0", client_id="ann")
    with_label = log_of(study.store).read_bytes()
    study.take("bob", now=1.0)
    kept = after_a_power_cut(study.store, tmp_path / "after", with_label)
    assert kept.recovery is None
    assert [label.case_id for label in cases.labels(kept)] == ["c0"]
    assert handed(kept) == [("c0", "ann")]
    assert plans.holder_saw(kept, "c0", "ann") == "model-a"


@pytest.mark.parametrize("lost", ["the end", "a sector"])
def test_what_the_disk_has_of_a_hand_out_is_all_of_it_or_nothing(study, tmp_path, lost):
    before = log_of(study.store).stat().st_size
    study.take("ann", now=0.0)
    log = log_of(study.store).read_bytes()
    whole = after_a_power_cut(study.store, tmp_path / "whole", log)
    assert handed(whole) == [("c0", "ann")]
    assert len(log) > before
    for start in range(before, len(log), 1021):
        never_written = bytes(255 - byte for byte in log[start : start + 512])
        rest = b"" if lost == "the end" else never_written + log[start + 512 :]
        kept = after_a_power_cut(study.store, tmp_path / str(start), log[:start] + rest)
        assert (handed(kept), plans.leases(kept, 0.0)) == ([], [])
        assert type(study)(kept).take("bob") == "c0"


def test_flush_forces_the_log_to_the_disk_and_needs_none(study, monkeypatch):
    forced: list[str] = []
    real = database.sync_file

    def sync(path: Path) -> None:
        real(path)
        forced.append(path.name)

    monkeypatch.setattr(database, "sync_file", sync)
    study.take("ann")
    study.store.flush()
    assert forced == [f"{DATABASE_NAME}-wal"]
    study.store.close()  # the last connection: all of the log moves into the database
    study.store.flush()
    assert forced == [f"{DATABASE_NAME}-wal"]


def test_an_emptied_log_has_left_everything_in_the_database(study, tmp_path):
    study.take("ann", now=0.0)
    study.store.empty_log()
    assert handed(after_a_power_cut(study.store, tmp_path / "after", b"")) == [("c0", "ann")]
