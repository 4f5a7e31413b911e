"""Fairness measures of each run and round of a simulation; how a score goes with volume."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fair_strategy.metrics import fairness
from fair_strategy.workflows.simulation.analysis_statistics import (
    area_under_budget,
    partial_spearman,
    spearman,
)
from fair_strategy.workflows.simulation.analysis_tables import RUN, SETTING, WHOLE_POOL

NAN = float("nan")
Record = dict[Any, Any]


def measures_by_round(rounds: pd.DataFrame) -> pd.DataFrame:
    """Fairness of the test Dice, and of the surface distance, of each run after each round.

    Measures over cases (overall, equity-scaled) weigh a group's mean by its number of test cases,
    so they are those of `metrics.fairness` over the cases themselves.

    Args:
        rounds: the table of that name.
    Returns:
        A row a run and round, round -1 being the model trained on the whole pool: overall, worst,
        worst_group, gap, excess (gap minus the gap of the whole-pool model of the same bias, view
        and seed; NaN without one; may be negative), ser, equity_fairseg, equity_std, overall_mm,
        gap_mm. NaN where a group has no value.
    """
    tests: dict[tuple[object, ...], list[Record]] = {}
    for record in rounds.to_dict("records"):
        tests.setdefault(tuple(record[name] for name in (*RUN, "round")), []).append(record)
    rows = []
    for key, groups in sorted(tests.items()):
        row = dict(zip([*RUN, "round"], key, strict=True))
        row |= {name: groups[0][name] for name in ("strategy", "view", "n_labelled")}
        rows.append(row | _dice_measures(groups) | _distance_measures(groups))
    table = pd.DataFrame(rows)
    return table.assign(excess=table.gap - _floor(table))


def areas(measures: pd.DataFrame) -> pd.DataFrame:
    """Area under the budget curve of overall Dice, worst group and gap, a row a run."""
    rows = []
    for key, run in measures[measures["round"] >= 0].groupby(RUN, sort=True):
        row = dict(zip(RUN, key, strict=True))
        for name in ("overall", "worst", "gap"):
            row[f"aubc_{name}"] = area_under_budget(run.n_labelled, run[name])
        rows.append(row)
    return pd.DataFrame(rows, columns=[*RUN, "aubc_overall", "aubc_worst", "aubc_gap"])


def volume_correlation(scores: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of each score with the true volume, plain and at fixed quality.

    At fixed quality: the partial Spearman correlation given Dice. Score, volume and Dice of the
    pool's cases become mid-ranks, a straight line in the ranks of Dice is taken off the other two,
    and the residuals are correlated (`analysis_statistics.partial_spearman`). 0 is ideal: of two
    equally good segmentations the score does not prefer the larger or the smaller structure. It is
    computed within one run and round, over all groups, and then averaged.

    Args:
        scores: the table of that name.
    Returns:
        A row a setting, model, score and way to measure it. Model "first": the one that all arms
        of a seed start from, each seed counted once; "last": the last scored round of each run,
        all arms that measure so.
    """
    keys = [*SETTING, "model", "score", "measured"]
    if scores.empty:
        return pd.DataFrame(columns=[*keys, "runs", "plain", "fixed_quality"])
    once = [*SETTING, "seed", "case_id", "score", "measured"]
    first = scores[scores["round"] == 0].drop_duplicates(once)
    last_round = scores.groupby(RUN)["round"].transform("max")
    last = scores[(scores["round"] == last_round) & (scores["round"] > 0)]
    each = pd.DataFrame([*_correlations(first, "first"), *_correlations(last, "last")])
    grouped = each.groupby(keys, sort=True)
    return grouped.agg(
        runs=("plain", "size"), plain=("plain", "mean"), fixed_quality=("fixed_quality", "mean")
    ).reset_index()


def composition(rounds: pd.DataFrame) -> pd.DataFrame:
    """Labelled scans of each subgroup after each round, mean over seeds, and their share."""
    runs = rounds[rounds["round"] >= 0]
    keys = [*SETTING, "arm", "round", "subgroup"]
    table = runs.groupby(keys, sort=True)
    means = table.agg(labelled=("labelled", "mean"), n_labelled=("n_labelled", "mean"))
    return means.assign(share=means.labelled / means.n_labelled).reset_index()


def _dice_measures(groups: list[Record]) -> dict[str, object]:
    if not _known(groups, "dice"):
        names = ("overall", "worst", "gap", "ser", "equity_fairseg", "equity_std")
        return dict.fromkeys(names, NAN) | {"worst_group": ""}
    scores, labels = _in_proportion(groups, "dice")
    worst = fairness.worst_group(scores, labels)
    return {
        "overall": fairness.mean(scores),
        "worst": float(scores[labels.index(worst)]),
        "worst_group": worst,
        "gap": fairness.gap(scores, labels),
        "ser": fairness.skewed_error_ratio(scores, labels),
        "equity_fairseg": fairness.equity_scaled(scores, labels, variant="fairseg"),
        "equity_std": fairness.equity_scaled(scores, labels, variant="std"),
    }


def _distance_measures(groups: list[Record]) -> dict[str, float]:
    if not _known(groups, "surface_distance_mm"):
        return {"overall_mm": NAN, "gap_mm": NAN}
    distances, labels = _in_proportion(groups, "surface_distance_mm")
    return {
        "overall_mm": fairness.mean(distances),
        "gap_mm": fairness.gap(distances, labels, higher_is_better=False),
    }


def _known(groups: list[Record], name: str) -> bool:
    return all(group["n_test"] > 0 and not np.isnan(group[name]) for group in groups)


def _in_proportion(groups: list[Record], name: str) -> tuple[NDArray[np.float64], list[str]]:
    """Group means, each as often as its share of the cases asks: the same means with fewer values.

    A group's mean repeated n times and its n cases have the same mean, alone and among others.
    """
    counts = np.array([group["n_test"] for group in groups])
    times = counts // np.gcd.reduce(counts)
    means = np.array([group[name] for group in groups], np.float64)
    labels = [group["subgroup"] for group in groups]
    return np.repeat(means, times), [str(label) for label in np.repeat(labels, times)]


def _floor(measures: pd.DataFrame) -> "pd.Series[float]":
    """Gap of the whole-pool model of the same bias, view and seed, on the rows of `measures`."""
    keys = ["bias", "view", "seed"]
    gaps = measures[measures.arm == WHOLE_POOL].groupby(keys).gap.mean()
    wanted = pd.MultiIndex.from_frame(measures[keys])
    return pd.Series(gaps.reindex(wanted).to_numpy(), index=measures.index)


def _correlations(scores: pd.DataFrame, model: str) -> Iterator[Record]:
    keys = [*RUN, "score", "measured"]
    for key, run in scores.groupby(keys, sort=True):
        found: Record = dict(zip(keys, key, strict=True))
        found["model"] = model
        found["plain"] = spearman(run.value, run.true_volume_mm3)
        found["fixed_quality"] = partial_spearman(run.value, run.true_volume_mm3, given=run.dice)
        yield found
