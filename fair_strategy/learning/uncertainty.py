"""Mean, entropy and variance of many stochastic passes of one or several networks.

One network and several passes is MC dropout, several networks and one pass a deep ensemble,
several of both EnsembleDropout. Nothing grows with the number of samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fair_strategy.learning.network import dropout_layers

FloatArray = NDArray[np.float32]
_BY_CHANNEL = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How many samples: `networks` x `passes`.

    Attributes:
        passes: a network; 1 runs it once without dropout.
        rows_at_once: inputs of one forward pass, over cases and passes; no effect on the
            result but rounding.
        seed: of the dropout.
    """

    passes: int = 1
    rows_at_once: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("passes", "rows_at_once"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


ENSEMBLE_DROPOUT = (3, 20)
"""Networks and passes of Mehta, Shui and Arbel 2023, arXiv:2303.03242."""


@dataclass(frozen=True, slots=True, eq=False)
class ProbabilityEstimate:
    """Class probabilities and what the samples say about them; entropies in nats.

    Attributes:
        mean: (N, C, ...), mean over the samples.
        predictive_entropy: (N, ...), entropy of `mean`, 0 to ln C.
        expected_entropy: (N, ...), mean over the samples of each one's entropy.
        samples: how many.
    """

    mean: FloatArray
    predictive_entropy: FloatArray
    expected_entropy: FloatArray
    samples: int

    @property
    def mutual_information(self) -> FloatArray:
        """(N, ...), predictive minus expected entropy, at least 0; 0 for one sample."""
        return np.maximum(self.predictive_entropy - self.expected_entropy, 0)


@dataclass(frozen=True, slots=True, eq=False)
class ValueEstimate:
    """Predicted values and their variances, each (N, ...).

    Attributes:
        mean: mean over the samples of the predicted means.
        sampled_variance: variance of the predicted means over the samples, divided by their
            number; 0 for one sample.
        predicted_variance: mean over the samples of the variance that the network predicts.
        samples: how many.
    """

    mean: FloatArray
    sampled_variance: FloatArray
    predicted_variance: FloatArray
    samples: int

    @property
    def variance(self) -> FloatArray:
        """Total variance: of the sampled means, plus the mean predicted one.

        References:
            Kendall and Gal 2017, arXiv:1703.04977, equation 9.
        """
        return self.sampled_variance + self.predicted_variance


class ProbabilityMoments:
    """Running sums of the samples' probabilities and entropies."""

    def __init__(self) -> None:
        self.samples = 0
        self._probability: Any = 0.0
        self._entropy: Any = 0.0

    def add(self, probability: torch.Tensor) -> None:
        """Take up one sample, (N, C, ...), with a sum of 1 over C."""
        own = probability.double()
        self._probability = self._probability + own
        self._entropy = self._entropy + _entropy(own)
        self.samples += 1

    def estimate(self) -> ProbabilityEstimate:
        """What the samples so far amount to; ValueError without any."""
        _refuse_none(self.samples)
        mean = self._probability / self.samples
        return ProbabilityEstimate(
            _array(mean), _array(_entropy(mean)), _array(self._entropy / self.samples), self.samples
        )


class ValueMoments:
    """Running mean and squared deviations of the samples' values (Welford 1962)."""

    def __init__(self) -> None:
        self.samples = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0
        self._variance: Any = 0.0

    def add(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Take up one sample: predicted means and variances, both (N, ...)."""
        own = mean.double()
        self.samples += 1
        difference = own - self._mean
        self._mean = self._mean + difference / self.samples
        self._squares = self._squares + difference * (own - self._mean)
        self._variance = self._variance + variance.double()

    def estimate(self) -> ValueEstimate:
        """What the samples so far amount to; ValueError without any."""
        _refuse_none(self.samples)
        squares, variance = self._squares / self.samples, self._variance / self.samples
        return ValueEstimate(_array(self._mean), _array(squares), _array(variance), self.samples)


def softmax(logits: torch.Tensor) -> torch.Tensor:
    """Probabilities (N, C, ...) of logits (N, C, ...)."""
    return torch.softmax(logits, dim=1)


def sampled_probabilities(
    networks: Sequence[nn.Module],
    inputs: torch.Tensor,
    *,
    cases: Sequence[str],
    sampling: Sampling,
    activation: Callable[[torch.Tensor], torch.Tensor] = softmax,
) -> ProbabilityEstimate:
    """Mean class probabilities and entropies over networks and passes.

    Args:
        networks: with output (N, C, ...); see `samples` for these and the rest.
        activation: from a network's output to probabilities with a sum of 1 over axis 1.
    """
    moments = ProbabilityMoments()
    for output in samples(networks, inputs, cases=cases, sampling=sampling):
        moments.add(activation(output))
    return moments.estimate()


def sampled_values(
    networks: Sequence[nn.Module],
    inputs: torch.Tensor,
    *,
    cases: Sequence[str],
    sampling: Sampling,
) -> ValueEstimate:
    """Mean values and total variance over networks and passes.

    Args:
        networks: with output (mean, log variance), both (N, ...): the variance is learned; see
            `samples` for these and the rest.
    """
    moments = ValueMoments()
    for mean, log_variance in samples(networks, inputs, cases=cases, sampling=sampling):
        moments.add(mean, log_variance.double().exp())
    return moments.estimate()


def samples(
    networks: Sequence[nn.Module],
    inputs: torch.Tensor,
    *,
    cases: Sequence[str],
    sampling: Sampling,
) -> Iterator[Any]:
    """The networks' outputs for all inputs, sample after sample: networks, and in each its passes.

    A dropout mask is a function of seed, network, pass and case: whatever a case is batched
    with, and however many passes run at once, it gets the same masks, so outputs agree up to
    rounding. torch's global generator is neither read nor changed. The networks stay as they
    are: dropout alone is on, in a copy that shares their weights.

    Args:
        networks: on the device of the inputs; each in its own place of the ensemble.
        inputs: (N, ...).
        cases: id of each input; two inputs of one id get the same masks.
        sampling: how many passes.
    Yields:
        A tensor (N, ...), or a tuple of them, as the networks return: float32.
    Raises:
        ValueError: without networks or inputs, for a wrong number of ids, or if passes are asked
            for of a network without dropout, or with a kind that is not known here.
    """
    if not networks:
        raise ValueError("networks: expected at least one, got none")
    if not len(inputs):
        raise ValueError("inputs: expected at least one, got none")
    if len(cases) != len(inputs):
        raise ValueError(f"cases: expected {len(inputs)}, one id an input, got {len(cases)}")
    for place, network in enumerate(networks):
        yield from _samples_of(network, place, inputs, cases, sampling)


class _Masks:
    """Drops, of each row, what the row's own generator says: a forward hook of dropout layers."""

    def __init__(self) -> None:
        self.generators: list[torch.Generator] = []

    def __call__(self, layer: Any, _: Any, output: torch.Tensor) -> torch.Tensor:
        if len(output) != len(self.generators):
            raise ValueError(
                f"dropout: expected one row an input, {len(self.generators)}, got {len(output)}; "
                "a network that mixes rows cannot be sampled case by case"
            )
        keep = 1.0 - float(layer.p)
        row = output.shape[1:]
        shape = (row[0], *[1] * (len(row) - 1)) if isinstance(layer, _BY_CHANNEL) else row
        drawn = [torch.rand(shape, generator=g, device=output.device) for g in self.generators]
        kept = torch.stack(drawn) < keep
        return output * kept / keep if keep else torch.zeros_like(output)


def _samples_of(
    network: nn.Module, place: int, inputs: torch.Tensor, cases: Sequence[str], sampling: Sampling
) -> Iterator[Any]:
    own, masks = _sharing_copy(network), _Masks()
    if sampling.passes > 1:
        _hook(own, masks)
    count = len(inputs)
    passes_at_once = max(1, sampling.rows_at_once // count)
    for first in range(0, sampling.passes, passes_at_once):
        numbers = range(first, min(first + passes_at_once, sampling.passes))
        rows = [(number, row) for number in numbers for row in range(count)]
        outputs = []
        for start in range(0, len(rows), sampling.rows_at_once):
            chunk = rows[start : start + sampling.rows_at_once]
            masks.generators = [
                _generator(f"{sampling.seed}/{place}/{number}/{cases[row]}", inputs.device)
                for number, row in chunk
            ]
            outputs.append(_forward(own, inputs[[row for _, row in chunk]]))
        for number in range(len(numbers)):
            yield _between(outputs, number * count, (number + 1) * count)


def _sharing_copy(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode that shares the weights.

    A copy, because the original may be answering another thread at the same moment.
    """
    tensors = chain(network.parameters(), network.buffers())
    return deepcopy(network, {id(tensor): tensor for tensor in tensors}).eval()


def _hook(network: nn.Module, masks: _Masks) -> None:
    layers = dropout_layers(network)
    if not layers:
        raise ValueError(
            "passes: expected 1 for a network without dropout layers, got more; "
            "take passes 1, or a network with dropout"
        )
    for layer in layers:
        if not isinstance(layer, (nn.Dropout, *_BY_CHANNEL)):
            raise ValueError(
                f"dropout: expected Dropout, Dropout1d, Dropout2d or Dropout3d, "
                f"got {type(layer).__name__}; take one of these"
            )
        layer.register_forward_hook(masks)


def _generator(key: str, device: torch.device) -> torch.Generator:
    digest = hashlib.sha256(key.encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))


def _forward(network: nn.Module, rows: torch.Tensor) -> Any:
    with torch.inference_mode():
        output = network(rows)
        if isinstance(output, torch.Tensor):
            return output.float()
        return tuple(part.float() for part in output)


def _between(outputs: list[Any], first: int, end: int) -> Any:
    """Rows first to end of outputs that follow each other."""
    if isinstance(outputs[0], torch.Tensor):
        return torch.cat(outputs)[first:end]
    return tuple(torch.cat(parts)[first:end] for parts in zip(*outputs, strict=True))


def _entropy(probability: torch.Tensor) -> torch.Tensor:
    return -torch.special.xlogy(probability, probability).sum(dim=1)


def _refuse_none(samples: int) -> None:
    if not samples:
        raise ValueError("expected at least one sample, got none")


def _array(tensor: torch.Tensor) -> FloatArray:
    return tensor.float().cpu().numpy()
