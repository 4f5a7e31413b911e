"""The running server on a disk that is full or read-only, under a locked or a damaged database."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import requests

from fair_strategy.data.volumes import read_mask
from fair_strategy.store import Store, cases
from tests.app import cohorts
from tests.app.serving import application
from tests.faults.mounts import read_only
from tests.faults.nursery import children, is_alive, kill, wait_until_gone
from tests.faults.readers import digest_of, encoded
from tests.faults.server_kills import start, wait_until_up

CASE = "sub-03_T1w"
CONF = {"enable_background": "false", "validation_per_group": "0"}


class Running:
    """A server that can be stopped and started."""

    def __init__(self, nursery, work: Path, seen: Path) -> None:
        self.nursery, self.work, self.seen = nursery, work, seen
        self.pid = 0

    def start(self) -> None:
        self.url, self.pid = start(self.nursery, self.work, CONF)
        wait_until_up(self.url, self.pid)

    def stop(self) -> None:
        if is_alive(self.pid):
            kill(self.pid, *children(self.pid))

    @property
    def log(self) -> str:
        return (self.seen / "server.log").read_text(errors="replace")

    @property
    def state(self) -> Path:
        return self.seen / "state"

    def submit(self, number: int, *, case_id: str = CASE) -> requests.Response:
        params = {"client_id": "anna", "comment": f"number {number}"}
        return requests.put(
            f"{self.url}/datastore/label",
            params={"image": case_id, "tag": "final"},
            data={"params": json.dumps(params)},
            files={"label": ("mask.nii.gz", encoded(mask(number)))},
            timeout=60,
        )

    def next_sample(self) -> requests.Response:
        url = f"{self.url}/activelearning/balanced_random"
        return requests.post(url, json={"client_id": "anna"}, timeout=60)

    def holds(self, number: int, *, case_id: str = CASE) -> bool:
        """Whether mask and info of a case are those of a submission, as the server tells them."""
        listed = self.get("/datastore/", output="all").json()["objects"][case_id]
        path = self.seen / "asked.nii.gz"
        path.write_bytes(self.get("/datastore/label", label=case_id, tag="final").content)
        found = digest_of(read_mask(path).array)
        comment = listed["labels"]["final"]["info"]["comment"]
        return (found, comment) == (digest_of(mask(number)), f"number {number}")

    def get(self, path: str, **params: str) -> requests.Response:
        return requests.get(f"{self.url}{path}", params=params, timeout=60)


def mask(number: int) -> np.ndarray:
    return (np.random.default_rng(number).random(cohorts.SHAPE) > 0.5).astype(np.uint8)


def running(nursery, work: Path, seen: Path):
    cohorts.write_cohort(seen / "studies", per_group=2, labelled=0)
    application(seen)
    server = Running(nursery, work, seen)
    server.start()
    return server


@pytest.fixture
def server(nursery, tmp_path):
    started = running(nursery, tmp_path, tmp_path)
    yield started
    started.stop()


@pytest.fixture
def on_small_disk(nursery, disk, small_disk):
    started = running(nursery, disk, small_disk)
    yield started
    started.stop()


def fill(folder: Path) -> Path:
    """Take what is left of a disk."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while file.write(b"\1" * size):
                    pass
            except OSError:
                continue
    return ballast


def test_on_a_full_disk_a_submission_is_refused_by_a_sentence_and_nothing_is_half_done(
    on_small_disk,
):
    server = on_small_disk
    assert server.submit(1).status_code == 200
    ballast = fill(server.seen)
    refused = server.submit(2)
    assert refused.status_code == 503, refused.text
    assert "disk" in refused.json()["detail"]
    assert server.get("/info/").status_code == 200
    ballast.unlink()
    assert server.holds(1)
    assert server.submit(3).status_code == 200
    assert server.holds(3)


def test_a_server_that_is_killed_on_a_full_disk_starts_once_there_is_space(on_small_disk):
    server = on_small_disk
    assert server.submit(1).status_code == 200
    ballast = fill(server.seen)
    server.submit(2)
    server.stop()
    ballast.unlink()
    server.start()
    assert server.holds(1)
    assert server.submit(3).status_code == 200


def test_while_another_process_locks_the_database_readers_are_told_to_try_again(server):
    assert server.submit(1).status_code == 200
    other = sqlite3.connect(server.state / "state.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused = server.submit(2), server.next_sample()
    other.execute("ROLLBACK")
    other.close()
    for answer in refused:
        assert answer.status_code == 503, answer.text
        assert "locked" in answer.json()["detail"]
    assert server.holds(1)
    assert server.submit(3).status_code == 200
    assert server.holds(3)


def test_a_read_only_folder_of_masks_refuses_submissions_by_a_sentence(
    nursery, server, tmp_path, small_disk
):
    assert server.submit(1).status_code == 200
    folder = tmp_path / "studies" / "derivatives"
    with read_only(nursery, folder, log=tmp_path / "mount.log"):
        refused = server.submit(2)
    assert refused.status_code in (422, 503), refused.text
    assert "read-only" in refused.json()["detail"].lower()
    assert server.holds(1)
    assert server.submit(3).status_code == 200


def test_a_read_only_state_directory_is_refused_by_a_sentence(nursery, tmp_path, small_disk):
    state, log = tmp_path / "state", tmp_path / "opening.log"
    Store.open(state).close()
    with read_only(nursery, state, log=tmp_path / "mount.log"):
        wait_until_gone(nursery.start("tests.faults.bounded:open_store", state, output=log))
    assert "StoreError: state directory" in log.read_text()
    assert "Read-only file system" in log.read_text()


def test_a_damaged_database_is_replaced_at_the_start_and_its_later_rows_come_back(server):
    assert server.submit(1).status_code == 200  # after the copy of the start
    server.stop()
    spoil(server.state / "state.sqlite3", "plan_rows")
    server.start()
    assert "was corrupt" in server.log
    assert "rows of state.sqlite3.corrupt-" in server.log
    assert len(list(server.state.glob("state.sqlite3.corrupt-*[0-9]"))) == 1
    assert server.holds(1)
    assert server.submit(2).status_code == 200


def test_of_a_database_that_cannot_be_read_at_all_the_masks_become_labels_again(server):
    assert server.submit(1).status_code == 200
    server.stop()
    path = server.state / "state.sqlite3"
    path.write_bytes(b"\xa5" * path.stat().st_size)
    path.with_name("state.sqlite3-wal").unlink(missing_ok=True)
    server.start()
    store = Store(path)
    label = cases.label(store, CASE)
    store.close()
    assert label.client_id == "recovered"
    assert label.digest == digest_of(mask(1))
    assert "1 masks were taken over" in server.log


def spoil(path: Path, table: str) -> None:
    """Overwrite the pages of one table, with all that was committed in the file itself."""
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)
        ).fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)
