"""The application object and its routes, in this process."""

import inspect

import pytest
import torch
from fastapi import FastAPI, HTTPException
from monailabel.endpoints import datastore as stock_datastore, infer as stock_infer

from fair_strategy.config import HostSettings, SettingsError
from fair_strategy.host.app import is_held
from fair_strategy.host.guard import Guard
from fair_strategy.host.routes import reader, review, work
from fair_strategy.host.server import attach
from fair_strategy.host.worker import arguments_for
from fair_strategy.store import ServerRunning
from fair_strategy.store.database import hold
from fair_strategy.store.settings import current_settings
from fair_strategy.workflows.intake import prepare
from tests.app.in_process import application, write_folders


@pytest.fixture
def root(tmp_path):
    write_folders(tmp_path)
    return tmp_path


def test_the_constructor_opens_and_neither_walks_nor_publishes(root):
    app = application(root)
    assert app.datastore().list_images() == []
    assert app.info()["models"] == {}
    assert not (root / "studies" / "derivatives" / "fair_caudate").exists()


def test_it_can_be_constructed_again_beside_the_server_as_monai_label_does(root):
    first = application(root, rule="softmax", server_mode="true")
    with hold(first.study.state_dir):
        again = application(root, rule="softmax")
    assert again.study.settings == first.study.settings
    assert again.study.settings_version == first.study.settings_version


def test_a_second_server_with_other_settings_cannot_change_those_of_the_first(root):
    first = application(root, rule="softmax")
    with hold(first.study.state_dir), pytest.raises(ServerRunning, match="other settings"):
        application(root, rule="worst_group")
    assert current_settings(first.study.store)[0] == first.study.settings_version


def test_whether_a_state_directory_is_held_can_be_asked_without_holding_it(tmp_path):
    assert not is_held(tmp_path / "none")
    assert not is_held(tmp_path)
    with hold(tmp_path):
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


def test_an_unknown_option_is_an_error_that_lists_the_good_ones(root):
    with pytest.raises(SettingsError, match=r"'margin'.*margin_mm"):
        application(root, margin="4")


def test_a_gpu_that_is_not_there_is_an_error_and_the_workers_get_the_device_of_the_study(
    root, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match=r"device: expected auto or cpu.*got cuda"):
        application(root, device="cuda")
    study = application(root, device="cpu").study
    assert study.device == "cpu"
    assert arguments_for(study, "score")[-2:] == ["--device", "cpu"]
    other = application(root, device="auto").study
    assert other.device is None
    assert "--device" not in arguments_for(other, "score")


def test_the_subgroups_accuracy_that_slicer_shows_is_one_number_without_a_name(root):
    app = application(root)
    prepare(app.study)
    shown = app.info()["train_stats"]["caudate"]
    assert set(shown) <= {"best_metric", "training_cases", "epoch", "steps", "total_time"}


def test_a_study_without_a_model_still_starts_and_offers_none(root):
    (root / "app" / "model" / "pretrained.pt").unlink()
    app = application(root)
    assert any("pretrained.pt" in note for note in prepare(app.study))
    assert app.info()["models"] == {}
    with pytest.raises(HTTPException) as refused:
        app.infer({"model": "other", "image": "sub-01_T1w"})
    assert refused.value.status_code == 404


def test_scoring_wakes_nobody_outside_of_the_server(root):
    assert application(root).async_scoring(None) == {}


def test_our_routes_run_in_threads_and_stand_before_the_stock_ones():
    ours = [*reader.router.routes, *review.router.routes, *work.router.routes]
    assert not any(inspect.iscoroutinefunction(route.endpoint) for route in ours)
    app = FastAPI()
    app.include_router(stock_infer.router)
    app.include_router(stock_datastore.router)
    attach(app, HostSettings())
    assert app.router.routes[: len(ours)] == ours
    assert isinstance(app.middleware_stack.app, Guard)


@pytest.mark.parametrize("params", ["[1]", "{", '"text"'])
def test_parameters_that_are_no_object_are_refused(params):
    with pytest.raises(HTTPException, match="JSON"):
        reader._from_client(params)
