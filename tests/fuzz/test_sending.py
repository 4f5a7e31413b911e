"""Damaged files and options are sent to the server: taken, or refused by a sentence and forgotten.

`FUZZ_UPLOADS` sets the number of files of each kind; docs/results/reliability.md has a long run.
"""

import gzip
import itertools
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from monailabel.utils.sessions import Sessions

from fair_strategy.data.formats import encode
from fair_strategy.host import tasks
from fair_strategy.store import cases
from tests.app import cohorts
from tests.app.in_process import brought_up, client_of
from tests.fuzz.hostile import mutated

COUNT = int(os.environ.get("FUZZ_UPLOADS", "12"))
CASE, UNFINISHED = "sub-02_T1w", "sub-04_T1w"
TABLE = "participants.tsv"
NAMES = ("a.nii", "a.nii.gz", "b.nii.gz", "a.nrrd")
"""The one that begins with b is packed after it was damaged, so that its checksum is right."""
OPTIONS = (
    b'{"a": NaN}', b'{"a": 1e999}', b'{"a": "\\ud800"}', b'{"a": ' + b"9" * 5000 + b"}",
    b'{"a": ' + b"[" * 50_000 + b"}", b'{"client_id": {}}', b'{"client_id": NaN}', b"[]", b"null",
    b'{"image": "../x", "model": "x", "save_label": true}', b'{"result_extension": ".exe"}',
    b'{"result_extension": 7}', b'{"": ""}', b'{"label_info": 5, "sex": 1}', b"\xff\xfe{}",
)  # fmt: skip


@dataclass
class Sent:
    """One file, under its name, with the options beside it."""

    name: str
    content: bytes
    params: bytes = b"{}"


class Room:
    """The application, its client, and what it has kept."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.app = brought_up(root)
        self.app._sessions = Sessions(str(root / "sessions"))
        self.client = client_of(self.app, patch)
        self.root = root
        self.numbers = itertools.count(100)
        asked = self.client.post(f"/infer/caudate?image={CASE}&output=json")
        assert asked.status_code == 200  # its folder of results is made, outside the one below
        (root / "temporary").mkdir()
        patch.setattr(tempfile, "tempdir", str(root / "temporary"))

    def kept(self) -> Any:
        """Rows of labels and scans, and every file but those of the database itself."""
        store = self.app.study.store
        files = {
            path: path.stat().st_mtime_ns
            for path in self.root.rglob("*")
            if path.is_file() and not path.name.startswith("state.sqlite3")
        }
        return cases.labels(store), cases.present_ids(store), files

    def leftovers(self) -> list[Path]:
        """Temporary files."""
        folders = (self.root / "temporary", Path(tasks._outbox()))
        return [path for folder in folders for path in folder.rglob("*")]


def send_label(room: Room, sent: Sent) -> Any:
    reply = room.client.put(
        f"/datastore/label?image={CASE}",
        files={"params": (None, sent.params), "label": (sent.name, sent.content)},
    )
    if reply.status_code == 200:
        label = cases.label(room.app.study.store, CASE)
        assert label is not None
        assert label.path.exists()
        assert room.client.get(f"/datastore/label/info?label={CASE}&tag=final").status_code == 200
    return reply


def send_draft(room: Room, sent: Sent) -> Any:
    return room.client.put(
        f"/reader/draft?image={UNFINISHED}&client_id=anna",
        files={"file": (sent.name, sent.content)},
    )


def send_session(room: Room, sent: Sent) -> Any:
    """What a session keeps is looked at when a model is run on it."""
    made = room.client.put("/session/", files={"files": (sent.name, sent.content)})
    if made.status_code != 200:
        return made
    session = made.json()["session_id"]
    reply = room.client.post(f"/infer/caudate?session_id={session}&output=json")
    room.app.sessions().remove_session(session)
    return reply


def send_image(room: Room, sent: Sent) -> Any:
    case_id = f"sub-{next(room.numbers)}_T1w"
    reply = room.client.put(
        f"/datastore/image?image={case_id}",
        files={"params": (None, sent.params), "file": (sent.name, sent.content)},
    )
    if reply.status_code == 200:
        assert room.client.get(f"/datastore/image/info?image={case_id}").status_code == 200
    return reply


def send_scan(room: Room, sent: Sent) -> Any:
    return room.client.post(
        "/infer/caudate",
        files={"params": (None, sent.params), "file": (sent.name, sent.content)},
    )


def send_request(room: Room, sent: Sent) -> Any:
    return room.client.post(f"/infer/caudate?image={CASE}", files={"params": (None, sent.params)})


FILES = (send_label, send_draft, send_session, send_image, send_scan)
WITH_OPTIONS = (send_label, send_image, send_scan, send_request)
GOOD_OPTIONS = json.dumps({"client_id": "anna", "site": "a", "result_extension": ".nrrd"}).encode()


def good_file(send: Callable, name: str) -> bytes:
    """A mask or a scan; a table, which nobody takes."""
    if name == TABLE:
        return b"participant_id\tgroup\tsex\tage\nsub-01\tA\tF\t40\nsub-02\tB\tM\t71\n"
    is_mask = send in (send_label, send_draft)
    image, mask = cohorts.scan(2)
    return encode(Path(name.removesuffix(".gz")), mask if is_mask else image, cohorts.AFFINE)


def packed(name: str, content: bytes) -> bytes:
    return gzip.compress(content, 1) if name.endswith(".gz") else content


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield Room(tmp_path_factory.mktemp("room"), patch)


def taken(room: Room, send: Callable, sent: list[Sent]) -> set[int]:
    """The statuses of some requests; each refusal is a sentence, after which all is as before."""
    statuses = set()
    for one in sent:
        before = room.kept()
        reply = send(room, one)
        statuses.add(reply.status_code)
        if reply.status_code != 200:
            assert 400 <= reply.status_code < 500, (one, reply.text)
            assert len(reply.json()["detail"]) > 3
            assert str(room.root) not in reply.text
            assert room.kept() == before, one
        assert room.leftovers() == []
    assert room.client.get("/datastore/?output=all").status_code == 200
    return statuses


@pytest.mark.filterwarnings("ignore")  # nibabel and pynrrd warn of what they then refuse
@pytest.mark.parametrize("name", [*NAMES, TABLE])
@pytest.mark.parametrize("send", FILES)
def test_a_damaged_file_is_taken_or_refused_and_forgotten(room, send, name):
    good = good_file(send, name)
    if name == "a.nii.gz":
        contents = list(mutated(packed(name, good), count=COUNT, seed=21))
    else:
        contents = [packed(name, content) for content in mutated(good, count=COUNT, seed=21)]
    assert 422 in taken(room, send, [Sent(name, content) for content in contents])
    whole = Sent(name, packed(name, good))
    assert taken(room, send, [whole]) == {422 if name == TABLE else 200}


@pytest.mark.parametrize("send", WITH_OPTIONS)
def test_damaged_options_are_taken_or_refused_and_forgotten(room, send):
    good = good_file(send, "a.nii")
    options = [*OPTIONS, *mutated(GOOD_OPTIONS, count=COUNT, seed=22)]
    assert {200, 422} <= taken(room, send, [Sent("a.nii", good, params) for params in options])
