"""Where volumes are worked on: in this process, in processes of this machine, on a Dask cluster.

One seam for all, `concurrent.futures.Executor`, and one loop over it, `as_finished`. What comes
back is written by the caller alone: an executor's workers neither open a database nor a table.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import get_context
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

WHERE = (
    "processes:N, local:N, slurm, slurm:JOBS, or the address of a Dask scheduler, tcp://HOST:8786"
)
_QUEUED_PER_WORKER = 2
"""One at work and one at hand, so that no worker waits for the parent."""
_ASK_AGAIN_S = 1.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class WorkersLost(ConnectionError):
    """All workers are gone, or cannot be used; what had come back before is kept."""


@dataclass(frozen=True, slots=True)
class Killed:
    """Instead of a result: the item ended its worker each time that it was tried."""

    reason: str


@dataclass(frozen=True)
class Workers:
    """An executor, and what the loop over it must know.

    Attributes:
        executor: where functions run.
        capacity: how many items may be under way now, at least 1; asked again and again, because
            workers of a cluster come and go.
        threads: number of threads an item is computed with, so that its numbers do not depend on
            the machine; None leaves the process as it is.
        kills: what a future raises whose item ended its worker each time.
        losses: what a future raises if there is no executor any more.
    """

    executor: Executor
    capacity: Callable[[], int]
    threads: int | None = None
    kills: tuple[type[BaseException], ...] = ()
    losses: tuple[type[BaseException], ...] = ()


class InThisProcess(Executor):
    """The serial executor: `submit` returns when the work is done."""

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """A future that is finished; an exception of `fn` is raised here and now."""
        future: Future[R] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def workers(where: str) -> AbstractContextManager[Workers]:
    """The workers that a text names, for the time of a ``with`` block.

    Args:
        where: ``processes:N`` for N processes of this machine; ``local:N`` for the same under
            Dask, which outlives the death of one; ``slurm:JOBS`` for so many jobs as Dask's own
            configuration describes them; or the address of a running Dask scheduler.
    Raises:
        ValueError: for any other text, and without the extra that Dask comes with.
        OSError: on entering, if no scheduler answers at the address.
    """
    kind, _, count = where.partition(":")
    if kind == "processes":
        return _pool(positive(count, where))
    if kind in ("local", "slurm") or re.fullmatch(r"(\w+://)?[^\s/:]+:\d+", where):
        from fair_strategy.workflows.dask_cluster import dask_workers

        return dask_workers(where)
    raise ValueError(f"cluster {where!r}: expected {WHERE}")


def positive(count: str, where: str) -> int:
    """A number of workers, 1 or more.

    Raises:
        ValueError: naming `where` it stood.
    """
    if not (count.isascii() and count.isdigit() and int(count) > 0):
        raise ValueError(f"cluster {where!r}: expected a number of workers, e.g. local:4")
    return int(count)


def as_finished(
    workers: Workers, function: Callable[[T], R], items: Iterable[T]
) -> Iterator[tuple[T, R | Killed]]:
    """(item, function(item)) in the order in which they are finished.

    An item is taken from `items` only when a worker is near to free, so neither waiting items nor
    results pile up: what is held at a time does not grow with their number. If the caller stops
    in between, what has not begun is taken back.

    An item that ended its workers is tried once more at the end, alone: it may have been at hand
    of a worker that another item ended.

    Raises:
        WorkersLost: if there is no executor any more.
        Exception: what the function raises.
    """
    suspects: list[T] = []
    for item, result in _in_flight(workers, function, items):
        if isinstance(result, Killed):
            suspects.append(item)
        else:
            yield item, result
    yield from _in_flight(replace(workers, capacity=lambda: 1), function, suspects)


def queued(threads: int) -> int:
    """How many items may be under way on so many workers; never none."""
    return max(1, _QUEUED_PER_WORKER * threads)


def _in_flight(
    workers: Workers, function: Callable[[T], R], items: Iterable[T]
) -> Iterator[tuple[T, R | Killed]]:
    waiting = iter(items)
    running: dict[Future[R], T] = {}
    try:
        while True:
            with _told_of_loss(workers):
                room = workers.capacity() - len(running)
                for item in islice(waiting, max(0, room)):
                    running[workers.executor.submit(function, item)] = item
            if not running:
                return
            done = {future for future in running if future.done()}
            if not done:
                done, _ = wait(running, timeout=_ASK_AGAIN_S, return_when=FIRST_COMPLETED)
            for future in done:
                result = _outcome(workers, future)
                yield running.pop(future), result
    finally:
        for future in running:
            future.cancel()


def _outcome(workers: Workers, future: Future[R]) -> R | Killed:
    with _told_of_loss(workers):
        try:
            return future.result()
        except workers.kills as error:
            return Killed(f"its worker ended each time that it was tried ({type(error).__name__})")


@contextmanager
def _told_of_loss(workers: Workers) -> Iterator[None]:
    try:
        yield
    except workers.losses as error:
        raise WorkersLost(
            f"the workers are gone ({type(error).__name__} {error}); what had come back is kept: "
            "run the same command again, and it goes on from there"
        ) from error
    except ImportError as error:
        raise WorkersLost(
            f"a worker cannot import what it needs ({error}); install the same fair-strategy there"
        ) from error


@contextmanager
def _pool(count: int) -> Iterator[Workers]:
    # A forked child would inherit the locks of torch's threads. Numerical libraries read their
    # number of threads before the first line of the child runs.
    context = get_context("spawn")
    with (
        _environment(dict.fromkeys(_THREAD_VARIABLES, "1")),
        ProcessPoolExecutor(count, mp_context=context) as pool,
    ):
        try:
            yield Workers(pool, lambda: queued(count), 1, losses=(BrokenProcessPool,))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
