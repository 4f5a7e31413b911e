"""A server that is killed under submitting readers: does it start, and what does it still know?"""

import http.client
import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from pools import numbered_mask
from servers import Server, wait_for

from tests.faults import server_kills
from tests.faults.nursery import Nursery, children, kill

SUBMITTERS = 2
QUIET = {"enable_background": "false", "validation_per_group": "0"}


class Killed:
    """A server that is killed while readers submit to it, and what it had answered to them."""

    def __init__(self, nursery: Nursery, root: Path, seed: int) -> None:
        self.failed = self.answered = self.gone = 0
        self._nursery, self._root = nursery, root
        self._rng, self._numbers = np.random.default_rng(seed), itertools.count()
        self._images: Iterator[str] = iter(())
        self._lock = threading.Lock()
        self._expected: dict[str, set[str]] = {}
        """Scan -> the comment answered last, and those sent after it."""

    def start(self) -> Server:
        """A server that answers, and tells what it had answered before, or that is counted."""
        try:
            server = self._started()
        except RuntimeError:
            datastore = self._root / "studies" / "datastore_v2.json"
            if _is_whole(datastore):
                raise
            self.failed += 1
            datastore.unlink()
            server = self._started()
        told = comments(server)
        if not self._expected:
            self._images = itertools.cycle(sorted(told))
        gone = [image for image, kept in self._expected.items() if told[image] not in kept]
        self.gone += len(gone)
        self._expected = {i: {told[i]} for i in self._expected if i not in gone}
        return server

    def _started(self) -> Server:
        url, pid = server_kills.start(self._nursery, self._root, QUIET)
        server_kills.wait_until_up(url, pid)
        return Server(int(url.rpartition(":")[2]), 0.0, pid)

    def submit_and_kill(self) -> None:
        """Start, submit, kill within a second of the first answer."""
        server, before = self.start(), self.answered
        with ThreadPoolExecutor(SUBMITTERS) as threads:
            done = [threads.submit(self._submit, server, f"reader-{n}") for n in range(SUBMITTERS)]
            try:
                wait_for(lambda: self.answered > before, "a first answer")
                time.sleep(self._rng.uniform(0.0, 1.0))
            finally:
                kill(server.pid, *children(server.pid))
        for thread in done:
            thread.result()

    def _submit(self, server: Server, reader: str) -> None:
        """Until the connection breaks."""
        for image in self._images:
            number = next(self._numbers)
            comment = f"comment {number}"
            self._expected.get(image, set()).add(comment)
            try:
                server.submit(image, numbered_mask(number % 2**16), reader, comment=comment)
            except (OSError, http.client.HTTPException):
                return
            with self._lock:
                self._expected[image] = {comment}
                self.answered += 1


def _is_whole(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def comments(server: Server) -> dict[str, str]:
    """Scan -> what the label info says; empty without a label, or without its info."""
    finals = {name: o["labels"].get("final", {}) for name, o in server.objects().items()}
    return {name: final.get("info", {}).get("comment", "") for name, final in finals.items()}
