"""What processes that train together run in test_replicas.py."""

import torch

from fair_strategy.learning.objectives import make_objective
from fair_strategy.learning.optimisation import Steps, TrainingSettings, optimise

GROUPS = "AABABBABAB"


class Points:
    """Ten points of a plane and a value each, in two subgroups of different slope."""

    def __init__(self, objective):
        self.objective = objective

    def __getitem__(self, index):
        number = self.objective.rows.case(index)
        place = torch.tensor([number / 10.0, (number * 7 % 10) / 10.0])
        slope = 2.0 if GROUPS[number] == "A" else -1.0
        return place, slope * place.sum(0, keepdim=True), self.objective.group_of[number]

    def __len__(self):
        return 10_000


def square(outputs, targets):
    return ((outputs - targets) ** 2).mean()


def fitted(replicas, objective, batch_size, state_file):
    """Weights after nine steps, and what the objective told."""
    settings = TrainingSettings(
        steps=9, batch_size=batch_size, learning_rate=0.3, evaluate_every=3, objective=objective
    )
    torch.manual_seed(3)
    network = torch.nn.Linear(2, 1)
    progress = optimise(
        network,
        Points(make_objective(objective, GROUPS, seed=5, replicas=replicas)),
        settings=settings,
        state_file=state_file,
        identity="points",
        after_step=lambda _: None,
        steps=Steps(loss=square, optimiser=lambda p: torch.optim.SGD(p, 0.3)),
    )
    return network.state_dict(), progress


def fit_elsewhere(replicas, _device, *arguments):
    fitted(replicas, *arguments)


def count_in(replicas, _device, _values):
    one_has = {0: 1.0, 2: 5.0}
    assert replicas.means(one_has, size=3) == {0: (2.0, 2), 1: (7.0, 1), 2: (5.0, 1)}


def stumble(_replicas, _device):
    raise ValueError("the second scan is no volume")
