"""How often one scan comes to two readers; of our server and a stock one. Part of stock_faults.py.

A reader here is a thread: it asks for the next scan, holds it for a while, submits, and asks again.
"""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pools import numbered_mask, pool_study, stand_in, write_scans
from servers import PATIENCE_S, Server, our_server, stock_server

from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.scoring import score_study
from tests.app.reading_room import Handout, given_twice

READERS, READING_S, AGAIN_S = 5, 0.2, 0.2
CONF = {"validation_per_group": "0", "train_every": "0", "enable_background": "false"}


class Read(NamedTuple):
    """What came of a pool that was read to its end.

    Attributes:
        left: scans without a label at the beginning.
        handouts: to all readers together.
        twice: handouts of a scan that another reader held.
        overwritten: submissions after which the scan had a label already.
        failed: requests for a scan that were answered by an error.
    """

    left: int
    handouts: int
    twice: int
    overwritten: int
    failed: int


@contextmanager
def stock_pool(root: Path, scans: int) -> Iterator[Server]:
    """A stock server on so many scans."""
    write_scans(root / "studies", scans, bids=False)
    with stock_server(root, root / "studies") as server:
        yield server


@contextmanager
def our_pool(root: Path, scans: int) -> Iterator[Server]:
    """Our server on so many scans, which are scored and planned."""
    study = pool_study(root, scans, validation_per_group=0, train_every=0)
    score_study(study, workers=stand_in())
    make_plans(study)
    with our_server(root, root / "studies", **CONF) as server:
        yield server


def asked_at_once(server: Server, strategy: str, rounds: int) -> int:
    """In how many rounds two readers who asked at the same time got the same scan.

    Each submits what they got before both ask again.
    """
    together = threading.Barrier(2)

    def ask(number: int) -> str:
        together.wait()
        return str(server.next_sample(strategy, f"reader-{number}")["id"])

    same = 0
    with ThreadPoolExecutor(2) as threads:
        for turn in range(rounds):
            first, second = threads.map(ask, range(2))
            same += first == second
            for number, image in enumerate((first, second)):
                server.submit(image, numbered_mask(2 * turn + number), f"reader-{number}")
    return same


def read_to_the_end(server: Server, strategy: str) -> Read:
    """Let several readers read what is left, and count."""
    left = _unlabelled(server)
    room = _Room(server, strategy)
    with ThreadPoolExecutor(READERS) as threads:
        list(threads.map(room.read, range(READERS)))
    twice = {id(second) for _, second in given_twice(room.handouts, float("inf"))}
    again = len(room.handouts) - left
    return Read(left, len(room.handouts), len(twice), again, len(room.failures))


class _Room:
    def __init__(self, server: Server, strategy: str) -> None:
        self.handouts: list[Handout] = []
        self.failures: list[str] = []
        self._server, self._strategy = server, strategy

    def read(self, number: int) -> None:
        """Until every scan has a label."""
        rng, end = np.random.default_rng(number), time.monotonic() + PATIENCE_S
        reader = f"reader-{number}"
        while _unlabelled(self._server):
            if time.monotonic() > end:
                raise TimeoutError(f"{reader} was not done within {PATIENCE_S} s")
            held = self._ask(reader)
            if held is None:
                time.sleep(AGAIN_S)
                continue
            time.sleep(rng.exponential(READING_S))
            held.left = time.monotonic()
            mask = numbered_mask(int(rng.integers(2**16)))
            self._server.submit(held.case_id, mask, reader)

    def _ask(self, reader: str) -> Handout | None:
        asked = time.monotonic()
        try:
            answer = self._server.next_sample(self._strategy, reader)
        except ValueError as error:
            self.failures.append(str(error))
            return None
        if "id" not in answer:
            return None
        self.handouts.append(Handout(reader, answer["id"], asked, time.monotonic()))
        return self.handouts[-1]


def _unlabelled(server: Server) -> int:
    counted = json.loads(server.ask("GET", "/datastore/"))
    return int(counted["total"]) - int(counted["completed"])
