"""A configuration that cannot be is refused in a sentence that lists what can."""

from pathlib import Path

import pytest

from fair_strategy.config import SettingsError
from fair_strategy.workflows.simulation.plan import runs
from fair_strategy.workflows.simulation.settings import read_simulation
from fair_strategy.workflows.simulation.shards import read_shard, shard_path
from tests.unit.workflows.simulation.conftest import TINY, written

CONFIGURATIONS = Path(__file__).parents[4] / "experiments"


def arm(**options):
    return {"arms": {"weighted": {"strategy": "weighted_entropy", **options}}}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"budgets": 3}, r"unknown option 'budgets'; expected one of .*budget, .*rounds"),
        ({"training": {"step": 3}}, r"training: unknown option 'step'; .*learning_rate, .*steps"),
        (arm(stategy="entropy"), r"arms.weighted: unknown option 'stategy'; .*strategy"),
        (arm(strategy="entrpy"), r"unknown strategy 'entrpy'; .*masked_entropy, .*whole_pool"),
        (arm(settings={"rule": "softmx"}), r"'rule'.*'softmax'.*got 'softmx'"),
        (arm(settings={"rul": "softmax"}), r"unknown option 'rul'; the options are: .*rule"),
        (arm(settings={"seed": 3}), r"'seed': a simulation sets it itself"),
        (arm(strategy="bald"), r"set passes to 2 or more"),
        (arm(by_bias={"strng": {}}), r"unknown bias 'strng'; expected one of none, strong, weak"),
        (arm(annotator={"kind": "lazy"}), r"'perfect' or 'anchoring', got 'lazy'"),
        ({"starts": {"s": {"C": 1}}}, r"unknown start 'imbalanced'; expected one of s"),
        (
            {"starts": {"imbalanced": {"C": 1}}},
            r"unknown group of start 'imbalanced' 'C'; expected one of A, B",
        ),
        ({"starts": {"imbalanced": {"A": 6}}}, r"start 'imbalanced': expected 0 to 5 of group A"),
        ({"starts": {"imbalanced": {"A": 0}}}, r"expected at least one scan to train on"),
        ({"budget": 40}, r"rounds of 40 ask for 8\d, the pool has \d+; take a larger pool"),
        ({"cohort": {"pool_seed": 2, "test_seed": 2}}, r"the test set would be known"),
        ({"cohort": {"pool": {"A": 3, "B": 0}}}, r"expected scans of both A and B"),
        ({"stages": [{**TINY["stages"][0], "arms": ["w"]}]}, r"unknown arm 'w'; .* weighted"),
        ({"stages": [{**TINY["stages"][0], "seeds": 0}]}, r"stages.0.seeds"),
        ({"budget": 0}, r"budget: .*greater than or equal to 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused_and_the_good_ones_are_listed(tmp_path, changed, message):
    with pytest.raises(SettingsError, match=message):
        read_simulation(written(tmp_path / "config.yaml", **changed))


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "", "\xff\xfe"])
def test_a_file_without_options_is_refused_by_its_name(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match=r"bad\.yaml: expected"):
        read_simulation(path)


def test_an_arms_settings_lie_over_the_simulations_and_a_biass_over_both(tmp_path):
    changed = {
        "settings": {"margin_mm": 1, "audit_every": 2, "rule": "uniform"},
        **arm(settings={"margin_mm": 2, "rule": "softmax"}, by_bias={"weak": {"margin_mm": 3}}),
        "stages": [{**TINY["stages"][0], "biases": ["strong", "weak"]}],
    }
    strong, weak = (
        run.study_settings()
        for run in runs(read_simulation(written(tmp_path / "config.yaml", **changed)))
    )
    assert (strong.margin_mm, strong.rule, strong.audit_every) == (2, "softmax", 2)
    assert (weak.margin_mm, weak.rule) == (3, "softmax")
    assert (strong.quota_batch, strong.validation_per_group, strong.train_steps) == (2, 0, 3)


def test_runs_go_stage_by_stage_and_seed_by_seed_and_none_twice(tmp_path):
    stage = TINY["stages"][0]
    changed = {
        "arms": {"weighted": {"strategy": "weighted_entropy"}, "floor": {"strategy": "whole_pool"}},
        "starts": {"imbalanced": {"A": 2, "B": 1}, "balanced": {"A": 1, "B": 1}},
        "stages": [
            {**stage, "seeds": 2},
            {**stage, "name": "more", "starts": ["imbalanced", "balanced"], "arms": ["floor"]},
        ],
    }
    simulation = read_simulation(written(tmp_path / "config.yaml", **changed))
    assert [run.name for run in runs(simulation)] == [
        "strong_imbalanced_weighted_seed0",
        "strong_imbalanced_weighted_seed1",
        "strong_floor_seed0",
    ]
    assert [run.name for run in runs(simulation, "more")] == ["strong_floor_seed0"]
    with pytest.raises(ValueError, match=r"unknown stage 'mor'; expected one of more, only"):
        runs(simulation, "mor")


def test_a_runs_digest_changes_with_its_own_settings_and_not_with_other_arms(tmp_path):
    def digest(**changed):
        return runs(read_simulation(written(tmp_path / "config.yaml", **changed)))[0].digest()

    plain = digest()
    assert digest(arms={**TINY["arms"], "other": {"strategy": "random"}}) == plain
    assert digest(stages=[{**TINY["stages"][0], "seeds": 3}]) == plain
    assert digest(**arm(carry_over=True)) != plain
    assert digest(**arm(settings={"margin_mm": 2})) != plain
    assert digest(rounds=3) != plain
    assert digest(training={**TINY["training"], "steps": 4}) != plain


@pytest.mark.parametrize("name", ["tiny", "small", "confirmation", "development", "full"])
def test_the_committed_configurations_are_valid(name):
    simulation = read_simulation(CONFIGURATIONS / f"{name}.yaml")
    assert runs(simulation)


def test_development_and_final_runs_share_no_scan():
    found = [
        read_simulation(CONFIGURATIONS / f"{name}.yaml").cohort
        for name in ("development", "small", "confirmation", "full")
    ]
    seeds = [seed for cohort in found for seed in (cohort.pool_seed, cohort.test_seed)]
    assert len(set(seeds)) == len(seeds)


def test_the_committed_shards_are_those_of_the_committed_configuration():
    out = CONFIGURATIONS / "results" / "small"
    simulation = read_simulation(CONFIGURATIONS / "small.yaml")
    begun = [run for run in runs(simulation) if shard_path(out, run).exists()]
    assert len(begun) == len(list((out / "shards").iterdir()))
    for run in begun:  # a new setting of a study would else leave hours of work behind
        read_shard(out, run)
