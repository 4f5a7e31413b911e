"""Training over several devices: the steps of one process with all the rows."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fair_strategy.learning.checkpoint import save_model
from fair_strategy.learning.objectives import ObjectiveSettings
from fair_strategy.learning.replicas import ALONE, Replicas, together, training_devices
from fair_strategy.learning.training import STATE_FILE, train

from .conftest import tiny_model
from .test_training import SETTINGS, Killed, cases


@pytest.fixture
def roles(monkeypatch):
    """What the other processes run: found by a name of its own, since they start anew."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("replica_roles")


@pytest.mark.parametrize(("name", "batch_size"), [("erm", 2), ("group_dro", 2), ("group_dro", 1)])
def test_two_devices_take_the_steps_of_one_with_all_their_rows(tmp_path, roles, name, batch_size):
    objective = ObjectiveSettings(name, eta=0.5, adjustment=0.1)
    alone, told_alone = roles.fitted(ALONE, objective, 4, tmp_path / "alone")
    arguments = (objective, batch_size, tmp_path / "two")
    with together(("cpu", "cpu"), roles.fit_elsewhere, *arguments) as replicas:
        two, told_two = roles.fitted(replicas, *arguments)
    for key, value in alone.items():
        torch.testing.assert_close(two[key], value)
    assert told_two.losses == pytest.approx(told_alone.losses, rel=1e-5)
    for one, other in zip(told_alone.notes["objective"], told_two.notes["objective"], strict=True):
        assert other.get("q", {}) == pytest.approx(one.get("q", {}), rel=1e-5)
        if name == "group_dro":  # in erm's batch a subgroup has now more rows, now fewer
            assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)


def test_a_mean_counts_those_that_have_the_number(roles):
    with together(("cpu", "cpu"), roles.count_in, None) as replicas:
        means = replicas.means({0: 3.0, 1: 7.0}, size=3)
    assert means == {0: (2.0, 2), 1: (7.0, 1), 2: (5.0, 1)}
    assert ALONE.means({1: 7.0}, size=3) == {1: (7.0, 1)}


def test_a_run_over_two_devices_that_was_killed_ends_like_an_uninterrupted_one(tmp_path):
    save_model(tiny_model(localiser=True), tmp_path / "start.pt")
    settings = replace(
        SETTINGS, device="cpu,cpu", batch_size=1, objective=ObjectiveSettings("group_dro", eta=0.5)
    )
    arguments = {"settings": settings, "start_from": tmp_path / "start.pt"}
    training, validation = cases(3), cases(2, first=20)
    whole = train(training, validation, out_dir=tmp_path / "whole", **arguments)

    def kill(step, _steps):
        if step == 5:
            raise Killed

    out = tmp_path / "killed"
    with pytest.raises(Killed):
        train(training, validation, out_dir=out, progress=kill, **arguments)
    assert [path.name for path in out.iterdir()] == [STATE_FILE]
    steps = []
    resumed = train(
        training, validation, out_dir=out, progress=lambda s, _: steps.append(s), **arguments
    )
    assert steps == [5, 6]
    assert resumed.checksum == whole.checksum
    assert resumed.statistics == whole.statistics
    alone = replace(settings, device="cpu")
    one = train(
        training,
        validation,
        settings=alone,
        start_from=tmp_path / "start.pt",
        out_dir=tmp_path / "one",
    )
    assert one.checksum != whole.checksum  # half the rows a step


def test_a_device_that_fails_ends_the_training_with_its_reason(roles):
    with (
        pytest.raises(RuntimeError, match="the second scan is no volume"),
        together(("cpu", "cpu"), roles.stumble) as replicas,
    ):
        replicas.mean(1.0)


@pytest.mark.parametrize(
    ("device", "names"),
    [
        ("cpu", ("cpu",)),
        ("cuda:1", ("cuda:1",)),
        ("cuda:1, cuda:0", ("cuda:1", "cuda:0")),
        ("cpu,cpu", ("cpu", "cpu")),
    ],
)
def test_devices_are_named_with_commas(device, names):
    assert training_devices(device) == names


def test_auto_is_every_gpu_or_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert training_devices("auto") == ("cuda:0", "cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert training_devices("auto") == ("cpu",)


@pytest.mark.parametrize("device", ["cuda:0,cpu", "cuda:0,cuda:0", "cpu,cuda"])
def test_devices_that_cannot_share_a_training_are_refused(device):
    with pytest.raises(ValueError, match="expected one device, or different GPUs"):
        training_devices(device)


def test_one_alone_averages_nothing():
    network = torch.nn.Linear(1, 1)
    network(torch.ones(1, 1)).backward()
    before = [parameter.grad.clone() for parameter in network.parameters()]
    Replicas().average_gradients(network)
    assert all(
        torch.equal(p.grad, old) for p, old in zip(network.parameters(), before, strict=True)
    )
