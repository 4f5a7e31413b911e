"""The U-Net's last layer, a transposed convolution to two channels, at a third of its cost.

On a CPU torch's own kernel for it takes a third of a whole pass: it makes little of two channels.
"""

from __future__ import annotations

import torch
from monai.networks.nets import UNet
from torch import nn

_AXIS = 4  # of the pieces in `_doubled`


class Upsampling(nn.ConvTranspose3d):
    """A transposed convolution that doubles each side, with a kernel of three voxels.

    On a CPU and without gradients one product of matrices holds all products of voxels and
    weights, and they are added up axis by axis; else torch does it. The results differ by
    rounding only.
    """

    def forward(self, image: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        """(N, C, I, J, K) -> (N, D, 2 I, 2 J, 2 K)."""
        if image.device.type != "cpu" or torch.is_grad_enabled() or output_size is not None:
            return super().forward(image, output_size)
        taps = self.weight.permute(2, 3, 4, 1, 0)  # (3, 3, 3, D, C)
        parts = taps.reshape(-1, self.in_channels) @ image.flatten(2)
        parts = parts.view(len(image), *taps.shape[:4], *image.shape[2:])
        for _ in range(3):
            parts = _doubled(parts)
        return parts if self.bias is None else parts.add_(self.bias.view(-1, 1, 1, 1))


def use_upsampling(network: UNet) -> None:
    """Put `Upsampling` in the place of the network's last layer, if it is such a layer.

    Its parameters and their names stay.
    """
    last = list(network.named_modules())[-1]
    name, layer = last
    if type(layer) is not nn.ConvTranspose3d or not _doubles(layer):
        return
    upsampling = nn.utils.skip_init(  # draws no random numbers
        Upsampling, layer.in_channels, layer.out_channels, 3, 2, 1, 1, bias=layer.bias is not None
    )
    upsampling.weight, upsampling.bias = layer.weight, layer.bias
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, upsampling)


def _doubles(layer: nn.ConvTranspose3d) -> bool:
    given = (layer.kernel_size, layer.stride, layer.padding, layer.output_padding, layer.dilation)
    plain = layer.groups == 1 and layer.padding_mode == "zeros"
    return plain and given == tuple((n,) * 3 for n in (3, 2, 1, 1, 1))


def _doubled(parts: torch.Tensor) -> torch.Tensor:
    """One axis doubled: its three taps, the second axis of `parts`, added up where they overlap.

    Voxel i of the input adds to the voxels 2 i - 1, 2 i and 2 i + 1 of the output. The axes of
    `parts` are N, taps of up to three axes, D, I, J, K. Since the taps done are gone, the axis
    that goes with the next ones stands at the same place each time.
    """
    before, even, odd = parts.unbind(1)
    count = odd.shape[_AXIS] - 1
    odd.narrow(_AXIS, 0, count).add_(before.narrow(_AXIS, 1, count))
    return torch.stack((even, odd), _AXIS + 1).flatten(_AXIS, _AXIS + 1)
