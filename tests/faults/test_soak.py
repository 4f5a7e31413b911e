"""The soak in small: nothing that was answered is lost to a kill -9, and the soak would see it."""

import pytest

from fair_strategy.store import Store
from tests.faults import store_kills, writer
from tests.faults.server_kills import kill_servers
from tests.faults.store_kills import incoherent, kill_writers, missing
from tests.faults.tally import Kills, Tally
from tests.faults.work_kills import kill_workers

SEED = 20261129


def test_writers_that_are_killed_lose_nothing_that_they_had_said(nursery, tmp_path):
    tally = Tally("store")
    kill_writers(nursery, tmp_path, tally, Kills(20, SEED))
    assert tally.missing == []
    assert tally.kills == 20
    assert tally.answered["label"] > 0
    assert tally.answered["score"] > 0


@pytest.mark.parametrize("verb", ["score", "train"])
def test_a_worker_that_is_killed_loses_no_score_and_leaves_no_half_model(nursery, tmp_path, verb):
    tally = Tally(verb)
    kill_workers(nursery, tmp_path, tally, Kills(2, SEED), verb=verb)
    assert tally.missing == []
    assert tally.kills == 2
    assert tally.answered["label"] + tally.answered["score"] > 0


def test_a_server_that_is_killed_starts_again_with_all_that_it_had_answered(nursery, tmp_path):
    tally = Tally("server")
    kill_servers(nursery, tmp_path, tally, Kills(3, SEED))
    assert tally.missing == []
    assert tally.kills == 3
    assert tally.answered["label"] > 0


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("DELETE FROM scores", "score"),
        ("DELETE FROM labels", "label"),
        ("UPDATE labels SET info = '{}'", "label"),
        ("UPDATE decisions SET client_id = 'nobody'", "decision"),
    ],
)
def test_the_soak_sees_what_is_lost(tmp_path, change, what):
    store = Store.open(tmp_path / "state")
    said = [
        *next(writer._scores(store, _Never()))(0),
        *_planned(store),
        *next(writer._reads(store, _Never()))(1),
    ]
    assert missing(store.state_dir, said) == []
    with store.transaction() as connection:
        connection.execute(change)
    assert any(f'"what": "{what}"' in line for line in missing(store.state_dir, said))


def test_the_soak_sees_a_plan_without_some_of_its_rows(tmp_path):
    store = Store.open(tmp_path / "state")
    list(next(writer._scores(store, _Never()))(0))
    list(_planned(store))
    assert incoherent(store.state_dir) == []
    with store.transaction() as connection:
        connection.execute("DELETE FROM plan_rows")
    assert incoherent(store.state_dir) == ["plan 1"]


class _Never:
    """A generator whose draws are all as large as they can be: no chance happens."""

    def random(self) -> float:
        return 0.999


def _planned(store):
    record, rows = writer.plan(["c0"], 0)
    yield {"what": "plan", "plan": store_kills.plans.add_plan(store, record, rows), "number": 0}
