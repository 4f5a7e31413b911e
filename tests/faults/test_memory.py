"""One volume that does not fit into the memory is reported, and the round goes on."""

import gzip
import json

import nibabel as nib
import numpy as np
import pytest

from fair_strategy.host.worker import arguments_for
from fair_strategy.store import cases, plans, scores
from fair_strategy.workflows.attempts import DEATHS
from fair_strategy.workflows.intake import prepare
from fair_strategy.workflows.study import open_study
from tests.app import cohorts
from tests.faults.nursery import wait_until_gone

BAD = "sub-03_T1w"
MEMORY = 256 * 2**20
SIDE = 448  # 90 million voxels: 343 MiB as float32


@pytest.fixture
def study(tmp_path):
    cohorts.write_cohort(tmp_path / "studies", labelled=0)
    cohorts.write_model(tmp_path / "shipped.pt")
    study = open_study(
        tmp_path / "studies", state_dir=tmp_path / "state", shipped_model=tmp_path / "shipped.pt"
    )
    prepare(study)
    return study


def run(nursery, study, call, *arguments):
    """The last line of a scoring process that has ended, in whatever way."""
    log = study.state_dir / "scoring.log"
    log.write_text("")
    pid = nursery.start(call, *arguments, arguments_for(study, "score"), output=log)
    wait_until_gone(pid, within_s=200)
    return log.read_text().strip().rpartition("\n")[2]


def unscored(study):
    model = scores.current_model(study.store).checksum
    return scores.unscored(study.store, model, study.settings_hash)


def test_a_volume_too_large_for_the_memory_is_left_out_and_all_others_are_scored(nursery, study):
    path = cases.case(study.store, BAD).path
    header = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), cohorts.AFFINE).header
    header.set_data_shape((SIDE, SIDE, SIDE))
    content = header.binaryblock + b"\0\0\0\0" + b"\1" * SIDE**3
    path.write_bytes(gzip.compress(content, 1))
    prepare(study)
    done = json.loads(run(nursery, study, "tests.faults.bounded:score_within", MEMORY))
    assert (done["scored"], done["unreadable"]) == (7, 1)
    assert "memory" in cases.case(study.store, BAD).unreadable
    assert unscored(study) == []
    assert plans.plan_head(study.store, "weighted_entropy") is not None


def test_a_volume_that_kills_the_scorer_each_time_is_left_out_at_last(nursery, study):
    name = cases.case(study.store, BAD).path.name
    call = "tests.faults.bounded:score_until_killed_by"
    deaths = 0
    while not (last := run(nursery, study, call, name)).startswith("{"):
        deaths += 1
        assert deaths <= DEATHS, last
    assert deaths == DEATHS
    assert f"{DEATHS} scoring processes died" in cases.case(study.store, BAD).unreadable
    assert unscored(study) == []
    others = {c.case_id: c.unreadable for c in cases.cases(study.store) if c.case_id != BAD}
    assert set(others.values()) == {None}
    assert plans.plan_head(study.store, "weighted_entropy") is not None
