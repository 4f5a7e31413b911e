"""Which volume a scoring process died at is known to the next one."""

from pathlib import Path

import pytest

from fair_strategy.store.cases import CaseRecord
from fair_strategy.workflows.attempts import FILE, Attempts, excuse


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


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"model": "model"}', b"\xff"])
def test_a_damaged_file_is_as_good_as_none(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    assert deaths(tmp_path, record(1)) == 0
    excuse(tmp_path)
