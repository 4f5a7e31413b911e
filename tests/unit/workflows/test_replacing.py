"""A mask and its row change together, whatever fails in between."""

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from fair_strategy.config import StudySettings
from fair_strategy.data.volumes import read_mask, write_mask
from fair_strategy.store import Store, cases
from fair_strategy.workflows.desk import submit
from fair_strategy.workflows.intake import prepare
from fair_strategy.workflows.masks import place_of_mask
from fair_strategy.workflows.replacing import BEFORE, KEPT, mask_digest
from fair_strategy.workflows.study import open_study
from tests.helpers import AFFINE, blob, write_cohort, write_model

ROOT = Path(__file__).resolve().parents[3]
CASE = "sub-01_T1w"

KILLED_BEFORE_ITS_COMMIT = """
import os, sys
from pathlib import Path
from fair_strategy.store import cases
from fair_strategy.workflows import desk
from fair_strategy.workflows.study import open_study
cases.save_label = lambda *given, **named: os._exit(9)
images, state, model, mask = map(Path, sys.argv[1:])
desk.submit(open_study(images, state_dir=state, shipped_model=model), "sub-01_T1w", mask)
"""


@pytest.fixture
def study(tmp_path):
    study = open_study(
        write_cohort(tmp_path / "images", "AB"),
        StudySettings(validation_per_group=0),
        state_dir=tmp_path / "state",
        shipped_model=write_model(tmp_path / "model" / "shipped.pt"),
    )
    prepare(study)
    return study


def mask_file(study, number):
    path = study.state_dir.parent / f"sent-{number}.nii.gz"
    write_mask(path, blob(number)[1], AFFINE)
    return path


def lies_there(study):
    """The mask in its place, and whether its row tells of it."""
    array = read_mask(place_of_mask(study, CASE, "final")).array
    return array, cases.label(study.store, CASE).digest == mask_digest(array)


def kill_in_submission(study, mask):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE_ITS_COMMIT]
        + [str(p) for p in (study.images_dir, study.state_dir, study.shipped_model, mask)],
        cwd=ROOT,
        check=False,
    )
    assert killed.returncode == 9


@pytest.fixture
def locked(study):
    """The study with a short patience, while another process has the database's write lock."""
    study.store.close()
    study.store.busy_timeout_s = 0.05
    other = sqlite3.connect(study.store.path, isolation_level=None)
    yield other
    other.close()


def test_a_submission_whose_row_cannot_be_written_leaves_the_mask_of_before(study, locked):
    submit(study, CASE, mask_file(study, 1), client_id="anna")
    locked.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        submit(study, CASE, mask_file(study, 2), client_id="anna")
    array, told = lies_there(study)
    assert told
    assert np.array_equal(array, blob(1)[1])
    assert list((study.derivatives_root / BEFORE).iterdir()) == []


def test_a_first_submission_whose_row_cannot_be_written_leaves_no_mask(study, locked):
    locked.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        submit(study, CASE, mask_file(study, 1), client_id="anna")
    assert not place_of_mask(study, CASE, "final").exists()
    locked.execute("ROLLBACK")
    submit(study, CASE, mask_file(study, 1), client_id="anna")
    assert lies_there(study)[1]


def test_a_kill_between_mask_and_row_puts_the_answered_mask_back_at_the_next_start(study, caplog):
    submit(study, CASE, mask_file(study, 1), client_id="anna")
    kill_in_submission(study, mask_file(study, 2))
    assert not lies_there(study)[1]
    prepare(study)
    array, told = lies_there(study)
    assert told
    assert np.array_equal(array, blob(1)[1])
    assert CASE in caplog.text
    [unanswered] = (study.state_dir / KEPT).iterdir()
    assert np.array_equal(read_mask(unanswered).array, blob(2)[1])


def test_a_kill_after_the_row_keeps_the_new_mask(study):
    for number in (1, 2):
        submit(study, CASE, mask_file(study, number), client_id="anna")
    [kept] = (study.state_dir / KEPT).iterdir()
    kept.rename(study.derivatives_root / BEFORE / kept.name)  # as if killed before it was moved
    prepare(study)
    array, told = lies_there(study)
    assert told
    assert np.array_equal(array, blob(2)[1])
    assert [p.name for p in (study.state_dir / KEPT).iterdir()] == [kept.name]


def test_two_submissions_of_one_scan_at_once_leave_mask_and_row_of_the_same(study):
    files = [mask_file(study, number) for number in range(6)]
    threads = [threading.Thread(target=submit, args=(study, CASE, file)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lies_there(study)[1]
    assert len(list((study.state_dir / KEPT).iterdir())) == len(files) - 1
    assert Store(study.store.path).read().execute("SELECT count(*) FROM labels").fetchone()[0] == 1
