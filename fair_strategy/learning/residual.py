"""Residual networks for whole images, flat or solid; weights by torchvision's names."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fair_strategy.learning.checkpoint import ModelError

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_BATCH = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_MEAN = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


@dataclass(frozen=True, slots=True)
class ResidualArguments:
    """What a residual network is made of; the defaults are ResNet-18's.

    Attributes:
        dimensions: 2 or 3.
        in_channels: of the image.
        channels: features of each of the four stages.
        blocks: residual blocks of each stage.
        dropout: after each stage, in [0, 1).
        norm: `batch`, or `instance`, which does not depend on the other rows of a batch and
            needs more than one voxel after the last stage.
        pool: whether the first convolution is followed by a pooling that halves each side; with
            it sides shrink by 32 in all, else by 16.
    """

    dimensions: int = 2
    in_channels: int = 3
    channels: tuple[int, ...] = (64, 128, 256, 512)
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    dropout: float = 0.2
    norm: str = "batch"
    pool: bool = True

    def __post_init__(self) -> None:
        if self.dimensions not in (2, 3):
            raise ValueError(f"dimensions: expected 2 or 3, got {self.dimensions}")
        if len(self.channels) != 4 or len(self.blocks) != 4 or min(self.blocks) < 1:
            raise ValueError(
                f"residual network: expected channels and blocks of four stages, "
                f"got {self.channels} and {self.blocks}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected a number in [0, 1), got {self.dropout}")
        if self.norm not in ("batch", "instance"):
            raise ValueError(f"norm: expected batch or instance, got {self.norm!r}")


class Block(nn.Module):
    """Two convolutions of 3 voxels beside a shortcut."""

    def __init__(self, arguments: ResidualArguments, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(arguments, inside, out, 3, stride)
        self.bn1 = _norm(arguments, out)
        self.conv2 = _convolution(arguments, out, out, 3, 1)
        self.bn2 = _norm(arguments, out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inside != out:
            self.downsample = nn.Sequential(
                _convolution(arguments, inside, out, 1, stride), _norm(arguments, out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inside, ...) -> (N, out, ...)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + shortcut)


class ResidualNetwork(nn.Module):
    """Residual network with dropout after each stage, from (N, C, ...) to (N, outputs).

    References:
        He et al. 2016, arXiv:1512.03385.
    """

    def __init__(self, arguments: ResidualArguments, outputs: int) -> None:
        super().__init__()
        first, dimensions = arguments.channels[0], arguments.dimensions
        self.conv1 = _convolution(arguments, arguments.in_channels, first, 7, 2)
        self.bn1 = _norm(arguments, first)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = _POOL[dimensions](3, 2, 1) if arguments.pool else nn.Identity()
        inside = first
        for number, (out, blocks) in enumerate(
            zip(arguments.channels, arguments.blocks, strict=True), start=1
        ):
            layers = [Block(arguments, inside, out, 1 if number == 1 else 2)]
            layers += [Block(arguments, out, out, 1) for _ in range(blocks - 1)]
            setattr(self, f"layer{number}", nn.Sequential(*layers))
            inside = out
        self.dropout = nn.Dropout(arguments.dropout)
        self.avgpool = _MEAN[dimensions](1)
        self.fc = nn.Linear(inside, outputs)

    def forward(self, x: torch.Tensor) -> Any:
        """(N, C, ...) -> (N, outputs)."""
        return self.fc(self.features(x))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, ...) -> (N, channels of the last stage)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            x = self.dropout(self.get_submodule(stage)(x))
        return torch.flatten(self.avgpool(x), 1)


class ValueNetwork(ResidualNetwork):
    """Several quantities from one residual network, each with the variance it expects of itself.

    References:
        Kendall and Gal 2017, arXiv:1703.04977.
    """

    LOG_VARIANCE = 10.0
    """Larger and smaller ones are cut: an exponential must not overflow."""

    def __init__(self, arguments: ResidualArguments, outputs: int) -> None:
        super().__init__(arguments, 2 * outputs)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, C, ...) -> mean and log variance, both (N, outputs)."""
        mean, log_variance = self.fc(self.features(x)).chunk(2, dim=1)
        return mean, log_variance.clamp(-self.LOG_VARIANCE, self.LOG_VARIANCE)


def value_loss(outputs: Any, targets: torch.Tensor) -> torch.Tensor:
    """Mean Gaussian negative log likelihood, without its constant.

    Args:
        outputs: mean and log variance, both (N, T).
        targets: (N, T).
    """
    mean, log_variance = outputs
    return 0.5 * (torch.exp(-log_variance) * (targets - mean) ** 2 + log_variance).mean()


def load_torchvision_weights(network: nn.Module, path: Path) -> None:
    """Take over the weights of a file of torchvision's, but for a head of other outputs.

    Raises:
        ModelError: no such file, no state dict, or names and shapes that do not fit. Nothing in
            the file is executed.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file of weights; give a state dict of torchvision's")
    try:
        found = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise ModelError(f"{path}: not a file of weights ({str(error).splitlines()[0]})") from None
    if not isinstance(found, dict) or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise ModelError(f"{path}: expected a state dict, names to tensors; save one and give that")
    own = network.state_dict()
    taken = {
        name: value
        for name, value in found.items()
        if not (name.startswith("fc.") and name in own and own[name].shape != value.shape)
    }
    wrong = [name for name, value in taken.items() if name not in own]
    wrong += [
        name for name, value in taken.items() if name in own and own[name].shape != value.shape
    ]
    missing = [
        name
        for name in own
        if name not in found and not name.startswith("fc.") and "num_batches" not in name
    ]
    if wrong or missing:
        raise ModelError(
            f"{path}: the weights do not fit; not expected: {', '.join(wrong[:3]) or 'none'}; "
            f"missing: {', '.join(missing[:3]) or 'none'}; give those of the same network"
        )
    network.load_state_dict(own | taken)


def _convolution(
    arguments: ResidualArguments, inside: int, out: int, size: int, stride: int
) -> nn.Module:
    kind = _CONVOLUTION[arguments.dimensions]
    return kind(inside, out, size, stride=stride, padding=size // 2, bias=False)


def _norm(arguments: ResidualArguments, channels: int) -> nn.Module:
    if arguments.norm == "instance":
        return _INSTANCE[arguments.dimensions](channels, affine=True)
    return _BATCH[arguments.dimensions](channels)
