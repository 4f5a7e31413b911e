"""The seam: serial, several processes, and the loop over any executor."""

import os
import subprocess
import sys
from concurrent.futures import Executor, Future
from itertools import count, islice

import pytest

from fair_strategy.workflows import executors
from fair_strategy.workflows.executors import (
    InThisProcess,
    Killed,
    Workers,
    WorkersLost,
    as_finished,
    workers,
)


def doubled(number: int) -> int:
    return 2 * number


class ByHand(Executor):
    """Futures that the test finishes, the last one first."""

    def __init__(self):
        self.open = []
        self.most = 0

    def submit(self, fn, /, *args):
        future: Future = Future()
        self.open.append((future, fn, args))
        self.most = max(self.most, len(self.open))
        return future

    def finish_one(self):
        future, fn, args = self.open.pop()
        try:
            future.set_result(fn(*args))
        except Exception as error:
            future.set_exception(error)


def finishing(executor, capacity):
    """A capacity that finishes one future whenever it is asked."""

    def ask():
        if executor.open:
            executor.finish_one()
        return capacity

    return ask


def test_the_serial_executor_works_in_order_and_takes_an_item_when_it_is_due():
    taken = []
    numbers = (taken.append(n) or n for n in count())
    serial = Workers(InThisProcess(), capacity=lambda: 1)
    found = list(islice(as_finished(serial, doubled, numbers), 3))
    assert found == [(0, 0), (1, 2), (2, 4)]
    assert taken == [0, 1, 2]


def test_no_more_is_under_way_than_there_is_room_for_however_many_wait():
    executor, taken = ByHand(), []
    numbers = (taken.append(n) or n for n in count())
    loop = as_finished(Workers(executor, finishing(executor, 3)), doubled, numbers)
    for seen, (number, result) in enumerate(islice(loop, 50), start=1):
        assert result == 2 * number
        assert len(taken) <= seen + 3
    assert executor.most == 3
    loop.close()


def test_results_arrive_as_they_are_finished_not_as_they_were_asked_for():
    executor = ByHand()
    loop = as_finished(Workers(executor, finishing(executor, 3)), doubled, range(3))
    assert [number for number, _ in loop] == [2, 1, 0]


def test_room_that_grows_while_the_loop_waits_is_used():
    executor, sizes = ByHand(), iter([1, 4])
    finish = finishing(executor, 0)

    def ask():
        size = next(sizes, 4)
        if size == 4:
            finish()
        return size

    loop = as_finished(Workers(executor, ask), doubled, range(9))
    assert next(loop) == (0, 0)
    assert len(executor.open) == 3  # four were under way, one of them is finished
    loop.close()


def test_a_caller_that_stops_takes_back_what_has_not_begun():
    executor = ByHand()
    loop = as_finished(Workers(executor, finishing(executor, 4)), doubled, count())
    next(loop)
    left = [future for future, _, _ in executor.open]
    loop.close()
    assert left
    assert all(future.cancelled() for future in left)


def test_an_item_that_was_suspected_is_tried_once_more_alone():
    tried = []

    class AtOnce(ByHand):
        def submit(self, fn, /, *args):
            future = super().submit(fn, *args)
            self.finish_one()
            return future

    def suspected(number):
        tried.append(number)
        if number == 7 or (number == 1 and tried.count(1) == 1):
            raise KeyError(f"worker ended by {number}")
        return number

    made = Workers(AtOnce(), lambda: 2, kills=(KeyError,))
    found = dict(as_finished(made, suspected, [0, 1, 7, 3]))
    assert found == {
        0: 0,
        1: 1,
        3: 3,
        7: Killed("its worker ended each time that it was tried (KeyError)"),
    }
    assert tried == [0, 1, 7, 3, 1, 7]


def test_a_pool_of_processes_computes_the_same_and_says_when_it_is_broken():
    before = dict(os.environ)
    with workers("processes:1") as pool:
        assert pool.threads == 1
        assert sorted(as_finished(pool, abs, range(-3, 1))) == [(n, -n) for n in range(-3, 1)]
        with pytest.raises(WorkersLost, match="run the same command again"):
            list(as_finished(pool, os._exit, [1]))
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    "where", ["", "cluster", "processes", "processes:0", "processes:two", "local:-1", "tcp://"]
)
def test_a_text_that_names_no_workers_is_refused_with_the_forms_that_do(where):
    with pytest.raises(ValueError, match=r"expected .*local:"), workers(where):
        pass


@pytest.mark.parametrize("where", ["local:2", "slurm", "tcp://127.0.0.1:8786"])
def test_without_the_extra_the_error_names_it(where):
    code = (
        "import sys; sys.modules.update(dask=None, distributed=None, dask_jobqueue=None)\n"
        "from fair_strategy.workflows.executors import workers\n"
        f"with workers({where!r}): pass"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "ValueError: --cluster needs d" in done.stderr
    assert ".[cluster]" in done.stderr


def test_importing_the_seam_loads_neither_dask_nor_torch():
    code = f"import sys, {executors.__name__}; print('dask' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
