"""Samples of the next steps are prepared while a step is taken, with no effect on the result."""

import threading

import pytest
import torch
from torch import nn

from fair_strategy.learning.objectives import ObjectiveSettings, make_objective
from fair_strategy.learning.optimisation import Steps, TrainingSettings, optimise

STEPS, BATCH = 12, 2


class Noted:
    """Points on a line; notes who asked for which, and can be broken at one of them."""

    def __init__(self, broken_at: int | None = None) -> None:
        self.objective = make_objective(ObjectiveSettings(), ["A"] * 8, seed=0)
        self.broken_at = broken_at
        self.asked: list[tuple[int, str]] = []
        self.second_step_is_there = threading.Event()

    def __len__(self) -> int:
        return STEPS * BATCH

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        if index == self.broken_at:
            raise OSError("cannot be read")
        self.asked.append((index, threading.current_thread().name))
        if index == 2 * BATCH - 1:
            self.second_step_is_there.set()
        number = self.objective.rows.case(index)
        return torch.tensor([float(number)]), torch.tensor(number % 2), 0


def run(samples, folder, after_step=lambda progress: None):
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(1, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    progress = optimise(
        network,
        samples,
        settings=TrainingSettings(steps=STEPS, batch_size=BATCH, evaluate_every=5, save_every=4),
        state_file=folder / "state",
        identity="points",
        after_step=after_step,
        steps=Steps(loss=nn.CrossEntropyLoss()),
    )
    return network.state_dict(), progress


def test_the_next_samples_come_while_a_step_is_taken_and_each_once_in_order(tmp_path):
    samples = Noted()

    def wait_in_the_first_step(progress):
        if progress.step == 1:
            assert samples.second_step_is_there.wait(timeout=60)

    run(samples, tmp_path, wait_in_the_first_step)
    assert [index for index, _ in samples.asked] == list(range(STEPS * BATCH))
    assert threading.current_thread().name not in {name for _, name in samples.asked}
    assert not [t for t in threading.enumerate() if t.name.startswith("samples")]


def test_the_same_run_twice_ends_with_the_same_weights(tmp_path):
    first, _ = run(Noted(), tmp_path / "first")
    second, _ = run(Noted(), tmp_path / "second")
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=0, atol=0)


def test_a_sample_that_cannot_be_made_ends_the_run_in_its_turn(tmp_path):
    taken = []
    with pytest.raises(OSError, match="cannot be read"):
        run(Noted(broken_at=7 * BATCH), tmp_path, lambda progress: taken.append(progress.step))
    assert taken == [1, 2, 3, 4, 5, 6, 7]
