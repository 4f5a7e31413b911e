"""A clock that jumps changes neither what is current, nor what is kept, nor what is noticed."""

import os
import time

import pytest

from fair_strategy.store import predictions, scores
from fair_strategy.store.database import backup
from fair_strategy.store.recovery import backups
from fair_strategy.store.settings import get_value, set_value
from fair_strategy.workflows.intake import prepare, refresh
from fair_strategy.workflows.models import publish
from fair_strategy.workflows.planning import make_plans, plan_is_stale
from fair_strategy.workflows.rounds import _prune
from fair_strategy.workflows.scoring import score_study
from tests.helpers import write_model

DECADE_S = 10 * 365.25 * 86400


@pytest.fixture(params=[-DECADE_S, DECADE_S], ids=["back", "forth"])
def jump(request, monkeypatch):
    """Sets the wall clock; the monotonic one goes on."""
    now = time.time

    def set_clock():
        monkeypatch.setattr(time, "time", lambda: now() + request.param)

    return set_clock


def trained(study, seed):
    path = write_model(study.state_dir / "models" / f"{seed}.pt", seed=seed)
    from fair_strategy.learning.checkpoint import load_model

    checksum = load_model(path).checksum
    publish(study, path, checksum, origin="trained", statistics={})
    return checksum


def test_the_newest_model_keeps_its_predictions(make_study, jump):
    study = make_study("AB")
    for seed in (1, 2):
        trained(study, seed)
    jump()
    checksum = trained(study, 3)
    score_study(study)
    _prune(study)
    assert scores.current_model(study.store).checksum == checksum
    kept = {path.parent.name for path in study.state_dir.glob(f"{predictions.FOLDER}/*/*.npz")}
    assert checksum in kept


def test_a_plan_made_under_another_clock_is_not_stale(make_study, jump):
    study = make_study("AB")
    score_study(study)
    make_plans(study)
    jump()
    assert not plan_is_stale(study)


def test_a_scan_that_is_replaced_is_noticed_whatever_its_time(make_study, jump):
    study = make_study("AB")
    score_study(study)
    path = study.images_dir / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    jump()
    os.utime(path, (time.time(), time.time()))
    changes = refresh(study)
    assert changes.changed == ("sub-01_T1w",)
    model = scores.current_model(study.store).checksum
    assert scores.unscored(study.store, model, study.settings_hash) == ["sub-01_T1w"]


def test_the_newest_copy_of_the_database_is_the_last_that_was_made(make_study, jump):
    study = make_study("AB")
    set_value(study.store, "turn", "before")
    backup(study.store)
    jump()
    set_value(study.store, "turn", "after")
    newest = backup(study.store)
    assert backups(study.state_dir)[0] == newest


def test_the_server_comes_up_under_another_clock(make_study, jump):
    study = make_study("AB", labelled=1)
    set_value(study.store, "turn", "before")
    jump()
    assert [note for note in prepare(study) if "gone" in note] == []
    assert get_value(study.store, "turn") == "before"
