"""What waits for the disk, what does not, and what a power cut takes of the latter."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fair_strategy.store import Store, cases, database, plans, readings, reveals, scores
from fair_strategy.store.database import DATABASE_NAME
from fair_strategy.store.scores import ScoreRecord

FULL, NORMAL = 2, 1


def score(study) -> None:
    record = ScoreRecord("c0", "10-1", "model-a", "settings", {}, 1.0, (), 0.0)
    scores.add_score(study.store, record)


SWIFT: dict[str, Callable[..., object]] = {
    "a hand-out": lambda study: study.take("ann"),
    "what was shown": lambda study: plans.set_seen_model(study.store, "c0", "ann", "model-a"),
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
    "a case given back": lambda study: plans.release(
        study.store, "c0", "ann", now=0.0, cool_down_s=1.0, reason="moved"
    ),
    "a case set aside": lambda study: cases.exclude(study.store, "c1", "artefact", by="ann"),
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


def after_a_power_cut(store: Store, folder: Path, log_bytes: int) -> Store:
    """The database of a machine whose disk has the first bytes of the log, and no more of it."""
    folder.mkdir(mode=0o700)
    shutil.copy(store.path, folder / DATABASE_NAME)
    log = log_of(store).read_bytes()[:log_bytes]
    (folder / f"{DATABASE_NAME}-wal").write_bytes(log)
    return Store.open(folder)


def log_of(store: Store) -> Path:
    return store.path.with_name(f"{DATABASE_NAME}-wal")


def test_a_label_that_outlives_a_power_cut_has_its_hand_out_with_it(study, tmp_path):
    study.take("ann", now=0.0)
    plans.set_seen_model(study.store, "c0", "ann", "model-a")
    study.save("c0", client_id="ann")
    on_disk = log_of(study.store).stat().st_size
    study.take("bob", now=1.0)
    kept = after_a_power_cut(study.store, tmp_path / "after", on_disk)
    assert kept.recovery is None
    assert [label.case_id for label in cases.labels(kept)] == ["c0"]
    assert [(d.case_id, d.client_id) for d in plans.decisions(kept)] == [("c0", "ann")]
    assert plans.holder_saw(kept, "c0", "ann") == "model-a"


def test_what_the_disk_has_of_a_hand_out_is_all_of_it_or_nothing(study, tmp_path):
    before = log_of(study.store).stat().st_size
    study.take("ann", now=0.0)
    after = log_of(study.store).stat().st_size
    for number, size in enumerate(range(before, after, 1021)):
        kept = after_a_power_cut(study.store, tmp_path / str(number), size)
        assert (plans.decisions(kept), plans.leases(kept, 0.0)) == ([], [])
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
