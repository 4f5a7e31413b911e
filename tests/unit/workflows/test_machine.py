"""What of the machine a process counts on: its container and its operator may leave it less."""

import os

import pytest

from fair_strategy.workflows import machine


@pytest.fixture
def group(tmp_path, monkeypatch):
    """The folder of a control group, without a limit yet; the process may use eight cores."""
    monkeypatch.setattr(machine, "_GROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("quota", "cores"),
    [(None, 8), ("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1)],
)
def test_a_quota_of_the_container_counts(group, quota, cores):
    if quota is not None:
        (group / "cpu.max").write_text(quota + "\n")
    assert machine.cores() == cores
    assert machine.spare_cores() == max(1, cores - 1)


@pytest.mark.parametrize(("told", "spare"), [("4", 4), ("64", 7), ("0", 1), ("many", 7)])
def test_work_in_the_background_takes_no_more_than_the_operator_says(
    group, monkeypatch, told, spare
):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert machine.spare_cores() == spare


def test_the_memory_is_that_of_the_machine_or_of_the_container(group):
    whole = machine.memory_bytes()
    assert whole > 2**28
    (group / "memory.max").write_text("max\n")
    assert machine.memory_bytes() == whole
    (group / "memory.max").write_text(f"{2**28}\n")
    assert machine.memory_bytes() == 2**28
