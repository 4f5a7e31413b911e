"""Training of an ensemble's networks: resumed runs, the state that is kept, what is used again."""

import numpy as np
import pytest
import torch

from fair_strategy.workflows.tasks.cases import make_splits
from fair_strategy.workflows.tasks.isic import Isic
from fair_strategy.workflows.tasks.settings import IsicSettings, SplitBlock
from fair_strategy.workflows.tasks.training import Parts, train_member

TINY = {
    "image_size": 32,
    "network": {"channels": (4, 4, 4, 4), "blocks": (1, 1, 1, 1), "dropout": 0.2},
    "split": {"validation": 4, "test": 4},
}


class Stopped(Exception):
    pass


@pytest.fixture
def training(lookalikes, tmp_path):
    """A function that trains one network in a folder, and one that stops it after some steps."""

    def call(name, *, stop=None, objective="erm", member=0, **training):
        settings = IsicSettings(
            **TINY,
            training={"epochs": 16, "batch_size": 16, "evaluate_every": 3} | training,
        )
        recipe = Isic(settings)
        cases = recipe.read(lookalikes["isic"]).cases
        (split,) = make_splits(cases, SplitBlock(validation=4, test=4), seed=0)
        parts = Parts(
            0, tuple(cases[i] for i in split.training), tuple(cases[i] for i in split.validation)
        )
        seen = []

        def move(step, steps):
            seen.append(step)
            if step == stop:
                raise Stopped

        member = train_member(
            recipe, parts, objective=objective, member=member,
            folder=tmp_path / name, device="cpu", move=move,
        )  # fmt: skip
        return member, seen

    return call


def same(first, second):
    a, b = first.network.state_dict(), second.network.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_killed_training_goes_on_and_ends_with_the_same_network(training, tmp_path):
    whole, steps = training("whole", objective="group_dro")
    assert len(steps) > 25
    with pytest.raises(Stopped):
        training("killed", objective="group_dro", stop=25)
    resumed, seen = training("killed", objective="group_dro")
    assert seen[0] == 21  # the state of step 20
    assert same(whole, resumed)
    assert whole.statistics == resumed.statistics
    assert set(whole.statistics["history"][-1]["q"]) == {"60 and over", "under 60"}
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["fold-0-network-0.pt"]


def test_a_finished_network_is_used_again_and_one_of_other_settings_is_not(training):
    first, _ = training("out", epochs=1)
    again, seen = training("out", epochs=1)
    assert not seen
    assert same(first, again)
    _, other = training("out", epochs=1, learning_rate=1e-3)
    assert other


def test_the_networks_of_an_ensemble_differ(training):
    first, second = (training("out", epochs=1, member=member)[0] for member in (0, 1))
    assert not same(first, second)


def test_the_state_of_the_lowest_validation_loss_is_kept(training):
    member, _ = training("out", keep="worst_group", epochs=6, evaluate_every=1, learning_rate=0.02)
    told = member.statistics
    worst = [max(row["by_group"].values()) for row in told["validation"]]
    assert len(worst) == 6
    assert told["kept_epoch"] == told["validation"][int(np.argmin(worst))]["epoch"]
