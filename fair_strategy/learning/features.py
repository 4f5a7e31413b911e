"""One vector a scan: what the segmenter's deepest level makes of it.

The deepest level reports to the collection that is open in the running thread, if one is: the
network itself keeps nothing of a run, so that threads can share it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from monai.networks.layers.simplelayers import SkipConnection
from monai.networks.nets import UNet
from numpy.typing import NDArray
from torch import nn

# A new thread starts with the default: what another one collects is not seen there.
_collection: ContextVar[list[torch.Tensor] | None] = ContextVar("bottleneck", default=None)


def deepest_level(network: UNet) -> nn.Module:
    """The block of the U-Net at its lowest resolution, without skip connection."""
    block: nn.Module = network.model
    while isinstance(block, nn.Sequential) and len(block) == 3:
        if not isinstance(block[1], SkipConnection):
            break
        block = block[1].submodule
    return block


def report_features(network: UNet) -> None:
    """Let the network's deepest level report to `collected_features`, from now on."""
    deepest_level(network).register_forward_hook(_report)


@contextmanager
def collected_features() -> Iterator[list[torch.Tensor]]:
    """Collect, in this thread, what networks that report compute at their deepest level.

    Yields:
        A list that grows by (N, C) for each batch of N windows: mean over the voxels.
    """
    found: list[torch.Tensor] = []
    token = _collection.set(found)
    try:
        yield found
    finally:
        _collection.reset(token)


def mean_features(collected: list[torch.Tensor]) -> NDArray[np.float32] | None:
    """Mean over all windows and passes of a collection.

    Returns:
        (C,), float32; None if nothing was collected, or if it is not finite.
    """
    if not collected:
        return None
    mean = torch.cat(collected).mean(dim=0).cpu().numpy()
    return mean if np.isfinite(mean).all() else None


def _report(_: nn.Module, __: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
    found = _collection.get()
    if found is not None:
        found.append(output.detach().float().flatten(2).mean(dim=2))
