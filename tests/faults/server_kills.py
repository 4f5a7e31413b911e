"""kill -9 of the whole server under load: does it start again, with all that it had answered?"""

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import requests

from fair_strategy.data.volumes import read_mask
from fair_strategy.host.worker import arguments_for
from fair_strategy.store import Store, cases, plans
from fair_strategy.workflows.study import Study, open_study
from tests.app import cohorts
from tests.app.serving import application, free_port
from tests.faults.nursery import Nursery, children, is_alive, kill
from tests.faults.readers import Book, Reader, digest_of
from tests.faults.tally import Kills, Tally
from tests.faults.work_kills import Key, committed, lost, unsound

MODULES = (
    "monailabel.main", "monailabel.app", "fair_strategy.host.app", "fair_strategy.host.server",
    "fair_strategy.host.routes.lead_figures", "fair_strategy.host.routes.review",
    "fair_strategy.host.routes.transfer", "fair_strategy.host.routes.logs",
)  # fmt: skip
READERS = ("anna", "ben", "carla")
MEAN_S, LONGEST_S = 4.0, 20.0
NEW_SCANS = 6
STARTS_WITHIN_S = 120.0
SUBJECTS = 2000
CONF = {"train_every": "25", "train_steps": "4", "validation_per_group": "2"}


def serve(work: str, arguments: list[str]) -> None:
    """What ``monailabel start_server`` does; for a process of the nursery."""
    from monailabel.config import settings
    from monailabel.main import Main

    # Read from the environment when MONAI Label was imported, before this folder was there.
    settings.MONAI_LABEL_SESSION_PATH = f"{work}/sessions"
    os.environ |= {"XDG_DATA_HOME": f"{work}/data", "TMPDIR": str(_folder(Path(work) / "tmp"))}
    tempfile.tempdir = None
    sys.argv = ["monailabel", "start_server", *arguments]
    Main().run()


def kill_servers(nursery: Nursery, work: Path, tally: Tally, kills: Kills) -> None:
    """Start the server, let three readers work, kill it at a random moment; so many times.

    One kill in five comes while it starts. A scorer or a trainer works beside it, and most of the
    time is killed with it, as is the server's own worker; the others notice by themselves. Each
    start looks for what was answered before.

    Args:
        nursery: has imported `MODULES` and those of `work_kills`.
        work: an empty folder.
        tally: counts.
        kills: how many, and of which seed.
    """
    cohorts.write_cohort(work / "studies", per_group=10)
    _announce_subjects(work / "studies")
    application(work)
    soak = _Soak(nursery, work, np.random.default_rng(kills.seed))
    for number in kills.numbers():
        tally.add(*soak.start_and_kill([kills.seed, number]))
    pid, _ = soak.start()
    tally.missing += soak.missing
    kill(pid, *children(pid), *soak.workers)


class _Soak:
    """The readers' books, and what was committed before the last kill."""

    def __init__(self, nursery: Nursery, work: Path, rng: np.random.Generator) -> None:
        self.missing: list[str] = []
        self.workers: list[int] = []
        self._nursery, self._work, self._rng = nursery, work, rng
        self._books = {name: Book() for name in READERS}
        self._scored: set[Key] = set()

    def start(self) -> tuple[int, str]:
        """Start the server and look for what had been answered before."""
        url, pid = start(self._nursery, self._work, CONF)
        wait_until_up(url, pid)
        self.missing = looked_for(self._work, self._books, self._scored) + _served(url, self._books)
        return pid, url

    def start_and_kill(self, seed: list[int]) -> tuple[Counter[str], list[str]]:
        """What was answered in between, and what was missing after the start."""
        _drop_scans(self._work / "studies", seed[1])
        before = Counter(counted(self._books))
        self.missing = []
        if self._rng.random() < 0.2:
            _, pid = start(self._nursery, self._work, CONF)
            time.sleep(self._rng.uniform(0.0, 1.5))
            self._kill(pid)
        else:
            pid, url = self.start()
            readers = [Reader(url, n, b, [*seed, i]) for i, (n, b) in enumerate(self._named())]
            for reader in readers:
                reader.start()
            self._start_worker()
            self._wait_for_a_label(before["label"])
            # Mostly soon; sometimes late enough for a round of scoring and training.
            time.sleep(min(self._rng.exponential(MEAN_S), LONGEST_S))
            self._kill(pid)
            for reader in readers:
                reader.join()
        return Counter(counted(self._books)) - before, self.missing

    def _wait_for_a_label(self, before: int) -> None:
        end = time.monotonic() + LONGEST_S
        while counted(self._books)["label"] == before and time.monotonic() < end:
            time.sleep(0.01)

    def _start_worker(self) -> None:
        """A worker that is there at once; the server's own takes longer than most servers live."""
        verb = "train" if self._rng.random() < 0.2 else "score"
        study = _study(self._work)
        call, log = "fair_strategy.host.worker:main", self._work / "worker.log"
        self.workers.append(self._nursery.start(call, arguments_for(study, verb), output=log))
        study.store.close()

    def _named(self) -> list[tuple[str, Book]]:
        return list(self._books.items())

    def _kill(self, pid: int) -> None:
        store = Store(self._work / "state" / "state.sqlite3")
        self._scored = committed(store) if store.path.exists() else set()
        store.close()
        whole, as_well = self._rng.random(2) < (0.5, 0.7)
        kill(pid, *(children(pid) if whole else ()), *(self.workers if as_well else ()))
        self.workers = [worker for worker in self.workers if is_alive(worker)]


def counted(books: dict[str, Book]) -> dict[str, int]:
    """How much was answered so far."""
    sent = [s for b in books.values() for masks in b.sent.values() for s in masks]
    return {
        "next sample": sum(len(b.handed) for b in books.values()),
        "label": sum(s.answered for s in sent),
        "label info": sum(s.later is not None for s in sent),
    }


def looked_for(work: Path, books: dict[str, Book], scored: set[Key]) -> list[str]:
    """What was answered, and is not in the state directory and the derivatives."""
    study = _study(work)
    found = [f"restored: {study.store.recovery.problem}"] if study.store.recovery else []
    for name, book in books.items():
        found += [f"{name}: {failure}" for failure in book.failed]
        book.failed.clear()
        found += _labels_missing(study, book) + _handouts_missing(study, name, book)
    found += lost(study, scored) + unsound(study)
    study.store.close()
    return found


def _study(work: Path) -> Study:
    return open_study(
        work / "studies",
        state_dir=work / "state",
        shipped_model=work / "app" / "model" / "pretrained.pt",
    )


def _labels_missing(study: Study, book: Book) -> list[str]:
    found = []
    for case_id in book.sent:
        expected = book.expected(case_id)
        if not expected:
            continue
        kept = cases.label(study.store, case_id)
        if kept is None:
            found.append(f"label of {case_id}")
            continue
        match = next((s for s in expected if s.comment == kept.info.get("comment")), None)
        if match is None or kept.digest != match.digest:
            found.append(f"label info of {case_id}: {kept.info}, expected {expected[0]}")
        elif digest_of(read_mask(kept.path).array) != kept.digest:
            found.append(f"mask of {case_id} is not that of its row")
        elif match.later is not None and kept.info.get("later") != match.later:
            found.append(f"later info of {case_id}")
    return found


def _handouts_missing(study: Study, name: str, book: Book) -> list[str]:
    kept = Counter(
        d.case_id for d in plans.decisions(study.store, limit=10**9) if d.client_id == name
    )
    found = [f"decision {case_id}" for case_id in (Counter(book.handed) - kept)]
    if book.holds is not None:
        lease = plans.lease_of(study.store, book.holds)
        if lease is None or lease.client_id != name:
            found.append(f"lease of {book.holds} by {name}")
    return found


def _served(url: str, books: dict[str, Book]) -> list[str]:
    """What the server's own listing does not tell of the labels that it had answered."""
    listed = requests.get(f"{url}/datastore/?output=all", timeout=60).json()["objects"]
    found = []
    for book in books.values():
        for case_id in book.sent:
            expected = {s.comment for s in book.expected(case_id)}
            label = listed[case_id]["labels"].get("final", {"info": {}})
            if expected and label["info"].get("comment") not in expected:
                found.append(f"served label of {case_id}")
    return found


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _announce_subjects(studies: Path) -> None:
    with (studies / "participants.tsv").open("a") as table:
        for number in range(SUBJECTS):
            table.write(f"sub-x{number}\t{'AB'[number % 2]}\tF\t50\n")


def _drop_scans(studies: Path, number: int) -> None:
    """New scans, each by rename: copies of one that is there."""
    source = studies / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    for place in range(number * NEW_SCANS, (number + 1) * NEW_SCANS):
        subject = f"sub-x{place}"
        target = _folder(studies / subject / "anat") / f"{subject}_T1w.nii.gz"
        part = target.with_name(f".{target.name}.part")
        shutil.copyfile(source, part)
        os.replace(part, target)


def start(nursery: Nursery, work: Path, conf: Mapping[str, str]) -> tuple[str, int]:
    """Address and process id of a server on `work`, as the nursery's processes see it."""
    port = free_port()
    arguments = [
        *("--app", str(work / "app"), "--studies", str(work / "studies")),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--conf", "state_dir", str(work / "state")),
    ]
    for name, value in conf.items():
        arguments += ["--conf", name, value]
    call = "tests.faults.server_kills:serve"
    pid = nursery.start(call, work, arguments, output=work / "server.log")
    return f"http://127.0.0.1:{port}", pid


def wait_until_up(url: str, pid: int) -> None:
    """Wait for the first answer of a server."""
    end = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < end:
        if not is_alive(pid):
            raise RuntimeError("the server does not start; see server.log")
        try:
            if requests.get(f"{url}/info/", timeout=5).status_code == 200:
                return
        except requests.RequestException:
            time.sleep(0.05)
    raise TimeoutError(f"the server does not answer within {STARTS_WITHIN_S} s")
