"""The residual networks: torchvision's names and numbers, and a variance that is learned."""

import math

import pytest
import torch

from fair_strategy.learning.checkpoint import ModelError
from fair_strategy.learning.residual import (
    ResidualArguments,
    ResidualNetwork,
    ValueNetwork,
    load_torchvision_weights,
    value_loss,
)

SMALL = ResidualArguments(channels=(4, 4, 8, 8), blocks=(1, 1, 1, 1))


def test_resnet18_has_the_names_and_shapes_of_torchvision():
    """Those of torchvision's resnet18: 11 689 512 weights, 122 entries with counters."""
    state = ResidualNetwork(ResidualArguments(), 1000).state_dict()
    assert len(state) == 122
    learned = [
        n for n in state if not n.endswith(("running_mean", "running_var", "batches_tracked"))
    ]
    assert sum(state[name].numel() for name in learned) == 11_689_512
    shapes = {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_var": (64,),
        "layer1.1.conv2.weight": (64, 64, 3, 3),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer4.0.downsample.1.bias": (512,),
        "layer4.1.bn2.num_batches_tracked": (),
        "fc.weight": (1000, 512),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert "layer1.0.downsample.0.weight" not in state


def test_weights_of_a_file_are_taken_but_for_a_head_of_other_classes(tmp_path):
    given = ResidualNetwork(SMALL, 1000).state_dict()
    torch.save(given, tmp_path / "weights.pth")
    network = ResidualNetwork(SMALL, 8)
    head = network.fc.weight.clone()
    load_torchvision_weights(network, tmp_path / "weights.pth")
    found = network.state_dict()
    assert all(torch.equal(found[n], given[n]) for n in given if not n.startswith("fc."))
    assert torch.equal(found["fc.weight"], head)


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"features.0.weight": torch.zeros(2)}, path)
    with pytest.raises(ModelError, match=r"features\.0\.weight; missing: conv1\.weight"):
        load_torchvision_weights(ResidualNetwork(SMALL, 8), path)
    path.write_bytes(b"no weights")
    with pytest.raises(ModelError, match="not a file of weights"):
        load_torchvision_weights(ResidualNetwork(SMALL, 8), path)
    with pytest.raises(ModelError, match="no such file of weights"):
        load_torchvision_weights(ResidualNetwork(SMALL, 8), tmp_path / "other.pth")


def test_nothing_in_a_file_of_weights_is_executed(tmp_path):
    torch.save({"conv1.weight": pytest.approx}, tmp_path / "weights.pth")  # a function
    with pytest.raises(ModelError, match="not a file of weights"):
        load_torchvision_weights(ResidualNetwork(SMALL, 8), tmp_path / "weights.pth")


def test_flat_and_solid_images_give_one_row_each():
    assert ResidualNetwork(SMALL, 8)(torch.zeros(2, 3, 32, 32)).shape == (2, 8)
    solid = ResidualArguments(
        3, 1, channels=(4, 4, 8, 8), blocks=(1, 1, 1, 1), norm="instance", pool=False
    )
    mean, log_variance = ValueNetwork(solid, 2)(torch.randn(2, 1, 32, 32, 32))
    assert mean.shape == log_variance.shape == (2, 2)


def test_the_value_loss_is_the_gaussian_one_without_its_constant():
    """Error 2, variance 4: (4 / 4 + ln 4) / 2; error 0, variance 1: 0; their mean."""
    mean, log_variance = torch.tensor([[3.0, 1.0]]), torch.tensor([[math.log(4), 0.0]])
    loss = value_loss((mean, log_variance), torch.tensor([[1.0, 1.0]]))
    assert float(loss) == pytest.approx((1 + math.log(4)) / 4)
    normal = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    constant = 0.5 * math.log(2 * math.pi)
    expected = -normal.log_prob(torch.tensor([[1.0, 1.0]])).mean() - constant
    assert float(loss) == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dimensions": 4}, "dimensions: expected 2 or 3"),
        ({"channels": (4, 8)}, "four stages"),
        ({"dropout": 1.0}, "dropout"),
        ({"norm": "group"}, "batch or instance"),
    ],
)
def test_impossible_arguments_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        ResidualArguments(**wrong)
