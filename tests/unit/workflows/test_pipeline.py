"""Scans in batches, as on a GPU, here on a CPU at the same pace; and scans side by side."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from fair_strategy.config import StudySettings
from fair_strategy.data.cohort import load_cohort
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.data.grids import NoRoom, VolumeError
from fair_strategy.learning import steps
from fair_strategy.store import cases, predictions, scores
from fair_strategy.workflows import (
    batches as of_batches,
    executors,
    folder,
    models,
    outcomes,
    pace,
    scoring,
)
from fair_strategy.workflows.attempts import Attempts
from fair_strategy.workflows.folder import score_folder
from fair_strategy.workflows.intake import refresh
from fair_strategy.workflows.models import current_model
from fair_strategy.workflows.pace import ONE_BY_ONE, Pace, pace_on
from fair_strategy.workflows.pipeline import Pipeline
from fair_strategy.workflows.scoring import score_study
from fair_strategy.workflows.tables import ENTROPIES, read_scores


@pytest.fixture
def batches(monkeypatch):
    """Scoring in batches of three; how many volumes went into each."""
    sizes: list[int] = []
    real = steps.unchecked_maps

    def counted(network, windows):
        sizes.append(len(windows))
        return real(network, windows)

    monkeypatch.setattr(scoring, "pace_on", lambda *_: Pace(batch=3, threads=2))
    monkeypatch.setattr(steps, "unchecked_maps", counted)
    return sizes


@pytest.fixture
def lanes(monkeypatch):
    """Scoring of three scans side by side; the threads that asked, and torch's number in each."""
    asked: dict[str, int] = {}
    real = outcomes.predict

    def noted(*arguments, **options):
        asked[threading.current_thread().name] = torch.get_num_threads()
        return real(*arguments, **options)

    monkeypatch.setattr(scoring, "pace_on", lambda *_: Pace(lanes=3))
    monkeypatch.setattr(outcomes, "predict", noted)
    return asked


@pytest.fixture(params=["batches", "lanes"])
def several(request):
    """Both."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def two_threads():
    """Torch computes with two threads in the test."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def entropies(study):
    found = scores.scores(study.store, current_model(study).checksum, study.settings_hash)
    return {case_id: score.entropies for case_id, score in found.items()}


def kept_features(study):
    return scores.features(study.store, current_model(study).checksum, study.settings_hash)


def measured(row):
    return {name: float(row[name]) for name in ENTROPIES if row[name] != "n/a"}


def test_batches_score_as_one_by_one_does(make_study, monkeypatch, batches):
    study = make_study("AABBABA")
    assert score_study(study).scored == 7
    assert batches == [3, 3]  # the last one is alone
    together, features = entropies(study), kept_features(study)
    monkeypatch.setattr(scoring, "pace_on", lambda *_: ONE_BY_ONE)
    study = make_study("AABBABA")  # the files are new: all is done again
    assert score_study(study).scored == 7
    assert batches == [3, 3]
    assert list(together) == list(entropies(study))
    for case_id, values in entropies(study).items():
        assert together[case_id] == pytest.approx(values, rel=1e-4)
    for case_id, values in kept_features(study).items():
        np.testing.assert_allclose(features[case_id], values, rtol=2e-3)


def test_while_the_network_computes_others_are_made_ready_and_finished(
    make_study, monkeypatch, batches
):
    study = make_study("AABBABABB")
    begun = {"look": 0, "aim": 0, "network": 0, "finish": 0}
    changed = threading.Condition()

    def begin(name):
        with changed:
            begun[name] += 1
            changed.notify_all()
            return begun[name] - 1

    def see(name, count):
        with changed:
            assert changed.wait_for(lambda: begun[name] >= count, 20), begun

    def step(module, function, name, await_others):
        real = getattr(module, function)

        def work(*arguments, **options):
            await_others(begin(name))
            return real(*arguments, **options)

        monkeypatch.setattr(module, function, work)

    # Three batches of three: each waits for the next one's beginnings.
    step(of_batches, "look", "look", lambda _: None)
    step(of_batches, "aim", "aim", lambda n: see("network", n // 3))
    step(
        steps,
        "unchecked_maps",
        "network",
        lambda n: [see(name, min(9, 3 * n + 6)) for name in ("look", "aim")],
    )
    step(of_batches, "finish", "finish", lambda n: see("network", min(3, n // 3 + 2)))
    assert score_study(study).scored == 9
    assert batches == [3, 3, 3]


def test_a_folder_is_scored_in_batches_too_and_its_broken_file_is_told(
    make_study, model_file, tmp_path, monkeypatch, batches
):
    images = make_study("AABBABA").images_dir
    broken = images / "sub-02" / "anat" / "sub-02_T1w.nii.gz"
    broken.write_bytes(broken.read_bytes()[:200])
    checkpoint = models.model_file(model_file)
    cohort = load_cohort(images / "participants.tsv", sensitive_feature=("group",))

    def table(name):
        out = tmp_path / name
        report = score_folder(images, cohort, checkpoint, StudySettings(), out)
        assert (report.scored, list(report.unreadable)) == (6, ["sub-02_T1w"])
        return read_scores(out)

    alone = table("alone.tsv")
    assert batches == []
    monkeypatch.setattr(folder, "pace_on", lambda *_: Pace(batch=3, threads=2))
    together = table("together.tsv")
    assert batches == [2, 3]  # the broken one was in the first; the last scan is alone
    for one, other in zip(alone, together, strict=True):
        assert one["case_id"] == other["case_id"]
        assert measured(one) == pytest.approx(measured(other), rel=1e-4)


def test_a_broken_file_costs_the_others_nothing(make_study, several):
    study = make_study("AABB")
    broken = study.images_dir / "sub-02" / "anat" / "sub-02_T1w.nii.gz"
    broken.write_bytes(broken.read_bytes()[:200])
    refresh(study)
    report = score_study(study)
    assert report.scored == 3
    assert list(report.unreadable) == ["sub-02_T1w"]


def test_what_a_batch_cannot_take_is_tried_one_by_one(make_study, monkeypatch, batches):
    study = make_study("AAB")
    real, asked = outcomes.predict, []

    def full(*_, **__):
        raise torch.OutOfMemoryError("the batch does not fit")

    def too_large_at_first(*arguments, **options):
        asked.append(None)
        if len(asked) == 1:
            raise torch.OutOfMemoryError("this one does not fit either")
        return real(*arguments, **options)

    monkeypatch.setattr(of_batches, "segment", full)
    monkeypatch.setattr(outcomes, "predict", too_large_at_first)
    report = score_study(study)
    assert report.scored == 2
    assert "does not fit either" in report.unreadable["sub-01_T1w"]


@pytest.fixture
def broken_reading(monkeypatch):
    """Says which scans raise what when they are read."""
    raised: dict[str, Exception] = {}
    real = scoring.read_scan

    def read(path):
        for case_id, error in raised.items():
            if case_id in path.name:
                raise error
        return real(path)

    monkeypatch.setattr(scoring, "read_scan", read)
    return raised


def test_scans_that_a_pacs_does_not_send_do_not_stop_a_run_whose_others_come(
    make_study, several, broken_reading
):
    study = make_study("AABBABA")
    for number in (1, 3, 5):  # three of them, but no three in a row
        broken_reading[f"sub-0{number}"] = ArchiveUnavailable("no answer")
    report = score_study(study)
    assert (report.scored, report.unavailable) == (4, 3)
    assert not report.unreadable


def test_after_three_misses_in_a_row_a_run_ends_with_what_came_before(
    make_study, several, broken_reading
):
    study = make_study("AABBABABA")
    for number in (3, 4, 5):
        broken_reading[f"sub-0{number}"] = ArchiveUnavailable("no answer")
    assert score_study(study).scored == 2
    assert sorted(entropies(study)) == ["sub-01_T1w", "sub-02_T1w"]


def test_an_error_of_no_volume_ends_a_run_after_what_came_before_it(
    make_study, several, broken_reading
):
    study = make_study("AABBABA")
    broken_reading["sub-05"] = OSError("the disk is gone")
    with pytest.raises(OSError, match="the disk is gone"):
        score_study(study)
    kept = set(entropies(study))
    assert kept >= {f"sub-0{n}_T1w" for n in range(1, 5)}
    assert "sub-05_T1w" not in kept


@pytest.mark.parametrize("where", ["look", "localise", "aim", "segment", "finish"])
def test_a_lost_gpu_is_held_against_no_volume(make_study, monkeypatch, batches, where):
    study = make_study("AABBABA")

    def lost(*_, **__):
        raise torch.AcceleratorError("unspecified launch failure")

    monkeypatch.setattr(of_batches, where, lost)
    with pytest.raises(torch.AcceleratorError, match="launch failure"):
        score_study(study)
    monkeypatch.undo()
    assert score_study(study).scored == 7


def test_scans_that_cannot_be_listed_to_their_end_lose_nothing_of_the_batch_before(make_study):
    study = make_study("AABBABA")

    def scans():
        yield from cases.cases(study.store)
        raise OSError("the disk is gone")

    found = scoring._pipeline(study, current_model(study)).run(scans(), Pace(batch=3, threads=2))
    told = [next(found)[0].case_id for _ in range(3)]
    assert told == [f"sub-0{n}_T1w" for n in (1, 2, 3)]
    with pytest.raises(OSError, match="the disk is gone"):
        next(found)


def test_a_run_that_is_stopped_loses_nothing_of_what_was_begun(make_study, several):
    study = make_study("AABBABA")
    asked: list[None] = []

    def stop():
        asked.append(None)
        return len(asked) > 4

    first = score_study(study, stop=stop).scored
    assert first == 4
    assert len(entropies(study)) == 4
    assert score_study(study).scored == 3


def test_dropout_passes_are_a_batch_of_their_own(make_study, batches):
    study = make_study("AAB", passes=2)
    assert score_study(study).scored == 3
    assert batches == []
    assert all("mutual_information" in values for values in entropies(study).values())


def test_predictions_of_a_batch_are_kept_like_any(make_study, batches):
    study = make_study("AAB")
    score_study(study)
    model = current_model(study).checksum
    for case_id, score in scores.scores(study.store, model, study.settings_hash).items():
        stored = predictions.read_prediction(study.state_dir, model, case_id, score.fingerprint)
        assert np.count_nonzero(stored.mask) > 0


def test_scans_side_by_side_score_to_the_bit_as_one_after_another(
    make_study, lanes, monkeypatch, two_threads
):
    study = make_study("AABBABABBA")
    assert score_study(study).scored == 10
    assert torch.get_num_threads() == 2
    assert len(lanes) > 1
    assert set(lanes.values()) == {1}
    together, features = entropies(study), kept_features(study)
    monkeypatch.setattr(scoring, "pace_on", lambda *_: ONE_BY_ONE)
    torch.set_num_threads(1)
    study = make_study("AABBABABBA")
    score_study(study)
    assert together == entropies(study)
    for case_id, values in kept_features(study).items():
        np.testing.assert_array_equal(features[case_id], values)


def test_a_scan_that_others_left_no_memory_is_scored_alone(make_study, lanes, monkeypatch):
    study = make_study("AABB")
    real, at_once = scoring.read_scan, threading.Semaphore(1)

    def only_one_fits(path):
        if not at_once.acquire(blocking=False):
            raise NoRoom(f"{path.name}: does not fit into the memory")
        try:
            time.sleep(0.2)
            return real(path)
        finally:
            at_once.release()

    monkeypatch.setattr(scoring, "read_scan", only_one_fits)
    report = score_study(study)
    assert (report.scored, report.unreadable) == (4, {})


@pytest.mark.parametrize("pace", [Pace(batch=2, threads=2), Pace(lanes=3)])
@pytest.mark.parametrize(
    ("kind", "order", "read"), [(VolumeError, [1, 2, 3, 4], 4), (NoRoom, [1, 3, 4, 2], 5)]
)
def test_what_there_may_have_been_no_room_for_is_tried_again_and_told_after_the_others(
    make_study, monkeypatch, pace, kind, order, read
):
    study = make_study("AABB")
    real, asked = scoring.read_scan, []

    def refused(path):
        asked.append(path)
        if "sub-02" in path.name:
            raise kind("not this one")
        return real(path)

    monkeypatch.setattr(scoring, "read_scan", refused)
    line = scoring._pipeline(study, current_model(study))
    found = line.run(cases.cases(study.store), pace)
    told = [(record.case_id, isinstance(outcome, str)) for record, outcome in found]
    assert told == [(f"sub-0{n}_T1w", n == 2) for n in order]
    assert len(asked) == read


def test_a_run_that_is_stopped_tries_nothing_again(make_study, several, monkeypatch):
    study = make_study("AAB")
    asked = []

    def too_large(path):
        asked.append(path)
        raise NoRoom("too large")

    monkeypatch.setattr(scoring, "read_scan", too_large)
    assert not score_study(study, stop=lambda: len(asked) > 2).unreadable
    assert len(asked) == 3


@pytest.mark.parametrize("passes", [1, 2])
def test_a_scan_that_fails_in_a_batch_fails_alone_and_in_its_turn(
    make_study, monkeypatch, batches, passes
):
    study = make_study("AABBAB", passes=passes)
    real, asked = of_batches.segment, []

    def refusing(model, scans, **options):
        asked.append(len(scans))
        if any(scan.looked.volume is refused[0] for scan in scans):
            raise RuntimeError("not this one")
        return real(model, scans, **options)

    refused = []
    read = scoring.read_scan

    def noted(path):
        volume = read(path)
        if "sub-02" in path.name and not refused:
            refused.append(volume)
        return volume

    monkeypatch.setattr(scoring, "read_scan", noted)
    monkeypatch.setattr(of_batches, "segment", refusing)
    order = []
    assert score_study(study, progress=lambda done, _: order.append(done)).scored == 6
    assert asked == [3, 1, 1, 1, 3]  # and once more by `predict`, alone
    assert batches == ([3] if passes == 1 else [])


def test_torch_has_its_threads_again_after_a_run_that_failed(
    make_study, lanes, broken_reading, two_threads
):
    study = make_study("AAB")
    broken_reading["sub-02"] = OSError("the disk is gone")
    with pytest.raises(OSError, match="the disk is gone"):
        score_study(study)
    assert torch.get_num_threads() == 2


def test_side_by_side_no_more_are_begun_than_can_be_under_way_soon():
    asked, go = [], threading.Event()

    def scans():
        for number in range(30):
            asked.append(number)
            yield number

    def read(number):
        assert go.wait(20)
        raise VolumeError(f"{number}")

    results = Pipeline(None, StudySettings(), read, None).run(scans(), Pace(lanes=3))
    waiting = threading.Thread(target=lambda: next(results))
    waiting.start()
    time.sleep(0.5)
    assert len(asked) == 1 + executors.queued(3)  # the first is waited for
    go.set()
    waiting.join()


@pytest.mark.parametrize("pace", [Pace(lanes=2), Pace(batch=2, threads=2)])
def test_a_run_that_nobody_wants_any_more_begins_nothing_else(pace):
    read = []

    def slowly(number):
        read.append(number)
        time.sleep(1.0 if number else 0.0)
        raise ArchiveUnavailable("no answer")

    results = Pipeline(None, StudySettings(), slowly, None).run(range(30), pace)
    next(results)
    results.close()
    assert len(read) <= 7  # two at work; of batches the first ones, too


def test_a_folder_is_scored_side_by_side_too(make_study, model_file, tmp_path, lanes, monkeypatch):
    images = make_study("AABBA").images_dir
    cohort = load_cohort(images / "participants.tsv", sensitive_feature=("group",))
    monkeypatch.setattr(folder, "pace_on", lambda *_: Pace(lanes=3))
    out = tmp_path / "scores.tsv"
    report = score_folder(images, cohort, models.model_file(model_file), StudySettings(), out)
    assert report.scored == 5
    assert len(lanes) > 1


def test_how_a_cpu_and_a_gpu_take_scans(two_threads, monkeypatch):
    one_pass, dropout = StudySettings(), StudySettings(passes=5)
    monkeypatch.setattr(pace, "memory_bytes", lambda: 64 * 1024**3)
    assert pace_on(torch.device("cpu"), one_pass) == Pace(lanes=2)
    assert pace_on(torch.device("cpu"), dropout) == ONE_BY_ONE
    assert pace_on(torch.device("cuda"), one_pass).batch > 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert pace_on(torch.device("cpu"), one_pass) == Pace(lanes=8)
    monkeypatch.setattr(pace, "memory_bytes", lambda: 1024**3)
    assert pace_on(torch.device("cpu"), one_pass) == Pace(lanes=1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert pace_on(torch.device("cpu"), one_pass) == ONE_BY_ONE


@pytest.mark.parametrize(
    ("pace", "pacs", "died", "expected"),
    [
        (Pace(lanes=3), None, False, Pace(lanes=3)),
        (Pace(lanes=3), "a PACS", False, Pace(lanes=2)),
        (Pace(lanes=3), None, True, Pace(lanes=1)),
        (Pace(batch=8, threads=8), None, False, Pace(batch=8, threads=8)),
        (Pace(batch=8, threads=8), "a PACS", False, Pace(batch=8, threads=2)),
        (Pace(batch=8, threads=8), None, True, ONE_BY_ONE),
    ],
)
def test_fewer_at_once_where_a_pacs_sends_them_or_a_process_died(
    make_study, monkeypatch, pace, pacs, died, expected
):
    study = make_study("AAB")
    if died:
        record = cases.cases(study.store)[0]
        Attempts(study.state_dir, current_model(study).checksum).begin(record)  # and no end
    paces = []

    def noted(_, scans, pace, stop=None):
        paces.append(pace)
        return iter([(scan, "not read") for scan in scans])

    monkeypatch.setattr(scoring, "pace_on", lambda *_: pace)
    monkeypatch.setattr(Pipeline, "run", noted)
    score_study(replace(study, pacs=pacs))
    assert set(paces) == {expected}


@pytest.mark.gpu
def test_on_a_gpu_batches_score_as_a_cpu_does(make_study):
    study = make_study("AABBABA")
    score_study(study)
    expected = entropies(study)
    study = replace(make_study("AABBABA"), device="cuda")
    assert score_study(study).scored == 7
    for case_id, values in entropies(study).items():
        assert values == pytest.approx(expected[case_id], rel=0.05)  # half precision
