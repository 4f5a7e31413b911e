"""The last layer on a CPU: by hand, against torch's own kernel, and when torch's runs."""

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn
from torch.nn import functional

from fair_strategy.learning.network import NetworkArguments, build_network
from fair_strategy.learning.upsampling import Upsampling, use_upsampling

SMALL = NetworkArguments(channels=(4, 8, 16), strides=(2, 2), dropout=0.3)


def layer(inputs: int = 1, outputs: int = 1, *, bias: bool = True) -> Upsampling:
    torch.manual_seed(0)
    return Upsampling(inputs, outputs, 3, 2, 1, 1, bias=bias)


def torchs_own(upsampling: Upsampling, image: torch.Tensor) -> torch.Tensor:
    return functional.conv_transpose3d(
        image, upsampling.weight, upsampling.bias, stride=2, padding=1, output_padding=1
    )


def test_each_voxel_adds_its_three_taps_at_the_voxels_before_on_and_after_its_double():
    upsampling = layer(bias=False)
    with torch.no_grad():
        upsampling.weight.zero_()
        upsampling.weight[0, 0, :, 1, 1] = torch.tensor([1.0, 10.0, 100.0])
        image = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 3, 1, 1)
        doubled = upsampling(image)[0, 0, :, 0, 0]
    # voxel i: 1 x at 2i - 1, 10 x at 2i, 100 x at 2i + 1; what falls before 0 is gone
    assert doubled.tolist() == [10.0, 100.0 + 2.0, 20.0, 200.0 + 3.0, 30.0, 300.0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 3, 4, 5, 6), (2, 3, 1, 7, 2), (3, 1, 2, 1, 1)])
def test_it_agrees_with_torchs_own_kernel(shape, bias):
    upsampling = layer(shape[1], 2, bias=bias)
    image = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(upsampling(image), torchs_own(upsampling, image))


def test_the_argument_is_not_written_into():
    image = torch.randn(1, 3, 4, 4, 4)
    kept = image.clone()
    with torch.no_grad():
        layer(3, 2)(image)
    assert torch.equal(image, kept)


def test_with_gradients_torchs_own_kernel_runs_bit_for_bit():
    upsampling = layer(3, 2)
    image = torch.randn(1, 3, 4, 4, 4)
    result = upsampling(image)
    assert torch.equal(result, torchs_own(upsampling, image))
    result.sum().backward()
    assert upsampling.weight.grad is not None


def test_the_network_has_it_last_and_its_weights_keep_their_names_and_values():
    torch.manual_seed(7)
    ours = build_network(SMALL)
    torch.manual_seed(7)
    plain = UNet(3, 1, 2, SMALL.channels, SMALL.strides, norm="INSTANCE", dropout=SMALL.dropout)
    assert isinstance(list(ours.modules())[-1], Upsampling)
    assert list(ours.state_dict()) == list(plain.state_dict())
    for name, weights in plain.state_dict().items():
        assert torch.equal(ours.state_dict()[name], weights), name
    with torch.no_grad():
        image = torch.randn(1, 1, 8, 8, 8)
        torch.testing.assert_close(ours.eval()(image), plain.eval()(image))


def test_a_network_that_ends_otherwise_stays_as_it_is():
    arguments = NetworkArguments(channels=(4, 8), strides=(2,), residual_units=1)
    assert not any(isinstance(m, Upsampling) for m in build_network(arguments).modules())
    tripling = UNet(3, 1, 2, (4, 8), (3,), norm="INSTANCE")
    use_upsampling(tripling)
    assert type(list(tripling.modules())[-1]) is nn.ConvTranspose3d
