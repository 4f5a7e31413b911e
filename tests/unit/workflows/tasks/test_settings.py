"""Settings of the tasks: published defaults, YAML over them, unknown keys with the good ones."""

import pytest
import torch

from fair_strategy.config import SettingsError, StudySettings, parse_settings
from fair_strategy.learning.residual import ResidualArguments, ResidualNetwork
from fair_strategy.workflows.tasks.isic import Isic
from fair_strategy.workflows.tasks.settings import read_task_settings


def written(folder, text):
    path = folder / "task.yaml"
    path.write_text(text)
    return path


def test_the_defaults_are_the_published_settings():
    isic, brats, adni = (read_task_settings(name, None) for name in ("isic", "brats", "adni"))
    assert all((s.ensemble.networks, s.ensemble.passes) == (3, 20) for s in (isic, brats, adni))
    assert (isic.training.epochs, isic.training.batch_size) == (100, 64)
    assert (isic.training.learning_rate, isic.training.rate_decay) == (5e-4, 0.995)
    assert (isic.training.weight_decay, isic.network.dropout) == (1e-5, 0.2)
    assert (brats.training.epochs, brats.training.learning_rate) == (240, 2e-4)
    assert (brats.class_weight_decay, brats.volume_edge_mm3) == (0.95, 7000)
    assert (adni.training.epochs, adni.training.learning_rate) == (200, 2e-4)
    assert (adni.split.folds, adni.age_edge) == (5, 70)


def test_a_block_that_a_file_names_in_part_keeps_the_tasks_defaults(tmp_path):
    found = read_task_settings("brats", written(tmp_path, "training: {batch_size: 2}\n"))
    assert (found.training.batch_size, found.training.epochs) == (2, 240)
    assert found.training.learning_rate == 2e-4


@pytest.mark.parametrize("name", ["isic", "brats", "adni"])
def test_the_files_of_the_look_alikes_can_be_read(name):
    from pathlib import Path

    root = Path(__file__).resolve().parents[4]
    assert read_task_settings(name, root / f"experiments/lookalike-{name}.yaml").split.test


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch: 3", "unknown option 'epoch'; expected one of .*training"),
        ("training: {epoch: 3}", "unknown option 'epoch'; expected one of batch_size, epochs"),
        ("training: {epochs: 0}", "greater than or equal to 1, got 0"),
        ("split: {test: -1}", "test: expected numbers of cases, or shares below 1"),
        ("split: {test: 2.5}", "test: expected numbers of cases, or shares below 1"),
        ("patch: [20, 20, 20]", "patch: expected multiples of 8"),
        ("[1, 2]", "expected options and their values"),
        ("{", "expected YAML"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_name(tmp_path, text, said):
    with pytest.raises(SettingsError, match=f"task.yaml: .*{said}"):
        read_task_settings("brats", written(tmp_path, text))


@pytest.mark.parametrize("feature", ["enhancing_volume", "sex,enhancing_volume"])
def test_a_subgroup_that_is_known_from_the_label_alone_is_refused_for_selection(feature):
    with pytest.raises(SettingsError, match="enhancing_volume: is known from the label"):
        parse_settings(StudySettings, {"sensitive_feature": feature})


def test_isic_starts_from_the_local_file_of_weights_that_a_file_of_settings_names(tmp_path):
    small = {"channels": (4, 4, 4, 4), "blocks": (1, 1, 1, 1)}
    given = ResidualNetwork(ResidualArguments(**small), 1000).state_dict()
    torch.save(given, tmp_path / "resnet.pth")
    text = "weights: resnet.pth\nnetwork: {channels: [4, 4, 4, 4], blocks: [1, 1, 1, 1]}\n"
    network = Isic(read_task_settings("isic", written(tmp_path, text))).network()
    assert torch.equal(network.state_dict()["conv1.weight"], given["conv1.weight"])
    assert network.state_dict()["fc.weight"].shape == (8, 4)
