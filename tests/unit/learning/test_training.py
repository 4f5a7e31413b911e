"""Training: it learns, resumes exactly, publishes atomically, reports by subgroup."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fair_strategy.data.volumes import Mask, write_image, write_mask
from fair_strategy.learning.checkpoint import ModelError, load_model, save_model
from fair_strategy.learning.objectives import OBJECTIVES, ObjectiveSettings
from fair_strategy.learning.samples import Samples, prepare_case
from fair_strategy.learning.training import (
    STATE_FILE,
    TrainingCase,
    TrainingSettings,
    evaluate,
    train,
)
from fair_strategy.learning.transforms import augmentation

from .conftest import blob, tiny_model

SETTINGS = TrainingSettings(
    steps=6,
    batch_size=2,
    learning_rate=0.01,
    evaluate_every=3,
    save_every=2,
    context_mm=4.0,
    augment=0.2,
    device="cpu",
)


def cases(count: int, *, first: int = 0) -> list[TrainingCase]:
    made = []
    for seed in range(first, first + count):
        centre = np.random.default_rng(seed).uniform(8, 12, 3)
        image, label = blob(centre=centre, seed=seed)
        made.append(TrainingCase(image, label, "AB"[seed % 2], f"sub-{seed:02d}"))
    return made


@pytest.fixture
def start(tmp_path):
    path = tmp_path / "start.pt"
    save_model(tiny_model(localiser=True), path)
    return path


class Killed(Exception):
    pass


def test_training_raises_the_dice_of_held_out_cases(tmp_path, start):
    held_out = cases(4, first=50)
    before = np.mean(evaluate(load_model(start), held_out))
    settings = replace(SETTINGS, steps=25, learning_rate=0.02)
    result = train(cases(4), [], settings=settings, start_from=start, out_dir=tmp_path / "out")
    after = np.mean(evaluate(load_model(result.path), held_out))
    assert after > max(before + 0.2, 0.8)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_killed_run_ends_like_an_uninterrupted_one(tmp_path, start, name):
    settings = replace(SETTINGS, objective=ObjectiveSettings(name, eta=0.5))
    arguments = {"settings": settings, "start_from": start}
    training, validation = cases(3), cases(2, first=20)
    whole = train(training, validation, out_dir=tmp_path / "whole", **arguments)

    def kill(step, steps):
        if step == 5:  # one step after the last state
            raise Killed

    with pytest.raises(Killed):
        train(training, validation, out_dir=tmp_path / "killed", progress=kill, **arguments)
    assert [p.name for p in (tmp_path / "killed").iterdir()] == [STATE_FILE]
    steps = []
    resumed = train(
        training,
        validation,
        out_dir=tmp_path / "killed",
        progress=lambda step, _: steps.append(step),
        **arguments,
    )
    assert steps == [5, 6]
    assert resumed.checksum == whole.checksum
    assert resumed.statistics == whole.statistics


def test_a_state_of_other_cases_or_settings_is_ignored(tmp_path, start):
    def kill(step, steps):
        if step == 3:
            raise Killed

    out = tmp_path / "out"
    with pytest.raises(Killed):
        train(cases(3), [], settings=SETTINGS, start_from=start, out_dir=out, progress=kill)
    steps = []
    train(
        cases(4),
        [],
        settings=SETTINGS,
        start_from=start,
        out_dir=out,
        progress=lambda step, _: steps.append(step),
    )
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_damaged_state_starts_the_run_anew(tmp_path, start):
    out = tmp_path / "out"
    out.mkdir()
    (out / STATE_FILE).write_bytes(b"not a state")
    result = train(cases(2), [], settings=SETTINGS, start_from=start, out_dir=out)
    assert result.statistics["steps"] == 6
    assert not (out / STATE_FILE).exists()


def test_the_published_file_is_named_by_its_checksum_and_keeps_the_localiser(tmp_path, start):
    result = train(cases(2), [], settings=SETTINGS, start_from=start, out_dir=tmp_path / "out")
    model, origin = load_model(result.path), load_model(start)
    assert result.path.name == f"{result.checksum}.pt"
    assert model.checksum == result.checksum
    assert model.training["start_from"] == origin.checksum
    assert model.training["cases"] == 2
    for name, tensor in origin.localiser.state_dict().items():
        assert torch.equal(model.localiser.state_dict()[name], tensor)


def test_statistics_report_each_subgroup_and_the_worst_one(tmp_path, start):
    validation = cases(3, first=20)
    result = train(cases(3), validation, settings=SETTINGS, start_from=start, out_dir=tmp_path)
    statistics = result.statistics
    assert {name: group["n"] for name, group in statistics["by_group"].items()} == {"A": 2, "B": 1}
    means = [group["mean"] for group in statistics["by_group"].values()]
    assert statistics["best_metric"] == min(means)
    scores = evaluate(load_model(result.path), validation)
    assert statistics["overall"] == pytest.approx(np.mean(scores), abs=0.01)


def test_statistics_tell_each_subgroups_loss_the_cases_used_and_q(tmp_path, start):
    settings = replace(SETTINGS, objective=ObjectiveSettings("group_dro", eta=0.5))
    result = train(cases(3), [], settings=settings, start_from=start, out_dir=tmp_path)
    told = result.statistics["objective"]
    assert (told["name"], told["cases"], told["eta"]) == ("group_dro", {"A": 2, "B": 1}, 0.5)
    assert [row["step"] for row in told["history"]] == [3, 6]
    for row in told["history"]:
        assert sum(row["q"].values()) == pytest.approx(1)
        assert set(row["loss"]) == {"A", "B"}
    assert load_model(result.path).training["settings"]["objective"]["name"] == "group_dro"

    settings = replace(SETTINGS, objective=ObjectiveSettings("balanced"))
    result = train(cases(3), [], settings=settings, start_from=start, out_dir=tmp_path)
    told = result.statistics["objective"]
    assert (told["name"], told["cases"]) == ("balanced", {"A": 1, "B": 1})
    assert "q" not in told["history"][0]


def test_the_objective_changes_the_model_and_one_subgroup_does_not(tmp_path, start):
    def weights(name, training):
        settings = replace(SETTINGS, objective=ObjectiveSettings(name, eta=0.5))
        result = train(training, [], settings=settings, start_from=start, out_dir=tmp_path)
        return load_model(result.path).network.state_dict()["model.0.conv.weight"]

    erm, robust = (weights(name, cases(4)) for name in ("erm", "group_dro"))
    assert not torch.equal(erm, robust)
    alone = cases(5)[::2]  # of subgroup A
    for name in ("balanced", "group_dro"):
        assert torch.equal(weights("erm", alone), weights(name, alone))


def test_the_best_validated_state_is_published_not_the_last(tmp_path, start, monkeypatch):
    scores = iter([[0.9], [0.4]])
    monkeypatch.setattr("fair_strategy.learning.validation.evaluate", lambda *_: next(scores))
    result = train(
        cases(2), cases(1, first=20), settings=SETTINGS, start_from=start, out_dir=tmp_path
    )
    assert result.statistics["best_step"] == 3
    assert [e["step"] for e in result.statistics["evaluations"]] == [3, 6]
    assert load_model(result.path).training["best_step"] == 3


def test_without_validation_there_is_no_metric(tmp_path, start):
    statistics = train(
        cases(2), [], settings=SETTINGS, start_from=start, out_dir=tmp_path
    ).statistics
    assert statistics["best_metric"] is None
    assert statistics["by_group"] == {}


def test_metrics_are_told_without_the_subgroups_names(tmp_path, start):
    told = []
    train(
        cases(2),
        cases(2, first=20),
        settings=SETTINGS,
        start_from=start,
        out_dir=tmp_path,
        on_metrics=lambda step, values: told.append((step, sorted(values))),
    )
    assert told == [
        (3, ["dice", "loss", "worst_group_dice"]),
        (6, ["dice", "loss", "worst_group_dice"]),
    ]


def test_files_are_read_and_a_model_is_made_from_nothing(tmp_path):
    image, label = blob()
    write_image(tmp_path / "sub-01_T1w.nii.gz", image.array, image.affine)
    write_mask(tmp_path / "mask.nii.gz", label.array, label.affine)
    case = TrainingCase(tmp_path / "sub-01_T1w.nii.gz", tmp_path / "mask.nii.gz", "A", "sub-01")
    settings = replace(SETTINGS, steps=1, batch_size=1)
    result = train([case], [], settings=settings, start_from=None, out_dir=tmp_path / "out")
    assert load_model(result.path).localiser is None


def test_no_case_and_no_model_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one case"):
        train([], [], settings=SETTINGS, start_from=None, out_dir=tmp_path)
    with pytest.raises(ModelError, match="no such model file"):
        train(cases(1), [], settings=SETTINGS, start_from=tmp_path / "x.pt", out_dir=tmp_path)


def test_steps_must_be_positive():
    with pytest.raises(ValueError, match="steps: expected more than 0, got 0"):
        TrainingSettings(steps=0)


def test_a_prepared_case_lies_around_its_label():
    image, label = blob(shape=(40, 40, 40), centre=(30, 10, 20))
    case = prepare_case(image, label, spacing_mm=1.0, shape=(15, 15, 15))
    middle = np.argwhere(case.label[0].numpy()).mean(0)
    np.testing.assert_allclose(middle, 7.0, atol=0.01)
    assert case.label.sum() == label.array.sum()


def test_a_case_with_an_empty_label_is_prepared_around_the_middle():
    image, label = blob()
    empty = Mask(np.zeros_like(label.array), label.affine)
    case = prepare_case(image, empty, spacing_mm=1.0, shape=(20, 20, 20))
    assert not case.label.any()
    assert (case.image > 0).all()


def test_each_round_of_samples_shows_each_case_once():
    prepared = []
    for radius in (3, 4, 5):
        image, label = blob(radius=radius)
        prepared.append(prepare_case(image, label, spacing_mm=1.0, shape=(20, 20, 20)))
    transforms = augmentation((20, 20, 20), shift_voxels=0, far_voxels=0, strength=0.0)
    samples = Samples(prepared, transforms, seed=0, count=9)
    sizes = [int(samples[index][1].sum()) for index in range(9)]
    own = sorted(int(case.label.sum()) for case in prepared)
    for start in (0, 3, 6):
        assert sorted(sizes[start : start + 3]) == pytest.approx(own, rel=0.1)
