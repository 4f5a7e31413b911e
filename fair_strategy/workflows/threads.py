"""How many threads a process computes with."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np  # noqa: F401 - loads the library that is looked for
from threadpoolctl import ThreadpoolController

one_forward_pass = threading.Lock()
"""Held by who answers a reader with a forward pass.

Side by side they double the memory, not the speed: the threads of each wait for those of the other
and for the interpreter, and so does everybody else whom the server answers.
"""


@cache
def keep_numpy_to_one_thread() -> None:
    """Linear algebra of NumPy and SciPy on one thread from here on, in this process.

    OpenBLAS wakes its other threads for as little as the inverse of a 4 x 4 matrix, and they spin
    for 28 ms of CPU time before they sleep again: as much as a forward pass, taken from a core that
    torch needs. What is large enough for several threads is torch's here.
    """
    ThreadpoolController().select(internal_api="openblas").limit(limits=1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes on one thread in the block, in threads that are started in it, too.

    Sums over several threads depend on their number, and so would every result. One block at a
    time: the number is the whole process's.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    keep_numpy_to_one_thread()
    try:
        yield
    finally:
        torch.set_num_threads(before)
