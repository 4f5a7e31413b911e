"""How many scans go through a process at once, and in which way."""

from dataclasses import dataclass

import torch

from fair_strategy.config import StudySettings
from fair_strategy.workflows.machine import cores, memory_bytes


@dataclass(frozen=True, slots=True)
class Pace:
    """How many scans are where at once; by default one, while the next one is read.

    Attributes:
        batch: in one batch of the network.
        threads: that read scans, and as many that cut and finish what goes through the networks.
        lanes: scans side by side, each from file to result in a thread of its own: then nothing of
            the above counts; 0 for no such way.
    """

    batch: int = 1
    threads: int = 1
    lanes: int = 0


ONE_BY_ONE = Pace()
"""The next scan is read while one is in the network: for one thread of the network's."""

_MOST_THREADS = 8
"""More would wait for each other."""
_MOST_IN_A_BATCH = 8
_LANE_BYTES = 2 * 1024**3
"""Memory of the machine that lets one more scan be under way: 0.3 GB of a whole head, or more; or
one more in a batch, of which four are under way that hold little more than their volume."""


def pace_on(device: torch.device, settings: StudySettings) -> Pace:
    """How scans go through the process fastest.

    A GPU is fed by several threads and in batches; each waits for it, not it for them. On a CPU
    each of torch's threads takes a scan of its own: threads that share a forward pass wait for each
    other at each layer. Passes with dropout share one generator, and go one by one.
    """
    if device.type != "cpu":
        batch = max(1, min(_MOST_IN_A_BATCH, memory_bytes() // _LANE_BYTES))
        return Pace(batch=batch, threads=min(_MOST_THREADS, cores()))
    threads = torch.get_num_threads()
    if threads == 1 or settings.passes > 1:
        return ONE_BY_ONE
    return Pace(lanes=max(1, min(_MOST_THREADS, threads, memory_bytes() // _LANE_BYTES)))
