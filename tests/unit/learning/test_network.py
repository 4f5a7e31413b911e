"""The U-Net: shapes, dropout that can be reached alone, arguments that travel."""

import pytest
import torch
from torch import nn

from fair_strategy.learning.network import (
    NetworkArguments,
    build_network,
    enable_dropout,
    stochastic_copy,
)

SMALL = NetworkArguments(channels=(4, 8, 16), strides=(2, 2), dropout=0.3)


def test_logits_have_two_channels_on_the_inputs_own_voxels():
    assert build_network(SMALL)(torch.zeros(2, 1, 8, 12, 4)).shape == (2, 2, 8, 12, 4)


def test_residual_units_keep_the_shape():
    arguments = NetworkArguments(channels=(4, 8), strides=(2,), residual_units=1)
    assert build_network(arguments)(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 2, 8, 8, 8)


def test_the_multiple_is_the_product_of_the_strides():
    assert SMALL.multiple == 4
    assert NetworkArguments().multiple == 8


def test_instance_normalisation_is_the_only_normalisation():
    kinds = {type(m) for m in build_network(SMALL).modules() if "Norm" in type(m).__name__}
    assert kinds == {nn.InstanceNorm3d}


def test_enable_dropout_switches_dropout_and_nothing_else():
    network = build_network(SMALL).eval()
    count = enable_dropout(network)
    training = [m for m in network.modules() if m.training]
    assert count == len(training) > 0
    assert {type(m) for m in training} == {nn.Dropout}


def test_a_stochastic_copy_varies_and_leaves_the_original_deterministic():
    network = build_network(SMALL).eval()
    image = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    copy = stochastic_copy(network)
    assert not torch.equal(copy(image), copy(image))
    assert torch.equal(network(image), network(image))


def test_arguments_survive_the_way_through_plain_values():
    assert NetworkArguments.from_plain(SMALL.as_plain()) == SMALL


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"channels": (4, 8), "strides": (2, 2)}, "one stride fewer"),
        ({"channels": (4,), "strides": ()}, "one stride fewer"),
        ({"dropout": 1.0}, "dropout must be in"),
    ],
)
def test_bad_arguments_are_refused_with_their_values(values, match):
    with pytest.raises(ValueError, match=match):
        NetworkArguments(**values)
