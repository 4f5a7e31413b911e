"""Several processes give what one gives, also where one of them was killed."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, ClassVar

import pytest

from fair_strategy.workflows.simulation import simulate as simulate_module
from fair_strategy.workflows.simulation.plan import runs
from fair_strategy.workflows.simulation.shards import is_finished, read_shard
from fair_strategy.workflows.simulation.simulate import simulate
from fair_strategy.workflows.simulation.tables import TIMING
from tests.unit.workflows.simulation.conftest import TINY

THREE = {"stages": [{**TINY["stages"][0], "seeds": 3}], "rounds": 1}


def without_seconds(shard: dict[str, Any]) -> dict[str, Any]:
    rounds = [{k: v for k, v in r.items() if k not in TIMING} for r in shard["rounds"]]
    return {**shard, "rounds": rounds}


class KnownPool(ProcessPoolExecutor):
    """Tells where it is, and its workers' process ids."""

    pools: ClassVar[list["KnownPool"]] = []

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.pools.append(self)

    def pids(self) -> list[int]:
        return [process.pid for process in self._processes.values()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_of_which_one_is_killed_end_with_the_shards_of_a_single_one(
    configured, monkeypatch
):
    # The call sets them for its workers, which must not reach other tests.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(simulate_module, "ProcessPoolExecutor", KnownPool)
    monkeypatch.setattr(KnownPool, "pools", [])
    simulation, alone = configured("alone", **THREE)
    simulate(simulation, alone)

    def kill(sentence: str) -> None:
        if " of 6 rounds, " in sentence:  # at the latest when the first of three runs has ended
            os.kill(KnownPool.pools[0].pids()[0], signal.SIGKILL)

    simulation, workspace = configured("together", **THREE)
    with pytest.raises(BrokenProcessPool):
        simulate(simulation, workspace, jobs=2, say=kill)
    assert not all(is_finished(workspace.out, run) for run in runs(simulation))
    simulate(simulation, workspace, jobs=2, resume=True)
    assert len(KnownPool.pools) == 2
    for run in runs(simulation):
        together, expected = (read_shard(w.out, run) for w in (workspace, alone))
        assert without_seconds(together) == without_seconds(expected)
