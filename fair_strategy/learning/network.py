"""The one U-Net: the segmenter and, with smaller arguments, the low-resolution localiser."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

from monai.networks.nets import UNet
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from fair_strategy.learning.features import report_features
from fair_strategy.learning.upsampling import use_upsampling

CLASSES = 2


@dataclass(frozen=True, slots=True)
class NetworkArguments:
    """What `build_network` needs to rebuild the same network; plain numbers only.

    Attributes:
        channels: features per level, from the finest to the bottom.
        strides: down-sampling between levels, one fewer than channels. Each level but the
            bottom starts with its stride, so the convolutions run at half the window's
            resolution and coarser; this is what makes a window cheap on a CPU.
        residual_units: residual units a level; 0 is one convolution.
        dropout: probability of dropout after each convolution, in [0, 1).
    """

    channels: tuple[int, ...] = (24, 48, 96, 192)
    strides: tuple[int, ...] = (2, 2, 2)
    residual_units: int = 0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if len(self.channels) < 2 or len(self.strides) != len(self.channels) - 1:
            raise ValueError(
                f"network arguments: expected one stride fewer than channels (at least 2), "
                f"got channels {self.channels} and strides {self.strides}"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"network arguments: dropout must be in [0, 1), got {self.dropout}")

    @property
    def multiple(self) -> int:
        """Number of voxels that every side of an input must be a multiple of."""
        product = 1
        for stride in self.strides:
            product *= stride
        return product

    def as_plain(self) -> dict[str, Any]:
        """The arguments as numbers and lists, for a checkpoint."""
        plain = asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> NetworkArguments:
        """The arguments from `as_plain`; TypeError for a name that is not one of them."""
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()
        }
        return cls(**values)


def build_network(arguments: NetworkArguments) -> nn.Module:
    """3D U-Net with instance normalisation and dropout, from (N, 1, I, J, K) to 2 logits a voxel.

    Args:
        arguments: the network's size.
    Returns:
        A module in training mode; its output is (N, 2, I, J, K), background first. I, J and K
        must be multiples of `arguments.multiple`.
    References:
        Ronneberger et al. 2015, arXiv:1505.04597; Kerfoot et al. 2018 for MONAI's layout.
    """
    network = UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=CLASSES,
        channels=arguments.channels,
        strides=arguments.strides,
        num_res_units=arguments.residual_units,
        norm="INSTANCE",
        dropout=arguments.dropout,
    )
    report_features(network)
    use_upsampling(network)
    return network


def dropout_layers(network: nn.Module) -> list[_DropoutNd]:
    """The layers of a network that drop something, of whatever kind."""
    return [m for m in network.modules() if isinstance(m, _DropoutNd)]


def enable_dropout(network: nn.Module) -> int:
    """Put the dropout layers, and nothing else, in training mode; the number of them.

    `network.train()` would also change every other layer that has a training mode.
    """
    layers = dropout_layers(network)
    for layer in layers:
        layer.train()
    return len(layers)


def stochastic_copy(network: nn.Module) -> nn.Module:
    """A copy of the network in evaluation mode with its dropout on.

    A copy, because the original may be answering another thread at the same moment.
    """
    copy = deepcopy(network).eval()
    enable_dropout(copy)
    return copy
