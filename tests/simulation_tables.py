"""Tables as a simulation writes them, from a learning curve with a known effect of each arm."""

import json
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

ARMS = {  # arm -> (strategy, rule, share of B among the scans that it selects)
    "weighted_entropy": ("weighted_entropy", "error_proportional", 0.62),
    "entropy": ("entropy", "uniform", 0.08),
    "balanced_random": ("balanced_random", "uniform", 0.50),
    "random": ("random", "uniform", 0.30),
    "masked_entropy": ("masked_entropy", "uniform", 0.40),
}
PER_ROUND = 6
COSTS = {"strong": 0.40, "weak": 0.22}  # what group B loses without scans of its own
FLOORS = {"strong": 0.05, "weak": 0.025}
SCORES = ("entropy", "masked_mean", "masked_sum")
RUN_JSON = {
    "configuration": {"rounds": 5, "budget_per_round": PER_ROUND, "training": {"steps": 300}},
    "versions": {"fair_strategy": "0.3.0", "torch": "2.13.0"},
    "hardware": {"device": "cpu", "kind": "x86-64", "cores": 2},
    "wall_seconds": 14280.0,
    "seeds": [0, 1, 2, 3, 4, 5, 6, 7],
}


def made(
    *,
    biases=("strong", "weak"),
    starts=("imbalanced",),
    arms=tuple(ARMS),
    seeds=8,
    rounds=5,
    n_test=100,
    effect=1.0,
    whole_pool=True,
    generator=0,
) -> dict[str, pd.DataFrame]:
    """The four tables. effect 0: every arm selects alike (share 0.3 of B), only noise differs."""
    parts: dict[str, list] = {"rounds": [], "cases": [], "selected": [], "scores": []}
    for bias in biases:
        luck = _rng(generator, bias).normal(0, 0.05, 2 * n_test)  # of each test case
        for seed in range(seeds):
            for start in starts:
                for arm in arms:
                    _run(parts, bias, start, arm, seed, luck, rounds, n_test, effect, generator)
            if whole_pool:
                _whole_pool(parts, bias, seed, luck, n_test, generator)
    return {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}


def write(out: Path, tables: dict[str, pd.DataFrame], run: dict | None = RUN_JSON) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False)
    if run is not None:
        (out / "run.json").write_text(json.dumps(run))
    return out


def _rng(*names) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(str(name).encode()) for name in names])


def _run(parts, bias, start, arm, seed, luck, rounds, n_test, effect, generator):
    strategy, rule, share = ARMS[arm]
    share = 0.3 + effect * (share - 0.3)
    counts = np.array([5, 1] if start == "imbalanced" else [3, 3])
    ability = _rng(generator, bias, seed, "seed").normal(0, 0.012, 2)
    for number in range(rounds + 1):
        own = _rng(generator, bias, start, seed, number, arm if number else "first")
        if number:
            of_b = own.binomial(PER_ROUND, share)
            groups = ["A"] * (PER_ROUND - of_b) + ["B"] * of_b
            parts["selected"].append(_selected(bias, start, arm, seed, number, groups))
            counts = counts + np.array([PER_ROUND - of_b, of_b])
        dice = _dice(bias, counts, ability + own.normal(0, 0.008, 2), luck, own, n_test)
        key = {"bias": bias, "start": start, "arm": arm, "seed": seed, "round": number}
        parts["rounds"].append(
            _rounds(key, strategy, rule, counts, dice, n_test, weight=share / 0.5)
        )
        if number in (0, rounds):
            parts["cases"].append(_cases(key, dice, n_test, own))
        if number in (0, rounds - 1):
            parts["scores"].append(_scores(key, _rng(generator, bias, seed, number, "pool")))


def _whole_pool(parts, bias, seed, luck, n_test, generator):
    own = _rng(generator, bias, seed, "whole pool")
    counts = np.array([40, 40])
    dice = _dice(bias, counts, own.normal(0, 0.006, 2), luck, own, n_test)
    key = {"bias": bias, "start": "", "arm": "whole_pool", "seed": seed, "round": -1}
    parts["rounds"].append(_rounds(key, "whole_pool", "", counts, dice, n_test, weight=np.nan))
    parts["cases"].append(_cases(key, dice, n_test, own))


def _dice(bias, counts, ability, luck, rng, n_test):
    means = np.array(
        [
            0.91 - 0.10 * np.exp(-counts[0] / 8),
            0.91 - FLOORS[bias] - COSTS[bias] * np.exp(-counts[1] / 7),
        ]
    )
    each = np.repeat(means + ability, n_test) + luck + rng.normal(0, 0.02, 2 * n_test)
    return np.clip(each, 0, 1)


def _rounds(key, strategy, rule, counts, dice, n_test, weight):
    by_group = dice.reshape(2, n_test)
    return pd.DataFrame(
        {
            **{name: [key[name]] * 2 for name in ("bias", "start", "arm")},
            "strategy": strategy,
            "rule": rule,
            "estimator": "labelled",
            "seed": key["seed"],
            "round": key["round"],
            "n_labelled": int(counts.sum()),
            "subgroup": ["A", "B"],
            "n_test": n_test,
            "dice": by_group.mean(1),
            "dice_sd": by_group.std(1, ddof=1),
            "surface_distance_mm": 2.6 * (1 - by_group.mean(1)),
            "labelled": counts,
            "weight": [2 - weight, weight],
            "performance": by_group.mean(1) + 0.05,
            "train_seconds": 31.5,
            "score_seconds": 4.25,
        }
    )


def _cases(key, dice, n_test, rng):
    groups = np.repeat(["A", "B"], n_test)
    return pd.DataFrame(
        {
            **key,
            "case_id": [f"sub-test{g}{i:03d}" for g in "AB" for i in range(n_test)],
            "subgroup": groups,
            "dice": dice,
            "surface_distance_mm": 2.6 * (1 - dice),
            "true_volume_mm3": np.where(groups == "A", 5400.0, 2100.0)
            + rng.normal(0, 300, 2 * n_test),
        }
    )


def _selected(bias, start, arm, seed, number, groups):
    return pd.DataFrame(
        {
            "bias": bias,
            "start": start,
            "arm": arm,
            "seed": seed,
            "round": number,
            "position": np.arange(len(groups)),
            "case_id": [f"sub-pool{number:02d}{i}" for i in range(len(groups))],
            "subgroup": groups,
            "reason": "",
        }
    )


def _scores(key, rng, n=40):
    groups = np.repeat(["A", "B"], n // 2)
    volume = np.where(groups == "A", 5400.0, 2100.0) + rng.normal(0, 500, n)
    dice = np.clip(0.8 + volume / 5e4 + rng.normal(0, 0.05, n), 0, 1)
    slope = {"entropy": 1.0, "masked_mean": 0.0, "masked_sum": 2.0}
    return pd.concat(
        [
            pd.DataFrame(
                {
                    **key,
                    "case_id": [f"sub-pool{i:03d}" for i in range(n)],
                    "subgroup": groups,
                    "score": score,
                    "value": 1 - dice + slope[score] * volume / 2e4 + rng.normal(0, 0.02, n),
                    "true_volume_mm3": volume,
                    "dice": dice,
                }
            )
            for score in SCORES
        ],
        ignore_index=True,
    )
