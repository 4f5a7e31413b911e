"""Tensors on their way to a device and back, without waiting for what it computes meanwhile.

All threads share a GPU's one stream: whoever copies from ordinary memory, or asks for a number,
waits for everything that was asked of the GPU before.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, eq=False)
class Arriving:
    """A tensor on its way from a device into the memory; on a CPU it is there."""

    _there: torch.Tensor
    _copied: torch.cuda.Event | None

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Arriving:
        """Begin to copy what the device is asked to compute into the tensor."""
        if not tensor.is_cuda:
            return cls(tensor, None)
        there = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        there.copy_(tensor, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        return cls(there, copied)

    def tensor(self) -> torch.Tensor:
        """The tensor in the memory, as soon as it is there."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._there


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device; nobody waits until it is there."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
