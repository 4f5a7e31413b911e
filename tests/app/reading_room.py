"""Readers at one server, all at once, and what the store says of them afterwards.

A reader here is the stock client in a thread: it asks for the next scan, and then submits, asks for
another one instead (skip), gives the scan back with a reason, goes away without a word (and another
one sits down), or is late and submits after its lease has run out. What each of them did is noted
with times of this machine's monotonic clock, which the server's leases run on, too.
"""

import itertools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import requests

from fair_strategy.store import cases, plans, readings
from fair_strategy.store.database import Store
from tests.app import cohorts, serving

Manners = Mapping[str, float]
"""What a reader does with a scan -> how often, in parts of all."""
PATIENCE_S = 120.0
POLL_S = 0.2


@dataclass
class Handout:
    """A scan in a reader's hands, in monotonic seconds.

    Attributes:
        asked: when the request was sent. got: when its reply was there.
        left: when the reader sent what gives the scan back; infinite if nothing was sent.
        submitted: whether that was a label.
    """

    reader: str
    case_id: str
    asked: float
    got: float
    left: float = float("inf")
    submitted: bool = False


@dataclass
class Notes:
    """What all readers of a room did; times are monotonic seconds.

    Attributes:
        submitted: (reader, case id). skipped: the same, of scans given back with a reason.
        gone: how many went away with a scan. late: how many submitted one after its lease.
        next_s: how long each Next Sample took. submit_s: each Submit.
        replies: when their replies came.
        began: when the first reader asked. used_up: when nothing was left to one for the first
            time.
    """

    handouts: list[Handout] = field(default_factory=list)
    submitted: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    gone: int = 0
    late: int = 0
    next_s: list[float] = field(default_factory=list)
    submit_s: list[float] = field(default_factory=list)
    replies: list[float] = field(default_factory=list)
    began: float = 0.0
    used_up: float = float("inf")


class Room:
    """So many readers at a running server; `read` returns once nothing is left to be read.

    Args:
        server: whose state directory this process can read.
        manners: what its readers do.
        lease_s: of the server.
        seed: of what each reader does.
    """

    def __init__(
        self, server: serving.Server, manners: Manners, *, lease_s: float, seed: int = 0
    ) -> None:
        self.notes = Notes()
        self._server, self._manners = server, manners
        self._lease_s, self._seed = lease_s, seed
        self._lock, self._marks = threading.Lock(), itertools.count(1)
        self._errors: list[BaseException] = []

    def read(self, readers: int, *, meanwhile: Callable[[Notes], None] | None = None) -> Notes:
        """Let so many readers read until the pool is empty.

        Args:
            readers: number of threads.
            meanwhile: called over and over in this thread with what was done so far.
        Raises:
            BaseException: the first that a reader met.
        """
        threads = [threading.Thread(target=self._sit, args=(n,)) for n in range(readers)]
        self.notes.began = time.monotonic()
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            if meanwhile is not None:
                meanwhile(self.notes)
            time.sleep(0.05)
        for error in self._errors:
            raise error
        return self.notes

    def _sit(self, number: int) -> None:
        try:
            self._read(number, np.random.default_rng([self._seed, number]))
        except BaseException as error:
            self._errors.append(error)

    def _read(self, number: int, rng: np.random.Generator) -> None:
        name, end = f"reader-{number}", time.monotonic() + PATIENCE_S
        client, kinds = self._server.client(name), list(self._manners)
        manner = kinds[number % len(kinds)]  # at first, so that each occurs
        held: Handout | None = None
        while time.monotonic() < end and not self._errors:
            held = self._ask(client, name, held)
            if held is None:
                if self._nothing_left():
                    return
                time.sleep(POLL_S)
                continue
            if manner in ("submit", "late"):
                held = self._submit(client, held, late=manner == "late")
            elif manner == "hand back":
                held = self._hand_back(held)
            elif manner == "go away":
                with self._lock:
                    self.notes.gone += 1
                name += "'"
                client, held = self._server.client(name), None
            manner = str(rng.choice(kinds, p=list(self._manners.values())))
        if time.monotonic() >= end:
            raise TimeoutError(f"{name} was not done within {PATIENCE_S} s")

    def _ask(self, client: object, name: str, held: Handout | None) -> Handout | None:
        asked = time.monotonic()
        if held is not None:
            held.left = asked
        answer = client.next_sample("random", {})
        got = time.monotonic()
        with self._lock:
            self.notes.next_s.append(got - asked)
            self.notes.replies.append(got)
            if "id" not in answer:
                self.notes.used_up = min(self.notes.used_up, got)
                return None
            self.notes.handouts.append(Handout(name, answer["id"], asked, got))
            return self.notes.handouts[-1]

    def _submit(self, client: object, held: Handout, *, late: bool) -> None:
        if late:
            time.sleep(self._lease_s)
        mark = next(self._marks)
        path = self._server.root / f"mask-{mark}.nii.gz"
        cohorts.save(path, marked_mask(mark))
        held.left = time.monotonic()
        client.save_label(held.case_id, str(path), "final", {})
        done = time.monotonic()
        path.unlink()
        with self._lock:
            self.notes.late += late
            held.submitted = True
            self.notes.submitted.append((held.reader, held.case_id))
            self.notes.submit_s.append(done - held.left)
            self.notes.replies.append(done)

    def _hand_back(self, held: Handout) -> None:
        held.left = time.monotonic()
        body = {"image": held.case_id, "client_id": held.reader, "reason": "another time"}
        reply = requests.post(f"{self._server.url}/reader/skip", json=body, timeout=60)
        reply.raise_for_status()
        if reply.json()["released"]:
            with self._lock:
                self.notes.skipped.append((held.reader, held.case_id))

    def _nothing_left(self) -> bool:
        reply = requests.get(f"{self._server.url}/reader/progress", timeout=60)
        return int(reply.json()["pool"]) == 0


def marked_mask(mark: int) -> np.ndarray:
    """A mask that no other mark gives: the mark in binary along one edge, and a block."""
    mask = np.zeros(cohorts.SHAPE, np.uint8)
    mask[14:22, 16:24, 12:20] = 1
    mask[0, 0, :24] = [mark >> bit & 1 for bit in range(24)]
    return mask


def given_twice(handouts: Sequence[Handout], lease_s: float) -> list[tuple[Handout, Handout]]:
    """Pairs of handouts of one scan of which the second came while the first surely still held.

    A lease begins after its request was sent, and ends at the earliest when its reader sends what
    ends it, or after its length.
    """
    by_case: dict[str, list[Handout]] = defaultdict(list)
    for handout in handouts:
        by_case[handout.case_id].append(handout)
    return [
        (first, second)
        for found in by_case.values()
        for first, second in itertools.permutations(found, 2)
        if first.asked < second.asked and second.got < min(first.left, first.asked + lease_s)
        if first.got < second.asked  # else it is not known which came first
    ]


def given_again(handouts: Sequence[Handout]) -> list[tuple[Handout, Handout]]:
    """Pairs of handouts to one reader of which the second is a scan that they had submitted."""
    return [
        (first, second)
        for first, second in itertools.permutations(handouts, 2)
        if first.submitted
        and (first.reader, first.case_id) == (second.reader, second.case_id)
        and first.left < second.asked
    ]


@dataclass(frozen=True)
class Books:
    """What the store knows of a study that was read to its end.

    Attributes:
        handouts: (reader, case id) -> how often.
        work: (reader, case id) of each submission.
        skips: (reader, case id) of each scan given back with a reason.
        labelled: cases with a final label. open: cases that are still to be read.
        readers: case id -> who read it for several; empty where each scan has one reader.
        due: cases that enough have read and whose final label is still to be made.
        times: of the handouts, by the server's wall clock.
    """

    handouts: Counter[tuple[str, str]]
    work: Counter[tuple[str, str]]
    skips: Counter[tuple[str, str]]
    labelled: tuple[str, ...]
    open: tuple[str, ...]
    readers: Mapping[str, tuple[str, ...]]
    due: tuple[str, ...]
    times: tuple[float, ...]


def books(state: Path, *, readers: int = 1) -> Books:
    """Read the store of a study whose scans are read by so many each."""
    store = Store.open(state, check=False)
    decided = plans.decisions(store, limit=1_000_000)
    sent = [w for w in cases.work(store, superseded=True) if w.client_id != readings.CONSENSUS]
    several = {c.case_id: readings.readings(store, c.case_id) for c in cases.cases(store)}
    return Books(
        handouts=Counter((d.client_id, d.case_id) for d in decided),
        work=Counter((w.client_id, w.case_id) for w in sent),
        skips=Counter((s.client_id, s.case_id) for s in cases.skip_reasons(store)),
        labelled=tuple(cases.labelled_ids(store)),
        open=tuple(cases.unlabelled_ids(store)),
        readers={i: tuple(r.client_id for r in found) for i, found in several.items() if found},
        due=tuple(readings.unsettled(store, readers=readers, now=float("inf"))),
        times=tuple(d.created_at for d in decided),
    )


def noted(notes: Notes) -> Counter[tuple[str, str]]:
    """(reader, case id) -> how often the readers say that they got it."""
    return Counter((h.reader, h.case_id) for h in notes.handouts)
