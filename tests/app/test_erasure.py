"""One person is taken out of a study, and nothing in the state directory names them any more."""

import hashlib
import re
import shutil

import pytest

from fair_strategy.host.server import bring_up
from fair_strategy.store import cases, plans
from fair_strategy.store.database import Store, hold
from fair_strategy.store.errors import ServerRunning
from fair_strategy.workflows import attempts
from fair_strategy.workflows.desk import next_case, submit
from fair_strategy.workflows.drafts import save_draft
from fair_strategy.workflows.erasure import BEGUN, erase_subject
from fair_strategy.workflows.planning import make_plans, replay
from fair_strategy.workflows.scoring import score_study
from fair_strategy.workflows.study import StudyError
from tests.app import cohorts

PERSON, CASE = "sub-02", "sub-02_T1w"


def take_away(study, person=PERSON):
    shutil.rmtree(study.images_dir / person)
    table = study.images_dir / "participants.tsv"
    rows = [row for row in table.read_text().splitlines() if not row.startswith(person)]
    table.write_text("\n".join(rows) + "\n")


@pytest.fixture
def worked(study, tmp_path):
    """A study in which the person was scored, planned, drafted and labelled twice."""
    score_study(study)
    make_plans(study)
    mask = cohorts.save(tmp_path / "mask.nii.gz", cohorts.scan(2)[1])
    save_draft(study, CASE, "bert", mask)
    for _ in range(2):
        submit(study, CASE, mask, tag="final", info={}, client_id="anna")
    shutil.copy(study.store.path, f"{study.store.path}.corrupt-20260101T000000-1")
    (study.state_dir / attempts.FILE).write_text(f'{{"deaths": {{"{CASE} 1-1": 1}}}}')
    return study


def naming(study):
    """Files below the state directory and the masks' folder that name the person."""
    found = set()
    for root in (study.state_dir, study.derivatives_root):
        for path in root.rglob("*"):
            if path.is_file() and (PERSON in str(path) or PERSON.encode() in path.read_bytes()):
                found.add(path.name)
    return found


def test_nothing_names_the_person_afterwards_and_other_decisions_are_still_replayed(worked):
    handed = next_case(worked, "weighted_entropy", "anna")
    assert handed is not None
    [decision] = worked.store.read().execute("SELECT MAX(decision_id) FROM decisions").fetchone()
    assert replay(worked, decision)["same"]
    assert len(naming(worked)) >= 4  # database, mask, draft, prediction
    take_away(worked)
    erased = erase_subject(worked, PERSON)
    assert erased.scans == 1
    assert erased.files >= 4
    assert erased.models == 0
    worked.store.close()
    assert naming(worked) == set()
    assert CASE not in {c.case_id for c in cases.cases(worked.store)}
    told = replay(worked, decision)
    assert told["case_id"] == handed.case_id
    assert told["same"]
    assert worked.store.read().execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.parametrize("strategy", ["random", "balanced_random", "stochastic_batches"])
def test_a_decision_by_lot_is_still_replayed(study, strategy):
    """A lot rests on the order of the ids, in which the person's random name lies elsewhere."""
    score_study(study)
    make_plans(study)
    handed = next_case(study, strategy, "anna")
    assert handed.served_by == strategy
    [decision] = [decision.decision_id for decision in plans.decisions(study.store)]
    in_between = "sub-03" if handed.case_id.startswith("sub-04") else "sub-04"
    take_away(study, in_between)
    erase_subject(study, in_between)
    told = replay(study, decision)
    assert told["same"]
    assert told["replayed"] == handed.case_id


def test_no_digest_of_what_a_plan_was_made_from_tells_who_was_erased(worked):
    notes = {row[0] for row in worked.store.read().execute("SELECT note FROM plans")}
    snapshots = "SELECT digest, inputs FROM plan_inputs"
    before = dict(map(tuple, worked.store.read().execute(snapshots)))
    assert all(hashlib.sha256(text.encode()).hexdigest() == key for key, text in before.items())
    take_away(worked)
    erase_subject(worked, PERSON)
    after = dict(map(tuple, worked.store.read().execute(snapshots)))
    assert len(after) == len(before)
    assert not after.keys() & before.keys()
    assert all(len(re.findall(r'"erased-\w+"', text)) == 1 for text in after.values())
    told = {row[0] for row in worked.store.read().execute("SELECT note FROM plans")}
    assert len(told) == len(notes)
    assert not told & notes


def test_the_others_keep_their_labels_and_plans(worked):
    before = {r.case_id for r in cases.labels(worked.store)} - {CASE}
    take_away(worked)
    erase_subject(worked, PERSON)
    assert {r.case_id for r in cases.labels(worked.store)} == before
    again = Store.open(worked.state_dir)
    assert again.recovery is None
    assert plans.plan_head(again, "weighted_entropy") is not None


@pytest.mark.parametrize("left", ["scans", "participants.tsv"])
def test_it_refuses_while_the_next_start_would_take_the_person_up_again(worked, left):
    if left == "participants.tsv":
        shutil.rmtree(worked.images_dir / PERSON)
    before = cases.label(worked.store, CASE)
    with pytest.raises(StudyError, match=left):
        erase_subject(worked, PERSON)
    assert cases.label(worked.store, CASE) == before


def test_it_refuses_an_unknown_person_and_a_running_server(worked):
    with pytest.raises(StudyError, match="no such person"):
        erase_subject(worked, "sub-99")
    with hold(worked.state_dir), pytest.raises(ServerRunning):
        erase_subject(worked, PERSON)


def test_the_next_start_of_the_server_ends_an_erasure_that_was_cut_off(worked, monkeypatch):
    def cut_off(*_):
        raise KeyboardInterrupt

    take_away(worked)
    with monkeypatch.context() as patched:
        patched.setattr("fair_strategy.workflows.erasure.backup", cut_off)
        with pytest.raises(KeyboardInterrupt):
            erase_subject(worked, PERSON)
    assert naming(worked) == {BEGUN}
    bring_up(worked)
    worked.store.close()
    assert naming(worked) == set()
