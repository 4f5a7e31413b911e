"""Which volume a scoring process died at is known to the next one."""

import errno
import json
import shutil
from pathlib import Path

import pytest

from fair_strategy.store.cases import CaseRecord
from fair_strategy.workflows.attempts import FILE, Attempts, excuse
from fair_strategy.workflows.erasure import erase_subject


def record(number: int, fingerprint: str = "1-1") -> CaseRecord:
    path = Path(f"c{number}.nii")
    return CaseRecord(f"c{number}", f"sub-{number}", path, fingerprint, True, None, None, {})


def died_at(state_dir, *records):
    attempts = Attempts(state_dir, "model")
    for each in records:
        attempts.begin(each)


def deaths(state_dir, each, model="model"):
    return Attempts(state_dir, model).deaths(each)


def test_each_volume_in_hand_is_suspected_and_no_other(tmp_path):
    died_at(tmp_path, record(1), record(2))
    found = Attempts(tmp_path, "model")
    assert [found.deaths(record(n)) for n in (1, 2, 3)] == [1, 1, 0]


def test_deaths_are_counted_from_process_to_process(tmp_path):
    for _ in range(2):
        died_at(tmp_path, record(1))
    assert deaths(tmp_path, record(1)) == 2


def test_a_volume_that_was_done_with_is_suspected_no_more(tmp_path):
    died_at(tmp_path, record(1))
    attempts = Attempts(tmp_path, "model")
    attempts.begin(record(1))
    attempts.end(record(1))
    assert deaths(tmp_path, record(1)) == 0


def test_a_process_that_ended_by_itself_or_was_told_to_suspects_nobody(tmp_path):
    attempts = Attempts(tmp_path, "model")
    attempts.begin(record(1))
    attempts.close()
    assert deaths(tmp_path, record(1)) == 0
    died_at(tmp_path, record(2))
    excuse(tmp_path)
    assert deaths(tmp_path, record(2)) == 0


@pytest.mark.parametrize(
    ("each", "model"), [(record(1, "2-2"), "model"), (record(1), "another model")]
)
def test_another_file_or_another_model_starts_anew(tmp_path, each, model):
    died_at(tmp_path, record(1))
    assert deaths(tmp_path, each, model) == 0


DAMAGED = {
    "empty": b"",
    "cut": b"{",
    "a list": b"[]",
    "null": b"null",
    "half of it": b'{"model": "model"}',
    "no text": b"\xff",
    "no counts": b'{"model": "model", "deaths": {"c1 1-1": null}, "in_hand": []}',
    "no list of counts": b'{"model": "model", "deaths": ["c1 1-1"], "in_hand": []}',
    "no finite counts": b'{"model": "model", "deaths": {"c1 1-1": Infinity}, "in_hand": []}',
    "no list of names": b'{"model": "model", "deaths": {}, "in_hand": "c1 1-1"}',
    "no names": b'{"model": "model", "deaths": {}, "in_hand": [1]}',
    "of another model, and damaged": b'{"model": "other", "deaths": {}, "in_hand": 1}',
    "too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_kept_aside_and_said_and_the_counts_start_anew(tmp_path, content, caplog):
    (tmp_path / FILE).write_bytes(content)
    excuse(tmp_path)  # as the end of a process does; the next start still finds the damage
    attempts = Attempts(tmp_path, "model")
    assert attempts.deaths(record(1)) == 0
    (aside,) = tmp_path.glob(f"{FILE}.damaged-*")
    assert aside.read_bytes() == content
    assert f"{FILE} was damaged; it is kept as {aside.name}" in caplog.text
    attempts.begin(record(1))
    assert deaths(tmp_path, record(1)) == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_no_file_and_a_file_of_another_model_are_no_damage(tmp_path, caplog):
    Attempts(tmp_path, "model")
    Attempts(tmp_path, "another model")
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert caplog.text == ""


def test_a_file_that_cannot_be_read_is_said_and_stops_nothing(tmp_path, caplog):
    (tmp_path / FILE).mkdir()
    assert deaths(tmp_path, record(1)) == 0
    assert f"{FILE}: not read (Is a directory)" in caplog.text


def test_a_damaged_file_that_cannot_be_moved_is_said_and_stops_nothing(
    tmp_path, monkeypatch, caplog
):
    def refuse(self, target):
        raise OSError(errno.EROFS, "Read-only file system")

    (tmp_path / FILE).write_bytes(b"{")
    monkeypatch.setattr(Path, "replace", refuse)
    assert deaths(tmp_path, record(1)) == 0
    assert "could not be put aside (Read-only file system)" in caplog.text


def test_a_damaged_file_that_was_kept_goes_with_an_erasure(make_study):
    study = make_study("AB")
    (study.state_dir / FILE).write_text('{"in_hand": ["sub-02_T1w 1-1"]')
    Attempts(study.state_dir, "model")
    shutil.rmtree(study.images_dir / "sub-02")
    table = study.images_dir / "participants.tsv"
    table.write_text("".join(table.read_text().partition("sub-02")[:1]))
    assert list(study.state_dir.glob(f"{FILE}.damaged-*"))
    erase_subject(study, "sub-02")
    assert not list(study.state_dir.glob(f"{FILE}*"))


def test_what_is_written_names_model_deaths_and_volumes_in_hand(tmp_path):
    died_at(tmp_path, record(1))
    died_at(tmp_path, record(2))
    assert json.loads((tmp_path / FILE).read_bytes()) == {
        "model": "model", "deaths": {"c1 1-1": 1}, "in_hand": ["c2 1-1"],
    }  # fmt: skip
