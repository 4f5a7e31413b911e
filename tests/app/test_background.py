"""The loop, the watcher, the worker and the check of versions, without a server."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from fair_strategy.config import StudySettings
from fair_strategy.data.cohort import CohortError, load_cohort
from fair_strategy.host import worker
from fair_strategy.host.background import ANSWER_S, RETRY_S, Background, Worker, due
from fair_strategy.host.sentences import sentence
from fair_strategy.host.versions import VersionsError, check_versions
from fair_strategy.host.watcher import Watcher
from fair_strategy.store import cases, scores
from fair_strategy.workflows import upkeep
from fair_strategy.workflows.attempts import Attempts, in_hand
from fair_strategy.workflows.desk import pending_work

IDLE = {"model": "m1", "unscored": 0, "uncompared": 0, "train_due": False, "plan_stale": False}


def test_nothing_pending_is_nothing_to_do():
    assert due(IDLE) == {}


def test_a_new_model_comes_before_scores_and_scores_before_comparisons():
    pending = {**IDLE, "unscored": 3, "uncompared": 1, "train_due": True, "plan_stale": True}
    assert list(due(pending)) == ["train", "score", "compare"]


def test_a_stale_plan_alone_is_made_again():
    assert list(due({**IDLE, "plan_stale": True})) == ["plan"]


class Recorder:
    """Stands in for Worker: remembers what was started, ends when told."""

    started: ClassVar[list[str]] = []

    def __init__(self, study, verb):
        self.verb, self.log = verb, Path("worker.log")
        self.process = self
        self.code = None
        self.started.append(verb)

    def poll(self):
        return self.code

    def last_line(self):
        return "{}"

    def end(self):
        self.code = -15


@pytest.fixture
def loop(monkeypatch, study):
    monkeypatch.setattr("fair_strategy.host.background.Worker", Recorder)
    monkeypatch.setattr(Recorder, "started", [])
    pending = dict(IDLE)
    watcher = Watcher(study.images_dir, lambda: None)
    return Background(study, watcher, pending=lambda _: pending), pending


def test_at_most_one_worker_runs_however_often_the_loop_is_woken(loop):
    background, pending = loop
    pending["unscored"] = 5
    for _ in range(4):
        background.wake()
        background._look()
    assert Recorder.started == ["score"]


def test_work_that_a_run_left_as_it_was_is_not_repeated_at_once_but_the_next_kind_is(loop):
    background, pending = loop
    pending.update(unscored=5, uncompared=2)
    for _ in range(4):
        background._look()
        if background._worker:
            background._worker.code = 1
    assert Recorder.started == ["score", "compare"]


def test_work_that_made_progress_goes_on_at_once(loop):
    background, pending = loop
    for unscored in (5, 3, 1):
        pending["unscored"] = unscored
        background._look()
        background._worker.code = 0
    assert Recorder.started == ["score", "score", "score"]


def test_as_many_scans_under_a_model_that_was_published_meanwhile_are_other_work(loop):
    background, pending = loop
    for model in ("m1", "m2"):
        pending.update(model=model, unscored=5)
        background._look()
        background._worker.code = 0
    background._look()
    assert Recorder.started == ["score", "score"]


class Answering(threading.Event):
    """An event whose short wait, in which readers are answered, lasts until it is let go."""

    def __init__(self):
        super().__init__()
        self.entered, self.let_go = threading.Event(), threading.Event()

    def wait(self, timeout=None):
        assert timeout == ANSWER_S
        self.entered.set()
        return self.let_go.wait(20) and self.is_set()


def test_submissions_in_a_row_are_answered_before_one_look_for_all_of_them(monkeypatch, study):
    monkeypatch.setattr("fair_strategy.host.background.IDLE_S", 60.0)
    looks = queue.Queue()

    def pending(_):
        looks.put(1)
        return IDLE

    background = Background(study, Watcher(study.images_dir, lambda: None), pending=pending)
    background._ending = answering = Answering()
    background.start()
    looks.get(timeout=20)
    for _ in range(3):
        background.wake()
    assert answering.entered.wait(20)
    background.wake()
    assert looks.empty()
    answering.let_go.set()
    looks.get(timeout=20)
    with pytest.raises(queue.Empty):
        looks.get(timeout=1)
    background.stop()


def test_what_was_handed_out_is_forced_to_the_disk_while_the_server_runs_and_as_it_ends(
    monkeypatch, study, loop
):
    forced = threading.Event()
    monkeypatch.setattr("fair_strategy.host.flushing.FLUSH_S", 0.01)
    monkeypatch.setattr(type(study.store), "flush", lambda store: forced.set())
    background, _ = loop
    background.start()
    assert forced.wait(20)
    monkeypatch.setattr("fair_strategy.host.flushing.FLUSH_S", 60.0)
    time.sleep(0.05)
    forced.clear()
    background.stop()
    assert forced.is_set()


def looks_that_fail(monkeypatch, study, error):
    """How often the loop looks for work until it is stopped, if that raises `error`: three times
    or more, if it goes on."""
    monkeypatch.setattr("fair_strategy.host.background.IDLE_S", 0.01)
    looks = []

    def pending(_):
        looks.append(1)
        raise error

    background = Background(study, Watcher(study.images_dir, lambda: None), pending=pending)
    background.start()
    end = time.monotonic() + 20
    while len(looks) < 3 and time.monotonic() < end:
        time.sleep(0.02)
    background.stop()
    return len(looks)


def test_a_look_that_fails_does_not_end_the_loop(monkeypatch, study):
    assert looks_that_fail(monkeypatch, study, OSError("disk")) >= 3


@pytest.fixture
def refused_folder(monkeypatch, study):
    """A loop whose every refresh is refused."""
    monkeypatch.setattr("fair_strategy.host.background.Worker", Recorder)
    monkeypatch.setattr(Recorder, "started", [])
    clock, refreshed = Clock(), []

    def refuse():
        refreshed.append(1)
        raise CohortError("a.nii and a.nii.gz make one id, a; remove or rename one")

    watcher = Watcher(study.images_dir, refuse, clock=clock)
    clock.now += 1000
    return Background(study, watcher, pending=lambda _: {**IDLE, "unscored": 5}), clock, refreshed


def test_a_folder_that_cannot_be_taken_up_is_said_once_and_does_not_hold_up_the_work(
    refused_folder, caplog
):
    background, clock, refreshed = refused_folder
    for _ in range(3):
        background._look()
        clock.now += 10
    assert Recorder.started == ["score"]
    background._worker.code = 0
    background._look()
    assert background._worker is None
    assert refreshed == [1]
    said = [r for r in caplog.records if r.levelname == "ERROR"]
    assert [r.exc_info for r in said] == [None]
    assert "make one id, a" in said[0].getMessage()


def test_a_refused_folder_is_tried_again_later(refused_folder):
    background, clock, refreshed = refused_folder
    background._look()
    clock.now += 1000
    background._look()
    assert refreshed == [1, 1]


def test_work_that_cannot_even_be_looked_for_is_said_once_without_a_stack(
    monkeypatch, study, caplog
):
    broken = CohortError("participants.tsv line 3: age '431' is not a number; write years, or n/a")
    looks_that_fail(monkeypatch, study, broken)
    (said,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert "participants.tsv line 3" in said.getMessage()
    assert "431" not in said.getMessage()
    assert said.exc_info is None


def test_a_failed_run_is_tried_again_so_long_after_its_end(loop, monkeypatch):
    background, pending = loop
    now = [0.0]
    monkeypatch.setattr("fair_strategy.host.background.time.monotonic", lambda: now[0])
    pending["unscored"] = 5
    background._look()
    now[0] = 4000.0  # the run took more than an hour
    background._worker.code = 1
    background._look()
    now[0] = 4000.0 + RETRY_S - 1
    background._look()
    assert Recorder.started == ["score"]
    now[0] = 4000.0 + RETRY_S
    background._look()
    assert Recorder.started == ["score", "score"]


def test_the_log_of_the_server_has_a_failed_workers_last_sentence(loop, monkeypatch, caplog):
    background, pending = loop
    monkeypatch.setattr(Recorder, "last_line", lambda self: "x.pt: no such model; get one")
    pending["unscored"] = 5
    background._look()
    background._worker.code = 1
    background._look()
    assert "score failed with code 1: x.pt: no such model; get one" in caplog.text


def test_a_disabled_loop_starts_no_work_even_when_it_is_woken(loop, study):
    watcher = Watcher(study.images_dir, lambda: None)
    background = Background(
        study, watcher, pending=lambda _: {**IDLE, "unscored": 5}, enabled=False
    )
    background.wake()
    background._look()
    assert Recorder.started == []


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_the_watcher_refreshes_when_a_scan_or_a_subject_came_and_only_then(tmp_path):
    (tmp_path / "sub-01" / "anat").mkdir(parents=True)
    clock, refreshed = Clock(), []
    watcher = Watcher(tmp_path, lambda: refreshed.append(1), clock=clock)
    assert not watcher.look()
    new = tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    for path in (new, tmp_path / "sub-02" / "anat"):
        path.mkdir(parents=True) if path.name == "anat" else path.write_bytes(b"")
        _age(path.parent)
        clock.now += 10
        assert watcher.look(), path
        clock.now += 10
        assert not watcher.look()
    assert len(refreshed) == 2


def _age(directory: Path) -> None:
    # Two changes within one tick of the file system's clock must not look like none.
    later = directory.stat().st_mtime_ns + 10_000_000
    os.utime(directory, ns=(later, later))


def test_the_watcher_notices_a_changed_table(tmp_path):
    table = tmp_path / "participants.tsv"
    table.write_text("participant_id\n")
    clock = Clock()
    watcher = Watcher(tmp_path, lambda: None, clock=clock)
    os.utime(table, ns=(1, 1))
    clock.now += 10
    assert watcher.look()


def test_the_watcher_walks_now_and_then_for_files_that_were_overwritten_in_place(tmp_path):
    clock, refreshed = Clock(), []
    watcher = Watcher(tmp_path, lambda: refreshed.append(1), clock=clock)
    clock.now += 1000
    assert watcher.look()
    assert refreshed == [1]


def test_masks_written_by_the_study_itself_wake_nobody(tmp_path):
    (tmp_path / "derivatives" / "fair_caudate").mkdir(parents=True)
    clock = Clock()
    watcher = Watcher(tmp_path, lambda: None, clock=clock)
    (tmp_path / "derivatives" / "fair_caudate" / "sub-01").mkdir()
    clock.now += 10
    assert not watcher.look()


def test_a_worker_scores_a_study_that_it_opens_from_its_arguments(study):
    started = Worker(study, "score")
    assert started.process.wait(timeout=200) == 0, started.log.read_text()
    done = json.loads(started.last_line())
    started.end()
    assert (done["scored"], done["unreadable"], done["compared"]) == (8, 0, 2)
    assert pending_work(study) == {**IDLE, "model": scores.current_model(study.store).checksum}


def test_a_worker_that_cannot_work_says_so_in_one_last_sentence(study, monkeypatch, capfd):
    def refuse(_):
        raise CohortError("participants.tsv line 3: age '431' is not a number; write years, or n/a")

    monkeypatch.setattr(worker, "plan", refuse)
    monkeypatch.setattr("os.nice", lambda _: 0)
    with pytest.raises(SystemExit) as ended:
        worker.main(worker.arguments_for(study, "plan"))
    assert ended.value.code == 1
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last == ("participants.tsv line 3: age (not shown) is not a number; write years, or n/a")


@pytest.mark.parametrize(
    ("table", "features", "told"),
    [
        ("participant_id\tage\nsub-01\t431\n", ["age_group"], "line 2"),
        ("participant_id\tage\nsub-01\t431x\n", ["age_group"], "write years, or n/a"),
        ("participant_id,age\nsub-01,431\n", None, "separated by tabs"),
        ("sub-01,431\nsub-02,431\n", None, "separated by tabs"),
        ("sub-01\t431\nsub-02\t431\n", None, "no column 'participant_id'"),
        ("participant_id\tage\nsub-01\t431\t431\n", None, "line 2"),
    ],
)
def test_what_is_wrong_with_the_table_is_told_without_its_values(tmp_path, table, features, told):
    path = tmp_path / "participants.tsv"
    path.write_text(table)
    with pytest.raises(CohortError) as wrong:
        load_cohort(path, sensitive_feature=features)
    shown = sentence(wrong.value).replace(str(path), "")
    assert told in shown
    assert "431" not in shown


def test_a_worker_ends_when_its_server_does():
    code = (
        "import threading, time; from fair_strategy.host import worker;"
        "threading.Thread(target=worker._end_with_parent, daemon=True).start(); time.sleep(120)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(worker.__file__).parents[2])},
    )
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=60) == 1


def test_what_a_scoring_run_says_of_itself_are_counts(study):
    assert worker.score(study).keys() == {"scored", "unreadable", "compared", "plans", "seconds"}
    current = scores.current_model(study.store)
    assert current is not None
    assert worker.score(study)["scored"] == 0


def test_versions_outside_of_the_tested_range_are_all_named_with_the_repair():
    have = {"monai": "1.6.1", "mlflow": "3.17.0", "pydicom": "2.4.5"}
    wanted = ["monai>=1.5.2,<1.6", "mlflow<3.13", "pydicom<3", "rich>=13"]
    with pytest.raises(VersionsError, match=r"mlflow 3\.17\.0.*monai 1\.6\.1.*pip install"):
        check_versions(wanted, installed=have.__getitem__)


def test_a_package_that_is_missing_is_named_with_the_repair():
    with pytest.raises(VersionsError, match=r"monai is missing.*pip install"):
        check_versions(["monai>=1.5.2"], installed=lambda _: metadata.version("no-such-package-"))


def test_the_check_of_versions_comes_before_monai_label_is_started():
    script = (Path(worker.__file__).parents[2] / "scripts" / "serve.sh").read_text()
    check = script.index('"$python" -m fair_strategy.host.versions')
    assert script.index("set -e") < check < script.index("lay_out_sample")
    assert check < script.index("monailabel.main")


def test_versions_inside_of_the_tested_range_pass():
    check_versions(["monai>=1.5.2,<1.6"], installed={"monai": "1.5.2"}.__getitem__)


def test_the_requirement_of_an_extra_is_not_checked():
    check_versions(['monai<1 ; extra == "old"'], installed={"monai": "1.5.2"}.__getitem__)


@pytest.mark.parametrize(
    ("passes", "device", "threads"), [(1, None, 3), (1, "cpu", 3), (2, None, 1), (1, "cuda", 1)]
)
def test_a_worker_scores_scans_on_all_cores_but_one_and_dropout_on_one_thread(
    study, monkeypatch, passes, device, threads
):
    asked: list[int] = []
    monkeypatch.setattr(worker, "spare_cores", lambda: 3)
    monkeypatch.setattr(upkeep, "score_and_plan", lambda _: asked.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    try:
        worker.score(replace(study, settings=StudySettings(passes=passes), device=device))
    finally:
        torch.set_num_threads(before)
    assert asked == [threads]


def test_a_scoring_worker_that_gets_no_volume_done_ends_and_holds_it_against_them(study):
    """Where memory is short a library may wait for it without end."""
    hand = Attempts(study.state_dir, "m")
    hand.begin(cases.cases(study.store)[0])
    program = "import sys; from pathlib import Path; from fair_strategy.host import worker;"
    program += "worker.end_if_stuck(Path(sys.argv[1]), 0.6)"
    done = subprocess.run(
        [sys.executable, "-c", program, study.state_dir],
        env={**os.environ, "PYTHONPATH": str(Path(worker.__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (1, "no volume was done in 0 minutes: ended\n")
    assert Attempts(study.state_dir, "m").deaths(cases.cases(study.store)[0]) == 1


def test_a_scoring_worker_is_not_stuck_while_volumes_come_and_go_or_none_is_in_hand(
    study, monkeypatch
):
    class Ended(Exception):
        pass

    def counted(_):
        turns.append(None)
        if len(turns) == 60:
            raise Ended
        time.sleep(0.005)

    turns, record = [], cases.cases(study.store)[0]
    hand = Attempts(study.state_dir, "m")
    monkeypatch.setattr(worker, "in_hand", lambda _: len(turns) // 10 or None)
    monkeypatch.setattr(worker, "time", SimpleNamespace(sleep=counted, monotonic=time.monotonic))
    monkeypatch.setattr(worker.os, "_exit", pytest.fail)
    with pytest.raises(Ended):
        worker.end_if_stuck(study.state_dir, 0.2)
    assert in_hand(study.state_dir) is None
    hand.begin(record)
    assert in_hand(study.state_dir) is not None
