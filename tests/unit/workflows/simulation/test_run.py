"""Whole simulations of a tiny cohort: killed and resumed, with more arms, with planted figures."""

import csv
import hashlib
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fair_strategy.data.volumes import read_mask
from fair_strategy.learning import optimisation
from fair_strategy.workflows import desk, performance, rounds, showing
from fair_strategy.workflows.simulation import run as run_module
from fair_strategy.workflows.simulation.cohorts import POOL, known_cohort
from fair_strategy.workflows.simulation.first_models import random_weights
from fair_strategy.workflows.simulation.plan import runs
from fair_strategy.workflows.simulation.shards import is_finished, read_shard
from fair_strategy.workflows.simulation.simulate import simulate
from fair_strategy.workflows.simulation.tables import TIMING
from tests.unit.workflows.simulation.conftest import TINY

STAGE = TINY["stages"][0]
THREE = {
    "arms": {
        "weighted": {"strategy": "weighted_entropy"},
        "random": {"strategy": "random"},
        "whole_pool": {"strategy": "whole_pool"},
    },
    "stages": [{**STAGE, "arms": ["weighted", "random", "whole_pool"]}],
}


def tables(out: Path) -> dict[str, list[dict[str, str]]]:
    """Every table of a folder, without the columns that tell the time."""
    found = {}
    for name in ("rounds", "cases", "selected", "scores"):
        with open(out / f"{name}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        found[name] = [{k: v for k, v in row.items() if k not in TIMING} for row in rows]
    return found


def of_arm(found: dict[str, list[dict[str, str]]], arm: str) -> dict[str, list[dict[str, str]]]:
    return {name: [r for r in rows if r["arm"] == arm] for name, rows in found.items()}


def killed(work: Callable[[], object], *, at: tuple[object, str], call: int) -> None:
    """Do the work in a process that is killed at the so-manieth call of a function."""
    child = os.fork()
    if child == 0:
        owner, name = at
        original, calls = getattr(owner, name), []

        def deadly(*arguments, **options):
            calls.append(1)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        setattr(owner, name, deadly)
        try:
            work()
        finally:
            os._exit(0)  # not reached where the kill works
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"{at[1]} was not called {call} times"
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_a_simulation_that_was_killed_in_mid_round_ends_with_the_same_tables(configured):
    simulation, workspace = configured("straight", **THREE)
    simulate(simulation, workspace)
    expected = tables(workspace.out)
    assert {row["round"] for row in expected["rounds"]} == {"-1", "0", "1", "2"}
    assert len(expected["selected"]) == 2 * 2 * 2
    assert {row["round"] for row in expected["scores"]} == {"0", "1"}

    simulation, workspace = configured("killed", **THREE)

    def go_on():
        simulate(simulation, workspace, resume=True)

    first = runs(simulation)[0]
    # in the first training; between two labels of a round; after the state of a round was kept,
    # before it was told; in the training of a round; in the whole pool's
    killed(go_on, at=(optimisation._Run, "step"), call=2)
    killed(go_on, at=(desk, "submit"), call=3 + 3 + 2)
    assert len(read_shard(workspace.out, first)["rounds"]) == 1
    killed(go_on, at=(run_module, "write_shard"), call=1)
    killed(go_on, at=(optimisation._Run, "step"), call=5)
    assert len(read_shard(workspace.out, first)["rounds"]) == 2
    killed(go_on, at=(optimisation._Run, "step"), call=3 + 6 + 2)
    go_on()
    assert tables(workspace.out) == expected
    assert all(is_finished(workspace.out, run) for run in runs(simulation))


def test_an_arm_more_changes_nothing_of_the_others(configured):
    simulation, workspace = configured("one")
    simulate(simulation, workspace)
    alone = tables(workspace.out)
    arms = {"entropy": {"strategy": "entropy"}, **TINY["arms"], "random": {"strategy": "random"}}
    simulation, workspace = configured(
        "three", arms=arms, stages=[{**STAGE, "arms": ["entropy", "weighted", "random"]}]
    )
    simulate(simulation, workspace)
    found = tables(workspace.out)
    assert of_arm(found, "weighted") == alone
    first = {
        arm: [r["dice"] for r in of_arm(found, arm)["cases"] if r["round"] == "0"] for arm in arms
    }
    assert first["entropy"] == first["weighted"] == first["random"]
    for arm in arms:  # before the first scan is asked for, what it will be picked by is known
        rows = of_arm(found, arm)["rounds"]
        assert {r["round"] for r in rows if r["weight"]} == {"0", "1", "2"} - {last_round(rows)}


def last_round(rows: list[dict[str, str]]) -> str:
    return max(r["round"] for r in rows)


def test_results_are_neither_mixed_nor_overwritten(configured):
    simulation, workspace = configured("out", rounds=1)
    simulate(simulation, workspace)
    with pytest.raises(ValueError, match="holds results of 1 runs; go on with them by --resume"):
        simulate(simulation, workspace)
    other, _ = configured("out", rounds=1, budget=1)
    with pytest.raises(ValueError, match="was made with another configuration"):
        simulate(other, workspace, resume=True)
    assert simulate(simulation, workspace, resume=True)["rounds"] == 2


@pytest.mark.parametrize(
    ("arm", "estimator"),
    [
        ({}, "prequential"),
        ({}, "cross_validated"),
        ({"settings": {"validation_per_group": 2}}, "validation"),
    ],
    ids=["prequential", "cross-validated", "validation"],
)
def test_an_estimator_knows_what_its_labels_tell_and_no_more(configured, arm, estimator):
    block = {"strategy": "weighted_entropy", **arm}
    block["settings"] = {"estimator": estimator, **block.get("settings", {})}
    simulation, workspace = configured(arms={"weighted": block}, rounds=1)
    simulate(simulation, workspace)
    found = tables(workspace.out)
    assert [r["estimator"] for r in found["rounds"]] == [estimator] * 4
    # Before anything was submitted, only folds of the first labels tell how well a group does.
    known = [r["performance"] != "" for r in found["rounds"] if r["round"] == "0"]
    assert known == [estimator == "cross_validated"] * 2
    reasons = {r["reason"] for r in found["selected"]}
    assert ("validation" in reasons) == (estimator == "validation")


def digest(path: Path | None) -> str | None:
    return path and hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("streams", ["by_round", "by_run"])
@pytest.mark.parametrize("carry_over", [True, False])
def test_a_round_starts_from_the_last_rounds_model_where_weights_are_carried_over(
    configured, monkeypatch, carry_over, streams
):
    started, ended = [], []  # checksums of what each training starts from, and of what it makes

    def train(*cases, start_from, **options):
        started.append(digest(start_from))
        result = original(*cases, start_from=start_from, **options)
        ended.append(result.checksum)
        return result

    original = rounds.train
    monkeypatch.setattr(rounds, "train", train)
    block = {"strategy": "random", "carry_over": carry_over}
    simulation, workspace = configured(arms={"weighted": block}, streams=streams)
    simulate(simulation, workspace)
    (run,) = runs(simulation)
    untrained = [digest(random_weights(workspace, run, number)) for number in range(3)]
    assert len(set(untrained)) == (3 if streams == "by_round" else 1)
    first, second, _ = ended
    assert len({*untrained, *ended}) == len(set(untrained)) + 3
    assert started == [untrained[0], *((first, second) if carry_over else untrained[1:])]


def test_every_round_of_every_seed_has_random_streams_that_the_arms_share(configured):
    def streams(**changed) -> dict[tuple[str, int, int], int]:
        simulation, _ = configured(**{**THREE, **changed})
        return {
            (run.arm, run.seed, number + run.first_round): run.stream(number + run.first_round)
            for run in runs(simulation)
            for number in range(run.rounds)
        }

    found = streams(stages=[{**THREE["stages"][0], "seeds": 3}])
    assert {key[2] for key in found} == {-1, 0, 1, 2}
    of_round = {(seed, number): stream for (_, seed, number), stream in found.items()}
    assert len(set(of_round.values())) == len(of_round) == 3 * 4
    assert all(stream == of_round[seed, number] for (_, seed, number), stream in found.items())
    other = streams(cohort={**TINY["cohort"], "pool_seed": 13})
    assert not set(other.values()) & set(found.values())
    assert set(streams(streams="by_run").values()) == {0}


def noting_the_seed(work, seen):
    def noted(study, **options):
        seen.append((work.__name__, study.settings.seed))
        return work(study, **options)

    return noted


def test_the_seed_of_a_round_is_that_of_its_training_its_scores_and_its_plan(
    configured, monkeypatch
):
    seen = []
    for name in ("train_round", "settle"):
        monkeypatch.setattr(run_module, name, noting_the_seed(getattr(run_module, name), seen))
    simulation, workspace = configured()
    (run,) = runs(simulation)
    simulate(simulation, workspace)
    zero, one, two = (run.stream(number) for number in range(3))
    labels = simulation.budget
    assert seen[-7:] == [
        *[("settle", zero)] * labels,
        ("train_round", one),
        ("settle", one),
        *[("settle", one)] * labels,
        ("train_round", two),
    ]
    assert set(seen[:-7]) == {("settle", zero)}


@pytest.mark.parametrize(
    ("annotator", "share"),
    [({}, 1.0), ({"kind": "anchoring", "corrected": 0.4}, 0.4)],
    ids=["perfect", "anchoring"],
)
def test_an_annotator_submits_the_truth_or_the_shown_mask_with_a_share_put_right(
    configured, monkeypatch, annotator, share
):
    block = {"strategy": "weighted_entropy", "annotator": annotator}
    simulation, workspace = configured(arms={"weighted": block}, rounds=1)
    truths = known_cohort(workspace.out, POOL, bias="strong", field_of_view="caudate").cases
    handed, masks = set(), []
    next_case, submit = desk.next_case, desk.submit

    def noted_next(*arguments):
        found = next_case(*arguments)
        handed.add(found.case_id)
        return found

    def noted_submit(study, case_id, mask, **options):
        if case_id in handed:  # the first labels are handed to nobody
            files = mask, showing.original(study, case_id), truths[case_id].truth
            masks.append([read_mask(file).array != 0 for file in files])
        return submit(study, case_id, mask, **options)

    monkeypatch.setattr(desk, "next_case", noted_next)
    monkeypatch.setattr(desk, "submit", noted_submit)
    simulate(simulation, workspace)
    assert len(masks) == simulation.budget
    for submitted, shown, truth in masks:
        wrong = (shown != truth).sum()
        assert wrong > 10  # three steps of training: far from the truth
        assert (submitted != truth).sum() == wrong - np.ceil(share * wrong)
        assert (submitted != shown).sum() == np.ceil(share * wrong)


def planted(monkeypatch, workspace, dice_of: Callable[[str, int], float]) -> None:
    """Let every comparison find the Dice that `dice_of` (subgroup, its labels so far) gives."""
    groups = {
        i: case.subgroup
        for i, case in known_cohort(
            workspace.out, POOL, bias="strong", field_of_view="caudate"
        ).cases.items()
    }
    original, seen = performance.comparison, set()

    def comparison(label, predicted, **options):
        seen.add(label.case_id)
        group = groups[label.case_id]
        number = sum(groups[i] == group for i in seen)
        return replace(original(label, predicted, **options), dice=dice_of(group, number))

    monkeypatch.setattr(performance, "comparison", comparison)


def weights(out: Path) -> list[float]:
    """Weight of group B in each plan, in order."""
    rows = [r for r in tables(out)["rounds"] if r["subgroup"] == "B" and r["weight"]]
    return [float(r["weight"]) for r in sorted(rows, key=lambda r: int(r["round"]))]


def test_weights_chase_the_group_with_more_to_gain(configured, monkeypatch):
    simulation, workspace = configured(starts={"imbalanced": {"A": 3, "B": 1}})
    planted(monkeypatch, workspace, lambda group, n: {"A": 0.9, "B": 0.6}[group])
    simulate(simulation, workspace)
    # (1 - .6) / mean(.1, .4) = 1.6 before shrinkage, which draws it towards 1
    assert all(1.2 < weight < 1.7 for weight in weights(workspace.out))
    picked = [r["subgroup"] for r in tables(workspace.out)["selected"]]
    assert picked.count("B") >= 3


def test_weights_of_equal_groups_stay_near_one(configured, monkeypatch):
    simulation, workspace = configured()
    planted(monkeypatch, workspace, lambda group, n: 0.8)
    simulate(simulation, workspace)
    np.testing.assert_allclose(weights(workspace.out), 1.0, atol=0.02)


def test_weights_return_to_one_once_the_gap_is_closed(configured, monkeypatch):
    simulation, workspace = configured(starts={"imbalanced": {"A": 3, "B": 1}})
    planted(monkeypatch, workspace, lambda group, n: 0.9 if group == "A" or n > 1 else 0.5)
    simulate(simulation, workspace)
    chasing, relaxed = weights(workspace.out)
    assert chasing > 1.3
    assert relaxed == pytest.approx(1, abs=0.02)


def test_weights_by_prequential_figures_outlive_a_training(configured, monkeypatch):
    simulation, workspace = configured(
        starts={"imbalanced": {"A": 2, "B": 1}},
        budget=3,
        settings={**TINY["settings"], "estimator": "prequential"},
    )
    planted(monkeypatch, workspace, lambda group, n: {"A": 0.9, "B": 0.6}[group])
    simulate(simulation, workspace)
    first, second = weights(workspace.out)
    assert first == 1.0  # nothing was submitted yet
    assert second > 1.1
