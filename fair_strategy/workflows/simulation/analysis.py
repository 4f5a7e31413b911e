"""What a simulation of active learning found: gaps, reductions, tests, from its tables alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fair_strategy.metrics.fairness import t_interval
from fair_strategy.workflows.simulation.analysis_measures import (
    areas,
    composition,
    measures_by_round,
    volume_correlation,
)
from fair_strategy.workflows.simulation.analysis_resampling import OF_GROUP, Resampled, resample
from fair_strategy.workflows.simulation.analysis_statistics import sign_flip_p
from fair_strategy.workflows.simulation.analysis_tables import (
    SETTING,
    WHOLE_POOL,
    TableError,
    Tables,
)

REFERENCES = ("entropy", "balanced_random", "random")
HEADLINE = "weighted_entropy"
LEVELLED_DOWN = 0.01
RESAMPLED = ("gap", "excess", "worst", "overall", "equity_fairseg", "equity_std")
AREAS = ("aubc_overall", "aubc_worst", "aubc_gap")
TESTED = (*RESAMPLED, *AREAS)
_ORDER = ("strong", "weak", "imbalanced", "balanced", HEADLINE, *REFERENCES)
NAN = float("nan")


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


@dataclass(frozen=True)
class _Setting:
    """One bias and start at its final budget."""

    bias: str
    start: str
    roles: dict[str, str]
    final: pd.DataFrame  # measures of the runs that reached the last round, areas joined
    groups: pd.DataFrame  # rounds of the same runs and of the whole pool
    missing_mm: pd.DataFrame  # test cases without a surface distance
    drawn: Resampled | None

    def arms(self) -> list[str]:
        return in_order(self.final.arm.unique())

    def of(self, arm: str) -> pd.DataFrame:
        return self.final[self.final.arm == arm].set_index("seed").sort_index()

    def paired(
        self, arm: str, reference: str, measure: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], list[int]]:
        """Values of both in the seeds that have them, and these seeds."""
        own = self._by_seed.get((arm, measure), {})
        other = self._by_seed.get((reference, measure), {})
        seeds = sorted(own.keys() & other.keys())
        return np.array([own[s] for s in seeds]), np.array([other[s] for s in seeds]), seeds

    @cached_property
    def _by_seed(self) -> dict[tuple[str, str], dict[int, float]]:
        values: dict[tuple[str, str], dict[int, float]] = {}
        for row in self.final.to_dict("records"):
            for measure in TESTED:
                if not np.isnan(row[measure]):
                    values.setdefault((row["arm"], measure), {})[int(row["seed"])] = row[measure]
        return values


def analyse(tables: Tables, *, headline: str | None = None) -> Analysis:
    """Everything that the report tells, from the tables of a simulation.

    Args:
        tables: as `read_tables` gives them; runs may be unfinished or missing.
        headline: the arm that the reading is about; by default `weighted_entropy`, or else the
            first arm of that strategy.
    Raises:
        ValueError: if the headline arm is not in the tables, or (TableError) no arm is.
    """
    arms = set(tables.rounds.arm) - {WHOLE_POOL}
    if headline is not None and headline not in arms:
        raise ValueError(f"arm {headline!r}: expected one of {', '.join(in_order(arms))}")
    if not arms:
        raise TableError("rounds.csv: no arm but the whole pool's has a finished round yet")
    measures = measures_by_round(tables.rounds)
    settings = list(_settings(tables, measures, headline))
    rows = [(s, a) for s in settings for a in s.arms()]
    return Analysis(
        measures=measures,
        summary=pd.DataFrame([_summary(s, a) for s, a in rows]),
        groups=pd.DataFrame([row for s, a in rows for row in _groups(s, a)]),
        tests=pd.DataFrame([row for s, a in rows for row in _tests(s, a)], columns=_TEST_COLUMNS),
        volume=volume_correlation(tables.scores),
        composition=composition(tables.rounds),
        roles={(s.bias, s.start): s.roles for s in settings},
        notes=tuple(_notes(tables, measures, settings)),
    )


def in_order(names: Any) -> list[str]:
    """The names that the reading speaks of first, then the others by alphabet."""
    known = {name: place for place, name in enumerate(_ORDER)}
    last = {WHOLE_POOL: 1}
    return sorted(names, key=lambda n: (last.get(n, 0), known.get(n, len(known)), n))


def _roles(runs: pd.DataFrame, headline: str | None) -> dict[str, str]:
    """Role -> the arm of that name, or else the first one of that strategy."""
    one_each = runs.drop_duplicates("arm")
    strategies = dict(zip(one_each.arm, one_each.strategy, strict=True))
    roles = {}
    for role, name in (("headline", HEADLINE), *((name, name) for name in REFERENCES)):
        if role == "headline" and headline in strategies:
            roles[role] = str(headline)
            continue
        arms = [arm for arm in in_order(strategies) if strategies[arm] == name]
        if name in strategies or arms:
            roles[role] = name if name in strategies else arms[0]
    return roles


def _settings(tables: Tables, measures: pd.DataFrame, headline: str | None) -> Iterator[_Setting]:
    runs = measures[measures.arm != WHOLE_POOL]
    pairs = {(bias, start) for bias, start in zip(runs.bias, runs.start, strict=True)}
    for start in in_order({start for _, start in pairs}):
        for bias in in_order({bias for bias, other in pairs if other == start}):
            own = runs[(runs.bias == bias) & (runs.start == start)]
            yield _setting(tables, measures, own, _roles(own, headline))


def _setting(
    tables: Tables, measures: pd.DataFrame, own: pd.DataFrame, roles: dict[str, str]
) -> _Setting:
    bias, start, view = (str(own[name].iloc[0]) for name in ("bias", "start", "view"))
    last = int(own["round"].max())
    final = own[own["round"] == last].merge(areas(own), how="left")
    floor = measures[(measures.bias == bias) & (measures.arm == WHOLE_POOL)]
    floor = floor[floor.view == view].drop_duplicates("seed").assign(start=start)
    final = pd.concat([final, floor], ignore_index=True) if len(floor) else final
    wanted = set(zip(final.arm, final.seed, strict=True))
    cases = _at_end(tables.cases, (bias, start, view), last, wanted)
    missing = cases.assign(missing=cases.surface_distance_mm.isna())
    return _Setting(
        bias,
        start,
        roles,
        final,
        groups=_at_end(_with_mean_weight(tables.rounds), (bias, start, view), last, wanted),
        missing_mm=missing.groupby(["arm", "subgroup"]).missing.sum().reset_index(),
        drawn=resample(cases, name=f"{bias}/{start}") if len(cases) else None,
    )


def _with_mean_weight(rounds: pd.DataFrame) -> pd.DataFrame:
    """In place of a round's weight its mean over all plans of the run; NaN if none follows it."""
    run = ["bias", "start", "arm", "seed", "subgroup"]
    followed = rounds.assign(weight=rounds.weight.where(rounds.rule != ""))
    return followed.assign(weight=followed.groupby(run).weight.transform("mean"))


def _at_end(
    table: pd.DataFrame, setting: tuple[str, str, str], last: int, wanted: set[tuple[str, int]]
) -> pd.DataFrame:
    """Rows of the finished runs' last round, and of the whole-pool model of the same view."""
    bias, start, view = setting
    whole = (table.arm == WHOLE_POOL) & (table.view == view)
    ended = (table.start == start) & (table["round"] == last)
    rows = table[(table.bias == bias) & (ended | whole)]
    keep = [run in wanted for run in zip(rows.arm, rows.seed, strict=True)]
    name = "subgroup" if "case_id" not in table else "case_id"
    return rows[np.array(keep, dtype=bool)].drop_duplicates(["arm", "seed", name])


def _summary(setting: _Setting, arm: str) -> dict[str, Any]:
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


def _reduction(setting: _Setting, arm: str, name: str) -> dict[str, float]:
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


def _groups(setting: _Setting, arm: str) -> Iterator[dict[str, Any]]:
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
    setting: _Setting, arm: str, reference: str | None, group: str, name: str
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


def _tests(setting: _Setting, arm: str) -> Iterator[dict[str, Any]]:
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


def _notes(tables: Tables, measures: pd.DataFrame, settings: list[_Setting]) -> Iterator[str]:
    for setting in settings:
        yield from _setting_notes(setting, measures)
    if not tables.run:
        yield "run.json is missing: configuration, hardware and versions are not stated."


def _setting_notes(setting: _Setting, measures: pd.DataFrame) -> Iterator[str]:
    name = f"{setting.bias} bias, {setting.start} start"
    own = measures[(measures.bias == setting.bias) & (measures.start == setting.start)]
    own = own[own["round"] >= 0]
    started = own.groupby("arm").seed.nunique()
    ended = setting.final.groupby("arm").seed.nunique().reindex(started.index).fillna(0).astype(int)
    going = [arm for arm in in_order(started.index) if ended[arm] < started[arm]]
    if going:
        counts = ", ".join(f"{arm} {ended[arm]} of {started[arm]}" for arm in going)
        yield f"{name}: runs that have not reached the final budget are left out ({counts})."
    main = [arm for arm in dict.fromkeys(setting.roles.values()) if arm in started.index]
    most = int(started.max())
    fewer = [arm for arm in main if started[arm] < most]
    if fewer:
        counts = ", ".join(f"{arm} {started[arm]} of {most}" for arm in fewer)
        yield f"{name}: fewer seeds than elsewhere ({counts}); compared in the shared ones."
    present = set(setting.final.arm)
    for role in ("headline", *REFERENCES):
        if setting.roles.get(role) not in present:
            which = HEADLINE if role == "headline" else role
            yield f"{name}: no finished run of {which}, so nothing is said about it."
    if WHOLE_POOL not in present:
        yield f"{name}: no model trained on the whole pool, so no floor and no excess gap."
    elif setting.final[setting.final.arm != WHOLE_POOL].excess.isna().any():
        yield f"{name}: some seeds have no whole-pool model; excess gaps are of the others."
    if setting.drawn is None:
        yield f"{name}: no test cases of the final budget in cases.csv, so no bootstrap intervals."
    if most < 2:
        yield f"{name}: one seed only, so no interval and no test means anything."


def _without_mm(setting: _Setting, arm: str, group: str) -> int:
    table = setting.missing_mm
    return int(table[(table.arm == arm) & (table.subgroup == group)].missing.sum())


def _mean(values: Any) -> float:
    known = pd.Series(values, dtype="float64").dropna()
    return float(known.mean()) if len(known) else NAN


def _nan_last(value: float) -> float:
    return np.inf if np.isnan(value) else value
