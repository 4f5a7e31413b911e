"""Objectives: erm is the mean, balanced equalises the cases, group_dro follows the worst group."""

import copy
from dataclasses import dataclass
from math import exp, isnan, log

import numpy as np
import pytest
import torch
from torch import nn

from fair_strategy.learning.objectives import (
    OBJECTIVES,
    Objective,
    ObjectiveSettings,
    balanced_subset,
    make_objective,
)
from fair_strategy.learning.optimisation import Steps, TrainingSettings, optimise

ERM = ObjectiveSettings()


def dro(eta: float = 0.01, adjustment: float = 0.0) -> ObjectiveSettings:
    return ObjectiveSettings("group_dro", eta, adjustment)


def given(losses: dict[int, float]):
    """A part of a step: its rows' group numbers, one each, and the loss of any of its rows."""
    numbers = list(losses)
    values = torch.tensor([losses[n] for n in numbers], dtype=torch.float64)

    def loss_of(rows):
        return values[rows].mean()

    return loss_of, numbers


def taken(objective: Objective, *parts: dict[int, float]) -> float:
    value = sum(float(objective.loss(*given(part))) for part in parts)
    return value * objective.end_step()


# --- rows


@pytest.mark.parametrize("name", OBJECTIVES)
def test_rows_are_a_function_of_seed_and_index(name):
    groups = list("AAAABBC")
    rows = make_objective(ObjectiveSettings(name), groups, seed=3).rows
    again = make_objective(ObjectiveSettings(name), groups, seed=3).rows
    forwards = [rows.case(index) for index in range(30)]
    assert [again.case(index) for index in reversed(range(30))][::-1] == forwards
    other = make_objective(ObjectiveSettings(name), groups, seed=4).rows
    assert [other.case(index) for index in range(30)] != forwards


def test_erm_shows_every_case_once_a_round():
    rows = make_objective(ERM, list("AAAAB"), seed=0).rows
    for turn in range(4):
        assert sorted(rows.case(turn * 5 + i) for i in range(5)) == [0, 1, 2, 3, 4]


def test_the_rows_of_erm_are_those_of_before_there_were_objectives():
    rows = make_objective(ERM, list("AAAAB"), seed=7).rows
    turn, place = divmod(13, 5)
    assert rows.case(13) == np.random.default_rng([7, turn, 0]).permutation(5)[place]


def test_group_dro_shows_every_group_in_every_batch_and_every_case_once_a_round():
    groups = [*"AAAAAABB", "unknown"]
    objective = make_objective(dro(), groups, seed=0)
    drawn = [objective.rows.case(index) for index in range(36)]
    for first in range(33):  # any three in a row, aligned or not
        assert {groups[case] for case in drawn[first : first + 3]} == {"A", "B", "unknown"}
    of_a = [case for case in drawn if groups[case] == "A"]
    assert sorted(of_a[:6]) == sorted(of_a[6:12]) == [0, 1, 2, 3, 4, 5]
    assert objective.rows_per_step(2) == 3
    assert objective.rows_per_step(8) == 8


def test_balanced_takes_as_many_of_each_group_as_the_smallest_has_within_a_stratum():
    groups = list("AAAAABBB" + "AABBBB")
    strata = ["x"] * 8 + ["y"] * 6
    kept = balanced_subset(groups, strata=strata, seed=0)
    found = [(strata[case], groups[case]) for case in kept]
    assert {pair: found.count(pair) for pair in set(found)} == {
        ("x", "A"): 3,
        ("x", "B"): 3,
        ("y", "A"): 2,
        ("y", "B"): 2,
    }
    assert len(set(kept)) == 10
    assert balanced_subset(groups, strata=strata, seed=0) == kept
    assert {balanced_subset(groups, strata=strata, seed=s) for s in range(9)} != {kept}


def test_balanced_has_one_case_of_each_where_a_group_has_one():
    objective = make_objective(ObjectiveSettings("balanced"), ["A"] * 5 + ["B"], seed=0)
    assert objective.summary() == {"name": "balanced", "cases": {"A": 1, "B": 1}}


@pytest.mark.parametrize(
    ("groups", "kept"),
    [
        (["A"] * 5 + ["B"] * 3 + ["unknown"], {"A": 3, "B": 3, "unknown": 1}),
        (["A"] * 5 + ["B"] * 3 + ["unknown"] * 9, {"A": 3, "B": 3, "unknown": 3}),
        (["A"] * 5 + ["unknown"], {"A": 5, "unknown": 1}),
        (["unknown"] * 4, {"unknown": 4}),
    ],
)
def test_the_unknown_ones_do_not_set_the_size_of_balanced_and_are_at_most_as_many(groups, kept):
    objective = make_objective(ObjectiveSettings("balanced"), groups, seed=0)
    assert objective.summary()["cases"] == kept


def test_balanced_does_not_need_unknown_ones_in_every_stratum():
    groups, strata = ["A", "B", "unknown", "A", "B"], list("xxxyy")
    assert balanced_subset(groups, strata=strata, seed=0) == (0, 1, 2, 3, 4)


def test_balanced_refuses_a_stratum_that_a_group_lacks():
    with pytest.raises(ValueError, match="no case of stratum 'y' in subgroup B; merge strata"):
        balanced_subset(list("ABA"), strata=list("xxy"), seed=0)
    with pytest.raises(ValueError, match="strata: expected 3, one a case, got 1"):
        balanced_subset(list("ABA"), strata=["x"], seed=0)


# --- what is minimised


def test_erm_is_the_mean_over_the_batch_and_tells_each_groups_loss():
    objective = make_objective(ERM, list("ABC"), seed=0)
    values = torch.tensor([1.0, 2.0, 6.0])
    assert float(objective.loss(lambda rows: values[rows].mean(), [0, 1, 1])) == 3.0
    assert objective.end_step() == 1.0
    assert objective.report()["loss"] == {"A": 1.0, "B": 4.0, "C": None}
    assert objective.report()["loss"]["A"] is None  # since the last report


def test_three_updates_of_q_worked_by_hand():
    # eta = ln 2, so a loss of 1 doubles q before q is divided by its sum
    objective = make_objective(dro(eta=log(2)), list("AB"), seed=0)
    # q = (1/2, 1/2) x (2^1, 2^0) = (1, 1/2); sum 3/2; loss 2/3 x 1 + 1/3 x 0
    assert taken(objective, {0: 1.0, 1: 0.0}) == pytest.approx(2 / 3)
    assert objective.q == pytest.approx([2 / 3, 1 / 3])
    # (2/3, 1/3) x (2^1, 2^2) = (4/3, 4/3); loss 1/2 x 1 + 1/2 x 2
    assert taken(objective, {0: 1.0, 1: 2.0}) == pytest.approx(1.5)
    assert objective.q == pytest.approx([1 / 2, 1 / 2])
    # B alone, loss 1: (1/2, 1/2) x (1, 2) = (1/2, 1); loss 2/3 x 1: A is absent from the sum
    assert taken(objective, {1: 1.0}) == pytest.approx(2 / 3)
    assert objective.q == pytest.approx([1 / 3, 2 / 3])


def test_the_adjustment_counts_in_q_only_and_by_the_number_of_training_cases():
    # C = 2, n = (4, 1): losses 1 + 1 and 0 + 2 are equal, so q stays uniform
    objective = make_objective(dro(eta=log(2), adjustment=2.0), list("AAAAB"), seed=0)
    assert taken(objective, {0: 1.0, 1: 0.0}) == pytest.approx(0.5)
    assert objective.q == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("parts", ["one", "one a group"])
def test_fifty_steps_agree_with_numpy(parts):
    rng = np.random.default_rng(0)
    eta, adjustment, sizes = 0.3, 0.5, np.array([5, 3, 1])
    objective = make_objective(dro(eta, adjustment), list("AAAAABBBC"), seed=0)
    q = np.full(3, 1 / 3)
    for _ in range(50):
        present = np.flatnonzero(rng.random(3) < 0.7)
        losses = rng.gamma(2, 1, 3)
        if not len(present):
            continue
        factor = np.ones(3)
        factor[present] = np.exp(eta * (losses[present] + adjustment / np.sqrt(sizes[present])))
        q = q * factor
        q = q / q.sum()
        batch = {int(g): float(losses[g]) for g in present}
        split = [batch] if parts == "one" else [{g: v} for g, v in batch.items()]
        value = taken(objective, *split)
        assert value == pytest.approx((q[present] * losses[present]).sum(), rel=1e-12)
        assert objective.q == pytest.approx(q, rel=1e-12)


def test_an_absent_group_keeps_its_q_up_to_renormalisation():
    objective = make_objective(dro(eta=0.5), list("ABC"), seed=0)
    taken(objective, {0: 3.0, 1: 1.0, 2: 2.0})
    before = list(objective.q)
    taken(objective, {0: 2.0})
    scale = 1 / (1 + before[0] * (exp(0.5 * 2.0) - 1))
    assert objective.q[1:] == pytest.approx([before[1] * scale, before[2] * scale])
    assert sum(objective.q) == pytest.approx(1)


def test_the_loss_of_a_group_is_the_mean_of_its_rows():
    objective = make_objective(dro(eta=0.0), list("AB"), seed=0)
    values = torch.tensor([1.0, 5.0, 3.0, 9.0])
    loss = objective.loss(lambda rows: values[rows].mean(), [0, 1, 0, 0])
    assert float(loss) * objective.end_step() == pytest.approx((13 / 3 + 5) / 2)


def test_large_losses_do_not_overflow():
    objective = make_objective(dro(eta=1.0), list("AB"), seed=0)
    assert taken(objective, {0: 1e6, 1: 1e6 + log(3)}) == pytest.approx(1e6, rel=1e-5)
    assert objective.q == pytest.approx([0.25, 0.75])
    taken(objective, {0: -1e6, 1: 1e6})
    assert objective.q == [0.0, 1.0]


def test_a_loss_that_is_not_finite_leaves_q_as_it_was():
    objective = make_objective(dro(eta=1.0), list("AB"), seed=0)
    taken(objective, {0: 1.0, 1: 2.0})
    before = list(objective.q)
    assert isnan(taken(objective, {0: float("nan"), 1: 2.0}))
    assert objective.q == before
    taken(objective, {0: 1.0, 1: 2.0})
    assert objective.q[1] > before[1]


def test_a_group_in_two_parts_of_a_step_is_refused():
    objective = make_objective(dro(), list("AB"), seed=0)
    objective.loss(*given({0: 1.0}))
    with pytest.raises(ValueError, match="rows of a subgroup in one part of a step"):
        objective.loss(*given({0: 1.0}))


def test_a_state_goes_on_where_it_was():
    objective = make_objective(dro(eta=1.0), list("AAB"), seed=0)
    taken(objective, {0: 1.0, 1: 2.0})
    other = make_objective(dro(eta=1.0), list("AAB"), seed=0)
    other.restore(copy.deepcopy(objective.state()))
    assert objective.identity() == other.identity()
    for each in (objective, other):
        taken(each, {0: 3.0, 1: 2.0})
    assert other.report() == objective.report()
    assert other.identity() != make_objective(dro(eta=2.0), list("AAB"), seed=0).identity()
    assert other.identity() != make_objective(dro(eta=1.0), list("ABB"), seed=0).identity()


def test_bad_settings_are_refused_with_what_is_good():
    with pytest.raises(ValueError, match="'fair': expected one of erm, balanced, group_dro"):
        ObjectiveSettings("fair")
    with pytest.raises(ValueError, match="eta: expected 0 or more, got -1"):
        dro(eta=-1)
    with pytest.raises(ValueError, match="adjustment: expected 0 or more, got nan"):
        dro(adjustment=float("nan"))
    with pytest.raises(ValueError, match="at least one case, got none"):
        make_objective(ERM, [], seed=0)


# --- in a training


@dataclass
class Points:
    """Two numbers a case and its class, or another loss's targets; a case is a row of `x`."""

    x: torch.Tensor
    y: torch.Tensor
    objective: Objective

    def __getitem__(self, index):
        case = self.objective.rows.case(index)
        return self.x[case], self.y[case], self.objective.group_of[case]


class Killed(Exception):
    pass


def points(objective: Objective) -> Points:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(len(objective.groups), 2, generator=draw)
    return Points(x, (x[:, 0] + x[:, 1] ** 2 > 0.5).long(), objective)


def trained(objective, folder, *, batch_size=4, steps=20, workers=0, kill_at=None, settings=None):
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))

    def after_step(progress):
        if progress.step == kill_at:
            raise Killed

    progress = optimise(
        network,
        points(objective),
        settings=TrainingSettings(
            steps=steps,
            batch_size=batch_size,
            learning_rate=0.05,
            evaluate_every=5,
            save_every=4,
            workers=workers,
            device="cpu",
        ),
        state_file=folder / "state",
        identity="points",
        after_step=after_step,
        steps=settings or Steps(loss=nn.CrossEntropyLoss()),
    )
    return network.state_dict(), progress


def weights_agree(one, other, *, tolerance=0.0):
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=0, atol=tolerance)


def test_one_group_is_erm(tmp_path):
    groups = ["unknown"] * 9
    erm, _ = trained(make_objective(ERM, groups, seed=0), tmp_path / "erm")
    robust, _ = trained(make_objective(dro(eta=5.0), groups, seed=0), tmp_path / "dro")
    weights_agree(erm, robust)


def test_eta_0_is_erm_on_balanced_batches(tmp_path):
    groups = list("AAAAAAAB")
    robust = make_objective(dro(eta=0.0), groups, seed=0)
    erm = Objective(ERM, groups, robust.rows)
    weights, progress = trained(robust, tmp_path / "dro")
    weights_agree(weights, trained(erm, tmp_path / "erm")[0], tolerance=1e-6)
    assert {row["q"]["B"] for row in progress.notes["objective"]} == {0.5}


def test_eta_moves_q_towards_the_group_with_the_larger_loss(tmp_path):
    _, progress = trained(make_objective(dro(eta=0.5), list("AAAAAAAB"), seed=0), tmp_path)
    rows = progress.notes["objective"]
    assert [row["step"] for row in rows] == [5, 10, 15, 20]
    shares = [0.5] + [row["q"]["B"] for row in rows]
    for before, after, row in zip(shares, shares[1:], rows, strict=False):
        assert (after > before) == (row["loss"]["B"] > row["loss"]["A"])


def test_parts_of_a_step_end_like_one_batch(tmp_path):
    """Batches of 1 and of 2 for three groups: three rows a step in three and two parts."""

    def weights(batch_size):
        objective = make_objective(dro(eta=0.5), list("AAAABBC"), seed=0)
        torch.manual_seed(1)
        network = nn.Linear(2, 2)  # no dropout: its masks depend on the parts
        settings = TrainingSettings(steps=15, batch_size=batch_size, learning_rate=0.05)
        optimise(
            network,
            points(objective),
            settings=settings,
            state_file=tmp_path / str(batch_size),
            identity="parts",
            after_step=lambda _: None,
            steps=Steps(nn.CrossEntropyLoss(), lambda p: torch.optim.SGD(p, 0.05), lambda _: 0.05),
        )
        return network.state_dict(), objective.q

    whole, q = weights(3)
    for batch_size in (1, 2):
        parted, own = weights(batch_size)
        weights_agree(whole, parted, tolerance=1e-6)
        assert own == pytest.approx(q, rel=1e-6)
    assert max(q) > 0.4


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_killed_and_resumed_equals_uninterrupted_q_included(tmp_path, name, batch_size):
    def objective():
        return make_objective(ObjectiveSettings(name, eta=0.5), list("AAAAABBC"), seed=0)

    whole, told = trained(objective(), tmp_path / "whole", batch_size=batch_size)
    with pytest.raises(Killed):
        trained(objective(), tmp_path / "cut", batch_size=batch_size, kill_at=11)
    resumed, again = trained(objective(), tmp_path / "cut", batch_size=batch_size)
    weights_agree(whole, resumed)
    assert again.notes == told.notes
    assert again.losses == told.losses


def test_a_state_of_another_objective_is_ignored(tmp_path):
    with pytest.raises(Killed):
        trained(make_objective(dro(), list("AAAB"), seed=0), tmp_path, kill_at=10)
    _, progress = trained(make_objective(dro(eta=0.02), list("AAAB"), seed=0), tmp_path, steps=4)
    assert len(progress.losses) == 4
    fresh, _ = trained(make_objective(ERM, list("AAAB"), seed=0), tmp_path / "new")
    again, _ = trained(make_objective(ERM, list("AAAB"), seed=0), tmp_path)
    weights_agree(fresh, again)


def test_a_state_from_before_there_were_objectives_is_one_of_erm(tmp_path):
    def objective(name="erm"):
        return make_objective(ObjectiveSettings(name), list("AAAB"), seed=0)

    whole, _ = trained(objective(), tmp_path / "whole")
    for name in ("erm", "balanced"):
        with pytest.raises(Killed):
            trained(objective(), tmp_path / name, kill_at=10)
        state = torch.load(tmp_path / name / "state", weights_only=True)
        del state["objective"]
        torch.save(state, tmp_path / name / "state")
    weights_agree(whole, trained(objective(), tmp_path / "erm")[0])
    _, progress = trained(objective("balanced"), tmp_path / "balanced", steps=4)
    assert len(progress.losses) == 4


def test_outputs_and_targets_may_be_tuples_and_mappings(tmp_path):
    """A regression with a learned variance, two targets a case, by group_dro."""

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean, self.spread = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return {"mean": self.mean(x), "log_variance": self.spread(x)}

    class Targets(Points):
        def __getitem__(self, index):
            x, _, group = super().__getitem__(index)
            return x, (x, x.flip(0)), group

    def loss(outputs, targets):
        first, second = targets
        assert outputs["mean"].shape == outputs["log_variance"].shape == first.shape
        return ((outputs["mean"] - second) ** 2).mean() + (outputs["log_variance"] ** 2).mean()

    objective = make_objective(dro(), list("AAAB"), seed=0)
    origin = points(objective)
    torch.manual_seed(0)
    progress = optimise(
        Network(),
        Targets(origin.x, origin.y, objective),
        settings=TrainingSettings(steps=60, batch_size=4, learning_rate=0.1, device="cpu"),
        state_file=tmp_path / "state",
        identity="regression",
        after_step=lambda _: None,
        steps=Steps(loss),
    )
    assert progress.losses[-1] < 0.2 * progress.losses[0]
