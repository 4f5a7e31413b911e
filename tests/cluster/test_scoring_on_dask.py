"""Scoring on a Dask cluster of two processes: the numbers of one process, whoever dies."""

import os
import pickle
import signal
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from typer.testing import CliRunner

from fair_strategy.cli.main import app
from fair_strategy.config import StudySettings
from fair_strategy.data.cohort import load_cohort
from fair_strategy.store import cases, predictions, scores
from fair_strategy.workflows import dask_cluster
from fair_strategy.workflows.executors import WorkersLost, as_finished, workers
from fair_strategy.workflows.folder import measure, score_folder
from fair_strategy.workflows.intake import prepare
from fair_strategy.workflows.models import current_model, model_file
from fair_strategy.workflows.scoring import score_study
from fair_strategy.workflows.study import StudyError, open_study
from fair_strategy.workflows.work import Work, versions

CASES = [f"sub-{n:02d}_T1w" for n in range(1, 10)]


@pytest.fixture
def score(images, model_path, tmp_path):
    """Score the nine scans into a table: ``score(workers)`` -> its bytes, and the report."""

    def on(made):
        out = tmp_path / f"{id(made)}.tsv"
        cohort = load_cohort(images / "participants.tsv", sensitive_feature=("group",))
        model = model_file(model_path)
        report = score_folder(images, cohort, model, StudySettings(), out, workers=made)
        return out.read_bytes(), report

    return on


def test_two_processes_write_the_table_of_one_to_the_byte(score, watched):
    alone, _ = score(None)
    together, report = score(watched.workers)
    assert together == alone
    assert (report.scored, report.unreadable) == (9, {})
    assert sorted(case for case, _ in watched.made) == CASES
    assert len({process for _, process in watched.made}) == 2
    assert watched.most <= 4  # one at work and one at hand a process


def test_a_worker_that_is_killed_loses_nothing_and_repeats_its_own_volume_only(score, watched):
    watched.ends = {"sub-04_T1w": 1}
    table, report = score(watched.workers)
    assert table == score(None)[0]
    assert report.scored == 9
    times = Counter(case for case, _ in watched.made)
    assert set(times) == set(CASES)
    assert times["sub-04_T1w"] == 2
    killed = next(process for case, process in watched.made if case == "sub-04_T1w")
    for case in (case for case, n in times.items() if n > 1):
        assert (case, killed) in watched.made
    assert sum(times.values()) <= 9 + 4  # no more was under way, answers not yet fetched included


def test_a_volume_that_ends_every_worker_is_reported_and_the_others_are_scored(score, watched):
    watched.ends = {"sub-03_T1w": 99}
    table, report = score(watched.workers)
    assert list(report.unreadable) == ["sub-03_T1w"]
    assert "sub-03_T1w.nii.gz: its worker ended" in report.unreadable["sub-03_T1w"]
    assert report.scored == 8
    expected = score(None)[0].decode().splitlines()
    assert table.decode().splitlines() == [line for line in expected if "sub-03" not in line]


def test_a_study_keeps_the_same_scores_predictions_and_features(
    images, model_path, tmp_path, two_workers
):
    def scored(name, made):
        settings = StudySettings(validation_per_group=0)
        study = open_study(images, settings, state_dir=tmp_path / name, shipped_model=model_path)
        prepare(study)
        assert score_study(study, workers=made).scored == 9
        return study

    one, two = scored("one", None), scored("two", two_workers)
    key = (current_model(one).checksum, one.settings_hash)
    first, second = (scores.scores(study.store, *key) for study in (one, two))
    assert set(first) == set(CASES)
    assert {c: replace(s, created_at=0) for c, s in first.items()} == {
        c: replace(s, created_at=0) for c, s in second.items()
    }
    for case in CASES:
        record = cases.case(one.store, case)
        stored = [
            predictions.read_prediction(s.state_dir, key[0], case, record.fingerprint)
            for s in (one, two)
        ]
        np.testing.assert_array_equal(stored[0].mask, stored[1].mask)
        np.testing.assert_array_equal(stored[0].entropy, stored[1].entropy)
    features = [scores.features(study.store, *key) for study in (one, two)]
    for case in CASES:
        np.testing.assert_array_equal(features[0][case], features[1][case])


def test_a_study_that_is_stopped_keeps_what_was_under_way(images, model_path, tmp_path, watched):
    study = open_study(
        images,
        StudySettings(validation_per_group=0),
        state_dir=tmp_path / "state",
        shipped_model=model_path,
    )
    prepare(study)
    asked = []

    def stop():
        asked.append(None)
        return len(asked) > 3

    assert score_study(study, workers=watched.workers, stop=stop).scored == 3
    assert len(watched.made) == 3
    assert score_study(study, workers=watched.workers).scored == 6
    assert sorted(case for case, _ in watched.made) == CASES


def test_a_worker_that_starts_again_slowly_is_waited_for(tmp_path, monkeypatch):
    dask = pytest.importorskip("dask", reason="needs the extra cluster")
    pytest.importorskip("distributed", reason="needs the extra cluster")
    monkeypatch.setattr(dask_cluster, "_PATIENCE_S", 20)
    slowly = dask.config.set({"distributed.deploy.lost-worker-timeout": "1ms"})
    with slowly, workers("local:1") as made:
        assert list(as_finished(made, partial(die_once, tmp_path / "died"), [1])) == [(1, "lives")]


def die_once(note, _):
    if not note.exists():
        note.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "lives"


def test_what_travels_to_a_worker_holds_no_attribute_of_the_person(images, model_path):
    table = images / "participants.tsv"
    assert b"group" in table.read_bytes()
    path = images / "sub-01/anat/sub-01_T1w.nii.gz"
    work = Work("sub-01_T1w", path, "1-1", model_file(model_path), StudySettings())
    fields = {name: value for name, value in vars(work).items() if name != "settings"}
    assert set(fields) == {"case_id", "path", "fingerprint", "model", "threads", "versions"}
    assert b"participants.tsv" not in pickle.dumps(work)


def test_a_worker_with_other_versions_refuses(images, model_path, two_workers):
    path = images / "sub-01/anat/sub-01_T1w.nii.gz"
    model = model_file(model_path)
    other = {**versions(), "torch": "1.0"}
    work = Work("sub-01_T1w", path, "1-1", model, StudySettings(), versions=other)
    with pytest.raises(StudyError, match=r"expected torch 1\.0 \(worker: "):
        list(as_finished(two_workers, measure, [work]))


def test_a_worker_that_finds_another_model_refuses(images, model_path, two_workers):
    path = images / "sub-01/anat/sub-01_T1w.nii.gz"
    model = replace(model_file(model_path), checksum="0" * 64)
    work = Work("sub-01_T1w", path, "1-1", model, StudySettings())
    with pytest.raises(StudyError, match="expected the model 000000000000"):
        list(as_finished(two_workers, measure, [work]))


def test_a_running_scheduler_is_used_by_its_address_and_its_loss_is_told(
    images, model_path, tmp_path
):
    dask = pytest.importorskip("dask", reason="needs the extra cluster")
    distributed = pytest.importorskip("distributed", reason="needs the extra cluster")
    options = {"processes": False, "dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
    out = tmp_path / "scores.tsv"
    command = ["score", "--images", images, "--model", model_path, "--out", out, "--json"]
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "5s"}),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, protocol="tcp://", **options
        ) as cluster,
    ):
        address = cluster.scheduler_address
        done = CliRunner().invoke(app, [str(a) for a in (*command, "--cluster", address)])
        assert done.exit_code == 0, done.output
        assert len(out.read_text().splitlines()) == 10
        with workers(address) as made:
            loop = as_finished(made, abs, range(-1000, 0))
            assert next(loop)[1] > 0
            cluster.close()
            with pytest.raises(WorkersLost, match="run the same command again"):
                list(loop)


def test_an_address_where_nobody_answers_is_one_sentence(images, model_path, tmp_path):
    dask = pytest.importorskip("dask", reason="needs the extra cluster")
    where = "tcp://127.0.0.1:8259"
    command = ("score", "--images", images, "--model", model_path, "--out", tmp_path / "s.tsv")
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        done = CliRunner().invoke(
            app,
            [str(a) for a in (*command, "--cluster", where)],
        )
    assert done.exit_code == 1
    assert where in done.stderr.replace("\n", "")
    assert "Traceback" not in done.output
