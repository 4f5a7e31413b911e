"""What a simulation of active learning found: gaps, reductions, tests, from its tables alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fair_strategy.metrics.intervals import t_interval
from fair_strategy.workflows.simulation.analysis_measures import (
    composition,
    measures_by_round,
    volume_correlation,
)
from fair_strategy.workflows.simulation.analysis_notes import notes_on
from fair_strategy.workflows.simulation.analysis_resampling import OF_GROUP
from fair_strategy.workflows.simulation.analysis_settings import (
    AREAS,
    NAN,
    REFERENCES,
    RESAMPLED,
    TESTED,
    Setting,
    in_order,
    settings_of,
)
from fair_strategy.workflows.simulation.analysis_statistics import sign_flip_p
from fair_strategy.workflows.simulation.analysis_tables import (
    SETTING,
    WHOLE_POOL,
    TableError,
    Tables,
)

LEVELLED_DOWN = 0.01


@dataclass(frozen=True)
class Analysis:
    """Findings as tables; intervals are 95 %, columns `_low` and `_high`.

    Attributes:
        measures: every measure of each run and round (`measures_by_round`).
        summary: a row a setting (bias, start) and arm at the final budget: mean over the seeds
            that reached it, with bootstrap intervals; reductions against entropy, NaN where
            entropy's own mean may be 0 (in more than 2.5 % of the resamples).
        groups: a row a setting, arm and subgroup at the final budget; the mean weight of the
            subgroup over the runs' plans; the difference to entropy
            and to balanced_random; `down` where it is more than .01 below either.
        tests: a row a setting, arm, reference and measure: paired difference over the seeds that
            both have, t interval, sign-flip p.
        volume: correlation of the scores with volume (`volume_correlation`).
        composition: labelled scans of each subgroup after each round.
        roles: setting -> role -> arm: which arm is the one that the reading is about ("headline"),
            and which stand for entropy, balanced_random and random. A role may be missing.
        notes: what is missing, a sentence each.
    """

    measures: pd.DataFrame
    summary: pd.DataFrame
    groups: pd.DataFrame
    tests: pd.DataFrame
    volume: pd.DataFrame
    composition: pd.DataFrame
    roles: dict[tuple[str, str], dict[str, str]]
    notes: tuple[str, ...]

    def settings(self) -> list[tuple[str, str]]:
        """(bias, start) in order of showing: imbalanced before balanced, strong before weak."""
        pairs = self.summary[SETTING].drop_duplicates().itertuples(index=False)
        return [(str(bias), str(start)) for bias, start in pairs]


def analyse(tables: Tables, *, headline: str | None = None) -> Analysis:
    """Everything that the report tells, from the tables of a simulation.

    Args:
        tables: as `read_tables` gives them; runs may be unfinished or missing.
        headline: the arm that the reading is about; by default `weighted_entropy`, or else the
            plainest arm of that strategy, which has the shortest name.
    Raises:
        ValueError: if the headline arm is not in the tables, or (TableError) no arm is.
    """
    arms = set(tables.rounds.arm) - {WHOLE_POOL}
    if headline is not None and headline not in arms:
        raise ValueError(f"arm {headline!r}: expected one of {', '.join(in_order(arms))}")
    if not arms:
        raise TableError("rounds.csv: no arm but the whole pool's has a finished round yet")
    measures = measures_by_round(tables.rounds)
    settings = list(settings_of(tables, measures, headline))
    rows = [(s, a) for s in settings for a in s.arms()]
    return Analysis(
        measures=measures,
        summary=pd.DataFrame([_summary(s, a) for s, a in rows]),
        groups=pd.DataFrame([row for s, a in rows for row in _groups(s, a)]),
        tests=pd.DataFrame([row for s, a in rows for row in _tests(s, a)], columns=_TEST_COLUMNS),
        volume=volume_correlation(tables.scores),
        composition=composition(tables.rounds),
        roles={(s.bias, s.start): s.roles for s in settings},
        notes=tuple(notes_on(tables, measures, settings)),
    )


def _summary(setting: Setting, arm: str) -> dict[str, Any]:
    own = setting.of(arm)
    row: dict[str, Any] = {
        "bias": setting.bias,
        "start": setting.start,
        "arm": arm,
        "seeds": len(own),
        "n_labelled": float(own.n_labelled.mean()),
    }
    for name in RESAMPLED:
        known = own[name].dropna()
        seeds = [int(seed) for seed in known.index]
        low, high = setting.drawn.mean(name, arm, seeds) if setting.drawn else (NAN, NAN)
        row |= {name: _mean(known), f"{name}_low": low, f"{name}_high": high}
    for name in (*AREAS, "ser", "overall_mm", "gap_mm"):
        row[name] = _mean(own[name]) if name in own else NAN
    for name in ("gap", "excess"):
        row |= _reduction(setting, arm, name)
    return row


def _reduction(setting: Setting, arm: str, name: str) -> dict[str, float]:
    entropy = setting.roles.get("entropy")
    key = f"{name}_reduction"
    if arm in (entropy, WHOLE_POOL) or entropy is None:
        return {key: NAN, f"{key}_low": NAN, f"{key}_high": NAN, f"{key}_seeds": 0}
    own, other, seeds = setting.paired(arm, entropy, name)
    value, low, high = NAN, NAN, NAN
    if seeds and other.mean() > 0:
        value = float(1 - own.mean() / other.mean())
        if setting.drawn:
            low, high = setting.drawn.reduction(name, arm, entropy, seeds)
            if np.isnan(low) and not np.isnan(setting.drawn.mean(name, entropy, seeds)[0]):
                value = NAN  # entropy's own may be 0: a ratio to it says nothing
    return {key: value, f"{key}_low": low, f"{key}_high": high, f"{key}_seeds": len(seeds)}


def _groups(setting: Setting, arm: str) -> Iterator[dict[str, Any]]:
    rows = setting.groups[setting.groups.arm == arm]
    present = set(setting.final.arm)
    for group, own in rows.groupby("subgroup", sort=True):
        measure = f"{OF_GROUP}{group}"
        drawn = setting.drawn if setting.drawn and group in setting.drawn.groups else None
        seeds = sorted(int(seed) for seed in own.seed)
        low, high = drawn.mean(measure, arm, seeds) if drawn else (NAN, NAN)
        row: dict[str, Any] = {
            "bias": setting.bias,
            "start": setting.start,
            "arm": arm,
            "subgroup": group,
            "seeds": len(own),
            "n_test": int(own.n_test.max()),
            "labelled": _mean(own.labelled),
            "weight": _mean(own.weight),
            "dice": _mean(own.dice),
            "dice_low": low,
            "dice_high": high,
            "surface_distance_mm": _mean(own.surface_distance_mm),
            "without_mm": _without_mm(setting, arm, str(group)),
        }
        for name in ("entropy", "balanced_random"):
            other = setting.roles.get(name)
            compared = other in present and arm not in (other, WHOLE_POOL)
            row |= _levelling(setting, arm, other if compared else None, str(group), name)
        row["down"] = bool(
            min(row["to_entropy"], row["to_balanced_random"], key=_nan_last) < -LEVELLED_DOWN
        )
        yield row


def _levelling(
    setting: Setting, arm: str, reference: str | None, group: str, name: str
) -> dict[str, float]:
    """Difference of a group's mean Dice to its own under the reference, in the shared seeds."""
    key = f"to_{name}"
    nothing = {key: NAN, f"{key}_low": NAN, f"{key}_high": NAN}
    if reference is None:
        return nothing
    rows = setting.groups[setting.groups.subgroup == group]
    dice = rows.pivot(index="seed", columns="arm", values="dice")
    both = dice[[arm, reference]].dropna()
    if both.empty:
        return nothing
    seeds = [int(seed) for seed in both.index]
    low, high = NAN, NAN
    if setting.drawn and group in setting.drawn.groups:
        low, high = setting.drawn.difference(f"{OF_GROUP}{group}", arm, reference, seeds)
    value = float((both[arm] - both[reference]).mean())
    return {key: value, f"{key}_low": low, f"{key}_high": high}


_TEST_COLUMNS = [
    *("bias", "start", "arm", "reference", "measure", "seeds"),
    *("difference", "low", "high", "p"),
]


def _tests(setting: Setting, arm: str) -> Iterator[dict[str, Any]]:
    present = set(setting.final.arm)
    for reference in (setting.roles[name] for name in REFERENCES if name in setting.roles):
        if arm in (reference, WHOLE_POOL) or reference not in present:
            continue
        for measure in TESTED:
            own, other, seeds = setting.paired(arm, reference, measure)
            difference = own - other
            n = len(seeds)
            centre = float(difference.mean()) if n else NAN
            error = float(difference.std(ddof=1) / np.sqrt(n)) if n > 1 else NAN
            low, high = t_interval(centre, error, n, 0.95)
            values = (n, centre, low, high, sign_flip_p(difference))
            names = (setting.bias, setting.start, arm, reference, measure, *values)
            yield dict(zip(_TEST_COLUMNS, names, strict=True))


def _without_mm(setting: Setting, arm: str, group: str) -> int:
    table = setting.missing_mm
    return int(table[(table.arm == arm) & (table.subgroup == group)].missing.sum())


def _mean(values: Any) -> float:
    known = pd.Series(values, dtype="float64").dropna()
    return float(known.mean()) if len(known) else NAN


def _nan_last(value: float) -> float:
    return np.inf if np.isnan(value) else value
