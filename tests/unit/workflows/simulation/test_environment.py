"""On what a simulation ran: recorded with each run, said where it is not the same for all."""

import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path

import pytest

from fair_strategy.workflows.simulation import (
    environment as environment_module,
    run as run_module,
    simulate as simulate_module,
)
from fair_strategy.workflows.simulation.analysis import analyse
from fair_strategy.workflows.simulation.analysis_tables import read_tables
from fair_strategy.workflows.simulation.environment import (
    device_kind,
    differences,
    environment,
    going_on_in,
)
from fair_strategy.workflows.simulation.plan import runs
from fair_strategy.workflows.simulation.report_text import facts
from fair_strategy.workflows.simulation.shards import read_shard, shard_path
from fair_strategy.workflows.simulation.simulate import simulate
from tests.unit.workflows.simulation.conftest import TINY
from tests.unit.workflows.simulation.test_run import killed

STAGE = TINY["stages"][0]
CPU = {"device": "cpu", "kind": "x86_64", "torch": "2.1", "monai": "1.5", "localiser": None}
GPU = {**CPU, "device": "cuda", "kind": "H100"}


def shard(*rounds_in, rounds=3):
    """A shard with environments from (first round, environment) on."""
    told = [{"first_round": number, **made} for number, made in rounds_in]
    return {"rounds": [{}] * rounds, **({"environments": told} if told else {})}


def test_a_shard_tells_from_which_round_on_it_was_played_where():
    fresh = going_on_in({"rounds": []}, CPU)
    assert fresh["environments"] == [{"first_round": 0, **CPU}]
    again = going_on_in({**fresh, "rounds": [{}, {}]}, CPU)
    assert again["environments"] == fresh["environments"]
    moved = going_on_in({**fresh, "rounds": [{}, {}]}, GPU)
    assert moved["environments"] == [{"first_round": 0, **CPU}, {"first_round": 2, **GPU}]
    # killed before its first round there, or begun anew because its state was lost
    assert going_on_in({**moved, "rounds": [{}, {}]}, CPU)["environments"] == again["environments"]
    assert going_on_in({**moved, "rounds": []}, GPU)["environments"] == [{"first_round": 0, **GPU}]


def test_the_kind_of_a_processor_tells_which_one_it_is():
    machine, *which = device_kind("cpu").split(", ")
    assert machine == platform.machine()
    if machine == "x86_64" and Path("/proc/cpuinfo").exists():
        assert [part.rpartition(" ")[0] for part in which] == ["cpu family", "model"]


def test_nothing_is_said_of_runs_that_were_computed_alike():
    assert differences([]) == []
    assert differences([shard((0, CPU)), shard((0, CPU)), shard(rounds=0)]) == []
    assert differences([shard(), shard()]) == []  # nothing is known of any


def test_runs_of_several_environments_are_counted_in_one_sentence():
    (sentence,) = differences([shard((0, GPU)), shard(), shard((0, CPU)), shard((0, CPU))])
    assert sentence.endswith(
        "their arm: cpu x86_64, torch 2.1, monai 1.5: 2; "
        "cuda H100, torch 2.1, monai 1.5: 1; not recorded: 1."
    )
    # one run on both; one whose first round told nothing
    (sentence,) = differences([shard((0, CPU), (2, GPU))])
    assert "cpu x86_64, torch 2.1, monai 1.5: 1; cuda H100" in sentence
    (sentence,) = differences([shard((1, CPU))])
    assert sentence.endswith("cpu x86_64, torch 2.1, monai 1.5: 1; not recorded: 1.")


def test_another_localiser_is_said_and_none_is_no_other():
    one, two = ({**CPU, "localiser": digit * 64} for digit in "ab")
    assert differences([shard((0, CPU)), shard((0, one))]) == []
    (sentence,) = differences([shard((0, CPU)), shard((0, one)), shard((0, two))])
    assert sentence.endswith(f"had the same localiser: {'a' * 12}: 1; {'b' * 12}: 1.")


def test_the_localiser_is_told_by_its_content_where_a_run_uses_it(tmp_path, configured):
    (tmp_path / "localiser.pt").write_bytes(b"weights")
    changed = {
        "training": {**TINY["training"], "localiser": "localiser.pt"},
        "arms": {
            "weighted": {"strategy": "random"},
            "brain": {"strategy": "random", "field_of_view": "brain"},
        },
        "stages": [{**STAGE, "arms": ["weighted", "brain"]}],
    }
    simulation, workspace = configured(**changed)
    box, brain = (environment(workspace, run) for run in runs(simulation))
    assert box["localiser"] is None
    assert brain["localiser"] == hashlib.sha256(b"weights").hexdigest()
    assert brain["torch"] == metadata.version("torch")
    assert (brain["device"], brain["monai"]) == ("cpu", metadata.version("monai"))


def run_json(out: Path) -> dict:
    return json.loads((out / "run.json").read_text())


RANDOM = {"arms": {"weighted": {"strategy": "random"}}, "rounds": 1}
TWICE = {**RANDOM, "stages": [{**STAGE, "seeds": 2}]}


def test_run_json_is_there_from_the_start_and_says_how_long_all_rounds_took(configured):
    simulation, workspace = configured(**TWICE)

    def go_on():
        simulate(simulation, workspace, resume=True)

    killed(go_on, at=(simulate_module, "_make_cohorts"), call=1)
    begun = run_json(workspace.out)
    assert begun["configuration"]["arms"]["weighted"]["field_of_view"] == "caudate"
    assert begun["versions"]["torch"] == metadata.version("torch")
    assert begun["process_hours"] == 0

    killed(go_on, at=(run_module, "write_shard"), call=4)  # in the second run's last round
    given = read_tables(workspace.out)  # of the first run
    assert given.run["configuration"] == begun["configuration"]
    assert "wall_seconds" not in given.run  # no call has ended
    assert dict(facts(given))["Time"] == "0.0 h of training and scoring, summed over processes"

    go_on()
    ended = run_json(workspace.out)
    taken = [
        done[name]
        for run in runs(simulation)
        for done in read_shard(workspace.out, run)["rounds"]
        for name in ("train_seconds", "score_seconds")
    ]
    assert len(taken) == 2 * 2 * 2
    assert sum(taken) > 0.01
    assert ended["process_hours"] == pytest.approx(sum(taken) / 3600, abs=1e-6)
    assert ended["wall_seconds"] > 0
    assert ended["notes"] == []


def test_a_resumed_simulation_says_that_its_runs_were_computed_on_different_things(
    configured, monkeypatch
):
    simulation, workspace = configured(**RANDOM)
    simulate(simulation, workspace)
    first = runs(simulation)[0]
    old = read_shard(workspace.out, first)
    assert [e["device"] for e in old.pop("environments")] == ["cpu"]
    shard_path(workspace.out, first).write_text(json.dumps(old))  # as an earlier version wrote it

    more, _ = configured(**TWICE)
    monkeypatch.setattr(environment_module, "device_kind", lambda device: "z80")
    said = []
    simulate(more, workspace, resume=True, say=said.append)
    (sentence,) = run_json(workspace.out)["notes"]
    assert "cpu z80, torch" in sentence
    assert sentence.endswith(": 1; not recorded: 1.")
    assert sentence in said
    assert sentence in analyse(read_tables(workspace.out)).notes
