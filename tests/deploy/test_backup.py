"""The commands of docs/how-to/operate.md bring a study back from its backup."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fair_strategy.store import labels, leases
from fair_strategy.workflows.desk import next_case, submit
from fair_strategy.workflows.drafts import read_draft, save_draft
from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.scoring import score_study
from fair_strategy.workflows.study import open_study
from tests.app import cohorts

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "operate.md"
MISSING = [tool for tool in ("rsync", "sqlite3") if shutil.which(tool) is None]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


def commands(number, *, backup):
    """A block of commands of the section, with a folder of the test for /backup."""
    section = PAGE.read_text().split("## Back up and restore")[1].split("\n## ")[0]
    return re.findall(r"```\n(.*?)```", section, re.DOTALL)[number].replace("/backup", str(backup))


def run(text, study):
    where = {"STATE": str(study.state_dir), "STUDY": str(study.images_dir), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-euc", text], env=where, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def content(study):
    """What people did: labels with their masks, decisions, drafts."""
    masks = {
        (label.case_id, label.tag): Path(label.path).read_bytes()
        for label in labels.labels(study.store)
    }
    decisions = [leases.decision(study.store, number) for number in (1, 2)]
    return masks, decisions, read_draft(study, "sub-03_T1w", "bert")


def test_a_study_whose_disk_was_lost_is_the_one_that_was_backed_up(study, tmp_path):
    score_study(study)
    make_plans(study)
    mask = cohorts.save(tmp_path / "mask.nii.gz", cohorts.scan(2)[1])
    for reader in ("anna", "bert"):
        served = next_case(study, "weighted_entropy", reader)
        submit(study, served.case_id, mask, tag="final", info={}, client_id=reader)
    save_draft(study, "sub-03_T1w", "bert", mask)
    before = content(study)
    backup = tmp_path / "backup"
    backup.mkdir()
    run(commands(0, backup=backup), study)  # the store is open, as in a running server

    study.store.close()
    shutil.rmtree(study.state_dir)
    shutil.rmtree(study.images_dir / "derivatives")
    run(commands(1, backup=backup), study)
    again = open_study(
        study.images_dir,
        study.settings,
        state_dir=study.state_dir,
        shipped_model=study.shipped_model,
    )
    assert content(again) == before
    assert (study.state_dir / "state.sqlite3").stat().st_mode & 0o077 == 0
