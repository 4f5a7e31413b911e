"""Samples over networks and passes: their moments, and what stands still meanwhile."""

import copy
import threading

import numpy as np
import pytest
import torch
from torch import nn

from fair_strategy.acquisition.entropy import expected_entropy, predictive_entropy
from fair_strategy.learning.network import NetworkArguments, build_network
from fair_strategy.learning.uncertainty import (
    ENSEMBLE_DROPOUT,
    ProbabilityMoments,
    Sampling,
    ValueMoments,
    sampled_probabilities,
    sampled_values,
    samples,
)

LN2 = float(np.log(2))


def classifier(seed: int = 0, *, p: float = 0.4, dropout: type = nn.Dropout2d) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        dropout(p),
        nn.Flatten(),
        nn.Linear(6 * 36, 3),
        nn.Dropout(p),
    )


class Regression(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body, self.dropout = nn.Linear(4, 16), nn.Dropout(0.3)
        self.mean, self.spread = nn.Linear(16, 2), nn.Linear(16, 2)

    def forward(self, x):
        hidden = self.dropout(torch.relu(self.body(x)))
        return self.mean(hidden), self.spread(hidden)


def images(count: int = 5) -> tuple[torch.Tensor, list[str]]:
    draw = torch.Generator().manual_seed(3)
    return torch.randn(count, 1, 8, 8, generator=draw), [f"case-{i}" for i in range(count)]


def drawn(networks, inputs, cases, **sampling) -> torch.Tensor:
    return torch.stack(list(samples(networks, inputs, cases=cases, sampling=Sampling(**sampling))))


# --- moments, by hand and against the project's own definitions


def test_two_opposed_certain_samples_disagree_by_ln_2():
    moments = ProbabilityMoments()
    moments.add(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    moments.add(torch.tensor([[0.0, 1.0], [0.5, 0.5]]))
    found = moments.estimate()
    np.testing.assert_allclose(found.mean, 0.5)
    np.testing.assert_allclose(found.predictive_entropy, [LN2, LN2])
    np.testing.assert_allclose(found.expected_entropy, [0.0, LN2], atol=1e-7)
    np.testing.assert_allclose(found.mutual_information, [LN2, 0.0], atol=1e-6)
    assert found.samples == 2


def test_total_variance_is_that_of_the_means_plus_the_mean_predicted_one():
    moments = ValueMoments()
    for mean, variance in ((1.0, 0.5), (3.0, 1.5), (8.0, 1.0)):
        moments.add(torch.tensor([[mean]]), torch.tensor([[variance]]))
    found = moments.estimate()
    # mean 4, squared deviations 9 + 1 + 16 = 26, over 3 samples; predicted 3 / 3
    assert found.mean == pytest.approx(4.0)
    assert found.sampled_variance == pytest.approx(26 / 3)
    assert found.predicted_variance == pytest.approx(1.0)
    assert found.variance == pytest.approx(26 / 3 + 1)


def test_a_variance_far_from_zero_is_not_cancelled():
    moments = ValueMoments()
    for value in (1e6 + 1, 1e6 + 2, 1e6 + 3):
        moments.add(torch.tensor([value], dtype=torch.float64), torch.zeros(1))
    assert moments.estimate().sampled_variance == pytest.approx(2 / 3, rel=1e-6)


def test_moments_of_nothing_are_refused():
    for moments in (ProbabilityMoments(), ValueMoments()):
        with pytest.raises(ValueError, match="at least one sample, got none"):
            moments.estimate()


def test_entropies_of_volumes_agree_with_those_of_the_acquisition():
    network = build_network(NetworkArguments(channels=(4, 8), strides=(2,), dropout=0.3))
    volumes = torch.rand(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    sampling = Sampling(passes=4, rows_at_once=3)
    found = sampled_probabilities([network] * 2, volumes, cases=["a", "b"], sampling=sampling)
    outputs = samples([network] * 2, volumes, cases=["a", "b"], sampling=sampling)
    probs = np.stack([torch.softmax(output.double(), 1).numpy() for output in outputs])
    assert probs.shape == (8, 2, 2, 8, 8, 8)
    for case in (0, 1):
        own = probs[:, case]
        np.testing.assert_allclose(found.mean[case], own.mean(0), atol=1e-6)
        np.testing.assert_allclose(
            found.predictive_entropy[case], predictive_entropy(own), atol=1e-6
        )
        np.testing.assert_allclose(found.expected_entropy[case], expected_entropy(own), atol=1e-6)
    assert found.mutual_information.max() > 1e-3


def test_a_learned_variance_goes_through_networks_and_passes():
    networks = [Regression(seed) for seed in range(3)]
    inputs, cases = torch.randn(4, 4, generator=torch.Generator().manual_seed(1)), list("abcd")
    sampling = Sampling(passes=5)
    found = sampled_values(networks, inputs, cases=cases, sampling=sampling)
    outputs = list(samples(networks, inputs, cases=cases, sampling=sampling))
    means = np.stack([mean.numpy() for mean, _ in outputs])
    variances = np.exp(np.stack([log_variance.numpy() for _, log_variance in outputs]))
    assert found.samples == len(outputs) == 15
    np.testing.assert_allclose(found.mean, means.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.variance, means.var(0) + variances.mean(0), rtol=1e-5)


# --- samples


def test_networks_times_passes_samples_come_out_network_by_network():
    inputs, cases = images()
    networks = [classifier(seed) for seed in range(3)]
    whole = drawn(networks, inputs, cases, passes=4)
    assert whole.shape == (12, 5, 3)
    torch.testing.assert_close(whole[:4], drawn(networks[:1], inputs, cases, passes=4))
    assert len({sample.numpy().tobytes() for sample in whole}) == 12
    assert ENSEMBLE_DROPOUT == (3, 20)


def test_the_same_network_twice_in_an_ensemble_gives_other_samples():
    inputs, cases = images()
    twice = drawn([classifier()] * 2, inputs, cases, passes=2)
    assert not torch.allclose(twice[:2], twice[2:])


def test_one_pass_is_the_network_without_dropout():
    inputs, cases = images()
    networks = [classifier(0), classifier(1)]
    found = drawn(networks, inputs, cases, passes=1, rows_at_once=2)
    for network, own in zip(networks, found, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(own, network.eval()(inputs))


@pytest.mark.parametrize("rows_at_once", [1, 2, 3, 7, 100])
def test_a_case_has_the_same_masks_whatever_it_is_batched_with(rows_at_once):
    inputs, cases = images()
    networks = [classifier(0), classifier(1)]
    whole = drawn(networks, inputs, cases, passes=6, rows_at_once=rows_at_once)
    order = [3, 0, 4]
    some = drawn(networks, inputs[order], [cases[i] for i in order], passes=6, rows_at_once=2)
    torch.testing.assert_close(whole[:, order], some, rtol=1e-5, atol=1e-6)
    alone = drawn(networks, inputs[2:3], cases[2:3], passes=6)
    torch.testing.assert_close(whole[:, 2:3], alone, rtol=1e-5, atol=1e-6)


def test_masks_differ_between_cases_passes_and_seeds():
    inputs, _ = images(1)
    same = inputs.repeat(2, 1, 1, 1)
    found = drawn([classifier()], same, ["a", "b"], passes=3)
    assert len({row.numpy().tobytes() for sample in found for row in sample}) == 6
    one_id = drawn([classifier()], same, ["a", "a"], passes=3)
    torch.testing.assert_close(one_id[:, 0], one_id[:, 1])
    other = drawn([classifier()], same, ["a", "b"], passes=3, seed=1)
    assert not torch.allclose(found, other)


@pytest.mark.parametrize("kind", [nn.Dropout, nn.Dropout2d])
def test_masks_drop_as_often_and_scale_as_torch_does(kind):
    layer = nn.Sequential(kind(0.25))
    ones = torch.ones(1, 40, 5, 5)
    found = drawn([layer], ones, ["a"], passes=50)
    assert found.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert float((found == 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    by_channel = found.flatten(3)[:, 0]
    whole = (by_channel == by_channel[..., :1]).all()
    assert bool(whole) == (kind is nn.Dropout2d)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_dropping_nothing_and_everything(p):
    found = drawn([nn.Sequential(nn.Dropout(p))], torch.ones(1, 4), ["a"], passes=2)
    assert (found == 1 - p).all()


def test_neither_networks_nor_normalisation_nor_torchs_generator_move():
    inputs, cases = images()
    network = classifier().train()
    network(inputs)  # running statistics that are not the first ones
    unet = build_network(NetworkArguments(channels=(4, 8), strides=(2,), dropout=0.3)).eval()
    before = [copy.deepcopy(each.state_dict()) for each in (network, unet)]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    drawn([network], inputs, cases, passes=3)
    drawn([unet], torch.rand(1, 1, 8, 8, 8, generator=torch.Generator()), ["a"], passes=3)
    assert torch.equal(torch.get_rng_state(), state)
    for old, each in zip(before, (network, unet), strict=True):
        for name, tensor in each.state_dict().items():
            assert torch.equal(tensor, old[name]), name
    assert all(module.training for module in network.modules())
    assert not any(module.training for module in unet.modules())
    assert not any(module._forward_hooks for module in network.modules())


def test_normalisation_uses_its_statistics_and_not_the_batchs():
    inputs, cases = images()
    network = classifier(p=1e-9)
    with torch.no_grad():
        expected = copy.deepcopy(network).eval()(inputs)
    found = drawn([network.train()], inputs, cases, passes=2)
    torch.testing.assert_close(found[0], expected)


def test_threads_that_share_a_network_do_not_disturb_each_other():
    inputs, cases = images()
    network = classifier()
    alone = [drawn([network], inputs, cases, passes=8, seed=seed) for seed in range(4)]
    found = [None] * 4

    def work(seed):
        torch.set_num_threads(1)
        found[seed] = drawn([network], inputs, cases, passes=8, seed=seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, found, strict=True):
        assert torch.equal(one, other)


def test_running_moments_do_not_keep_the_samples():
    moments = ProbabilityMoments()
    inputs, cases = images()
    for output in samples([classifier()], inputs, cases=cases, sampling=Sampling(passes=9)):
        moments.add(torch.softmax(output, 1))
    held = [value for value in vars(moments).values() if isinstance(value, torch.Tensor)]
    assert sum(value.numel() for value in held) == 5 * 3 + 5


def test_bad_arguments_are_refused_with_what_to_do():
    inputs, cases = images()
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    for networks, ids, passes, sentence in (
        ([], cases, 2, "networks: expected at least one"),
        ([classifier()], cases[:2], 2, "cases: expected 5, one id an input, got 2"),
        ([plain], cases, 2, "without dropout layers"),
        ([classifier(dropout=nn.FeatureAlphaDropout)], cases, 2, "got FeatureAlphaDropout"),
        ([nn.Sequential(nn.Flatten(0, 1), nn.Dropout(0.1))], cases, 2, "one row an input"),
    ):
        wide = inputs.repeat(1, 2, 1, 1) if "row" in sentence else inputs
        with pytest.raises(ValueError, match=sentence):
            drawn(networks, wide, ids, passes=passes)
    with pytest.raises(ValueError, match="inputs: expected at least one, got none"):
        drawn([plain], inputs[:0], [])
    with pytest.raises(ValueError, match="passes: expected at least 1, got 0"):
        Sampling(passes=0)
    assert len(drawn([plain], inputs, cases, passes=1)) == 1
