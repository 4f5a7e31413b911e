"""Tiny models and volumes: a bright ball to find in a dim box."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from fair_strategy.data.volumes import Mask, Volume
from fair_strategy.learning.checkpoint import Model
from fair_strategy.learning.network import NetworkArguments, build_network

TINY = NetworkArguments(channels=(4, 8), strides=(2,), dropout=0.3)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny_model(*, seed: int = 0, localiser: bool = False, window=(16, 16, 16)) -> Model:
    torch.manual_seed(seed)
    model = Model(
        checksum="",
        labels={"blob": 1},
        spacing_mm=1.0,
        window=window,
        network=build_network(TINY).eval(),
        network_arguments=TINY,
    )
    if not localiser:
        return model
    return dataclasses.replace(
        model, localiser=build_network(TINY).eval(), localiser_arguments=TINY
    )


def blob(
    *, shape=(20, 20, 20), centre=None, radius: float = 5.0, seed: int = 0, affine=None
) -> tuple[Volume, Mask]:
    centre = (np.array(shape) - 1) / 2 if centre is None else np.asarray(centre)
    distance = np.sqrt(((np.indices(shape).T - centre) ** 2).sum(-1)).T
    label = (distance <= radius).astype(np.uint8)
    noise = np.random.default_rng(seed).normal(0, 0.05, shape)
    image = (0.3 + 0.6 * label + noise).clip(0.01).astype(np.float32)
    affine = np.eye(4) if affine is None else affine
    return Volume(image, affine), Mask(label, affine)
