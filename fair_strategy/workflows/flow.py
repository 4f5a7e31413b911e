"""Scans in threads: begun ahead, given back in their order, with a result or why there is none."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Protocol, TypeVar

from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.data.grids import NoRoom, VolumeError


class Named(Protocol):
    """A scan, by whatever record it is known."""

    @property
    def case_id(self) -> str: ...


Scan = TypeVar("Scan", bound=Named)
R = TypeVar("R")
T = TypeVar("T")
Why = str | ArchiveUnavailable
"""Why a scan has no result: for good, or for now."""


class Again(str):
    """Why a scan has no result, which alone may have one."""

    __slots__ = ()


def result_or_why(result: Callable[[], T]) -> T | Why:
    """What the call gives, or why a scan has no result."""
    # An error that is kept holds what its frames hold, a scan that did not fit among it.
    try:
        return result()
    except NoRoom as error:
        return Again(error)
    except VolumeError as error:
        return str(error)
    except ArchiveUnavailable as error:
        return error.with_traceback(None)


def ahead(
    work: Callable[[Scan], T], scans: Iterable[Scan], threads: int, most: int
) -> Generator[tuple[Scan, Future[T]]]:
    """Each scan when the work on it is done or failed; at most so many others are begun."""
    waiting, begun = iter(scans), deque[tuple[Scan, Future[T]]]()
    with ThreadPoolExecutor(threads) as pool:

        def fill() -> None:
            for scan in islice(waiting, most - len(begun)):
                begun.append((scan, pool.submit(work, scan)))

        try:
            fill()
            while begun:
                scan, future = begun.popleft()
                wait([future])
                fill()
                yield scan, future
        finally:  # nobody waits for what is not wanted any more
            pool.shutdown(cancel_futures=True)


def in_order(running: Iterable[tuple[Scan, Future[R]]], most: int) -> Iterator[tuple[Scan, R]]:
    """Results as soon as they and those before are there, or when more than `most` are waited for.

    An error comes after all that was begun before it.
    """
    leaving: deque[tuple[Scan, Future[R]]] = deque()
    failed: Exception | None = None
    try:
        for item in running:
            leaving.append(item)
            while leaving and (leaving[0][1].done() or len(leaving) > most):
                scan, future = leaving.popleft()
                yield scan, future.result()
    except Exception as error:
        failed = error
    for scan, future in leaving:
        try:
            result = future.result()
        except Exception as error:
            failed = failed or error
        else:
            yield scan, result
    if failed is not None:
        raise failed
