"""The vector of a scan: what the deepest level computes, whoever else uses the network."""

import threading

import numpy as np
import pytest
import torch

from fair_strategy.learning.features import (
    collected_features,
    deepest_level,
    mean_features,
)
from fair_strategy.learning.inference import predict
from fair_strategy.learning.network import NetworkArguments, build_network, stochastic_copy

from .conftest import TINY, blob, tiny_model


def network(seed=0, **changes):
    torch.manual_seed(seed)
    arguments = {"channels": (2, 3, 5), "strides": (2, 2), "dropout": 0.0} | changes
    return build_network(NetworkArguments(**arguments)).eval()


def windows(seed, number=1):
    return torch.from_numpy(
        np.random.default_rng(seed).random((number, 1, 16, 16, 16)).astype(np.float32)
    )


@pytest.mark.parametrize("residual_units", [0, 2])
def test_the_deepest_level_has_the_most_channels_and_the_lowest_resolution(residual_units):
    net = network(residual_units=residual_units)
    shapes = []
    deepest_level(net).register_forward_hook(lambda *a: shapes.append(tuple(a[2].shape)))
    net(windows(0))
    assert shapes == [(1, 5, 4, 4, 4)]


def test_a_window_gives_the_mean_over_the_voxels_of_each_channel():
    net = network()
    kept = []
    deepest_level(net).register_forward_hook(lambda *a: kept.append(a[2]))
    with collected_features() as found:
        net(windows(0, 2))
    assert found[0].shape == (2, 5)
    by_hand = [[kept[0][n, c].mean().item() for c in range(5)] for n in range(2)]
    np.testing.assert_allclose(found[0].detach().numpy(), by_hand, rtol=1e-5)


def test_windows_and_passes_are_averaged_each_window_counting_once():
    # Batches of two windows and of one: (1 + 2 + 6) / 3, not the mean of 1.5 and 6.
    batches = [torch.tensor([[1.0], [2.0]]), torch.tensor([[6.0]])]
    assert mean_features(batches).tolist() == [3.0]


def test_nothing_collected_or_nothing_finite_is_no_vector():
    assert mean_features([]) is None
    assert mean_features([torch.tensor([[1.0, np.nan]])]) is None


def test_outside_of_a_collection_a_network_keeps_nothing():
    net = network()
    with collected_features() as found:
        pass
    net(windows(0))
    assert found == []


def test_a_collection_inside_another_takes_what_runs_in_it():
    net = network()
    with collected_features() as outer:
        with collected_features() as inner:
            net(windows(0))
        net(windows(0, 2))
    assert [len(f) for f in inner] == [1]
    assert [len(f) for f in outer] == [2]


def test_two_threads_that_share_a_network_each_collect_their_own():
    net, both = network(), threading.Barrier(2)
    collected = {}

    def work(seed):
        with torch.no_grad(), collected_features() as found:
            for _ in range(5):
                both.wait(10)  # both collections are open, and both run at the same moment
                net(windows(seed))
            both.wait(10)
            collected[seed] = found

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (1, 2):
        with torch.no_grad(), collected_features() as alone:
            net(windows(seed))
        assert len(collected[seed]) == 5
        for found in collected[seed]:
            torch.testing.assert_close(found, alone[0])
    assert not torch.allclose(collected[1][0], collected[2][0])


def test_the_network_holds_no_more_after_a_run_than_before():
    net = network()
    before = {name: set(vars(module)) for name, module in net.named_modules()}
    with collected_features():
        net(windows(0))
    assert {name: set(vars(module)) for name, module in net.named_modules()} == before
    assert len(deepest_level(net)._forward_hooks) == 1


def test_a_stochastic_copy_reports_once_a_window():
    with collected_features() as found:
        stochastic_copy(network(dropout=0.2))(windows(0))
    assert len(found) == 1


def test_a_prediction_carries_the_features_of_its_scan():
    model = tiny_model()
    one, other = blob(seed=1)[0], blob(seed=2, radius=3.0)[0]
    features = predict(model, one).features
    assert features.shape == (TINY.channels[-1],)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, predict(model, one).features)
    assert not np.allclose(features, predict(model, other).features)


def test_the_localiser_does_not_mix_its_features_in():
    scan = blob(shape=(40, 40, 40))[0]
    model = tiny_model(localiser=True)
    prediction = predict(model, scan)
    deepest_level(model.localiser)._forward_hooks.clear()
    np.testing.assert_array_equal(prediction.features, predict(model, scan).features)


def test_features_of_several_passes_are_their_mean():
    scan = blob()[0]
    # Of 3 passes all three run at once: one batch of three windows.
    model = tiny_model(window=(24, 24, 24))
    collected = []
    hook = deepest_level(model.network).register_forward_hook(
        lambda *a: collected.append(a[2].flatten(2).mean(2))
    )
    features = predict(model, scan, passes=3, seed=1).features
    hook.remove()
    assert [tuple(f.shape) for f in collected] == [(3, TINY.channels[-1])]
    np.testing.assert_allclose(features, collected[0].numpy().mean(axis=0), rtol=1e-5)
