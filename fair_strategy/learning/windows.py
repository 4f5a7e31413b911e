"""The segmenter over a region: one window, or a window that slides; once, or with dropout."""

from __future__ import annotations

import threading

import torch
from monai.inferers import sliding_window_inference
from torch import nn

from fair_strategy.learning.checkpoint import Model
from fair_strategy.learning.localisation import foreground
from fair_strategy.learning.network import stochastic_copy
from fair_strategy.learning.transforms import normalise

OVERLAP = 0.5
_PASSES_AT_ONCE = 4
# Dropout draws from torch's global generator, which threads share.
_ONE_STOCHASTIC_RUN = threading.Lock()


def foreground_maps(
    model: Model, image: torch.Tensor, *, slides: bool, passes: int, seed: int
) -> list[torch.Tensor]:
    """Foreground probability (1, I, J, K) of an image (1, I, J, K), once a pass.

    Args:
        image: a region in the scan's own units, over which a window slides; or one window,
            normalised.
        passes: 1 is deterministic; more are passes with dropout.
        seed: of the dropout.
    """

    def run(network: nn.Module) -> list[torch.Tensor]:
        if slides:
            return _slide(model, network, image, passes)
        return _one_window(network, image, passes)

    if passes == 1:
        return run(model.network)
    network = stochastic_copy(model.network)
    devices = [model.device] if model.device.type == "cuda" else []
    with _ONE_STOCHASTIC_RUN, torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        return run(network)


def one_window(model: Model, region: torch.Tensor) -> torch.Tensor | None:
    """A region (1, I, J, K), normalised, if it has the size of a window; None if it has not."""
    return normalise(region) if tuple(region.shape[1:]) == model.window else None


def _one_window(network: nn.Module, window: torch.Tensor, passes: int) -> list[torch.Tensor]:
    maps: list[torch.Tensor] = []
    while len(maps) < passes:
        count = min(_PASSES_AT_ONCE, passes - len(maps))
        maps.extend(window_maps(network, window.expand(count, -1, -1, -1, -1)))
    return maps


def _slide(
    model: Model, network: nn.Module, region: torch.Tensor, passes: int
) -> list[torch.Tensor]:
    def predictor(windows: torch.Tensor) -> torch.Tensor:
        return window_maps(network, torch.stack([normalise(w) for w in windows]))

    return [
        sliding_window_inference(
            region[None],
            roi_size=model.window,
            sw_batch_size=_PASSES_AT_ONCE,
            predictor=predictor,
            overlap=OVERLAP,
            mode="gaussian",
            padding_mode="replicate",
        )[0]
        for _ in range(passes)
    ]


def window_maps(network: nn.Module, windows: torch.Tensor) -> torch.Tensor:
    """Foreground probability (N, 1, I, J, K) of normalised windows; 0 where one is all 0."""
    there = filled(windows)
    if there.all():
        return _forward(network, windows)
    probability = torch.zeros_like(windows)
    if there.any():
        probability[there] = _forward(network, windows[there])
    return probability


def filled(windows: torch.Tensor) -> torch.Tensor:
    """(N,) whether there is anything in a normalised window (N, 1, I, J, K)."""
    return windows.flatten(1).amax(dim=1) > 0


def unchecked_maps(network: nn.Module, windows: torch.Tensor) -> torch.Tensor:
    """As `window_maps` of windows with something in them, without waiting for a GPU to be done.

    A GPU computes in half precision: beyond its 65504 a map is not finite.
    """
    # Half precision pays on a GPU alone; the softmax is taken in single precision.
    with torch.autocast(windows.device.type, dtype=torch.float16, enabled=windows.is_cuda):
        return foreground(network(windows))


def _forward(network: nn.Module, windows: torch.Tensor) -> torch.Tensor:
    maps = unchecked_maps(network, windows)
    if windows.is_cuda and not maps.isfinite().all():
        maps = foreground(network(windows))
    return maps
