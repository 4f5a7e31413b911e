"""One setting of a simulation at its final budget: its runs, their cases, its arms by role."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fair_strategy.workflows.simulation.analysis_measures import areas
from fair_strategy.workflows.simulation.analysis_resampling import Resampled, resample
from fair_strategy.workflows.simulation.analysis_tables import WHOLE_POOL, Tables

REFERENCES = ("entropy", "balanced_random", "random")
HEADLINE = "weighted_entropy"
RESAMPLED = ("gap", "excess", "worst", "overall", "equity_fairseg", "equity_std")
AREAS = ("aubc_overall", "aubc_worst", "aubc_gap")
TESTED = (*RESAMPLED, *AREAS)
_ORDER = ("strong", "weak", "imbalanced", "balanced", HEADLINE, *REFERENCES)
NAN = float("nan")


@dataclass(frozen=True)
class Setting:
    """One bias and start at its final budget."""

    bias: str
    start: str
    roles: dict[str, str]
    final: pd.DataFrame  # measures of the runs that reached the last round, areas joined
    groups: pd.DataFrame  # rounds of the same runs and of the whole pool
    missing_mm: pd.DataFrame  # test cases without a surface distance
    drawn: Resampled | None

    def arms(self) -> list[str]:
        """All that have a finished run, and the whole pool, `in_order`."""
        return in_order(self.final.arm.unique())

    def of(self, arm: str) -> pd.DataFrame:
        """Measures of an arm's runs, by seed."""
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


def in_order(names: Any) -> list[str]:
    """The names that the reading speaks of first, then the others by alphabet."""
    known = {name: place for place, name in enumerate(_ORDER)}
    last = {WHOLE_POOL: 1}
    return sorted(names, key=lambda n: (last.get(n, 0), known.get(n, len(known)), n))


def _roles(runs: pd.DataFrame, headline: str | None) -> dict[str, str]:
    """Role -> the arm of that name, or else the plainest of that strategy: the shortest name."""
    one_each = runs.drop_duplicates("arm")
    strategies = dict(zip(one_each.arm, one_each.strategy, strict=True))
    roles = {}
    for role, name in (("headline", HEADLINE), *((name, name) for name in REFERENCES)):
        if role == "headline" and headline in strategies:
            roles[role] = str(headline)
            continue
        arms = [arm for arm in in_order(strategies) if strategies[arm] == name]
        if name in strategies or arms:
            roles[role] = name if name in strategies else min(arms, key=len)
    return roles


def settings_of(tables: Tables, measures: pd.DataFrame, headline: str | None) -> Iterator[Setting]:
    """Every setting that has runs, in order of showing.

    Args:
        measures: of the tables, by round.
        headline: the arm that the reading is about; None for the usual one.
    """
    runs = measures[measures.arm != WHOLE_POOL]
    pairs = {(bias, start) for bias, start in zip(runs.bias, runs.start, strict=True)}
    for start in in_order({start for _, start in pairs}):
        for bias in in_order({bias for bias, other in pairs if other == start}):
            own = runs[(runs.bias == bias) & (runs.start == start)]
            yield _setting(tables, measures, own, _roles(own, headline))


def _setting(
    tables: Tables, measures: pd.DataFrame, own: pd.DataFrame, roles: dict[str, str]
) -> Setting:
    bias, start, view = (str(own[name].iloc[0]) for name in ("bias", "start", "view"))
    last = int(own["round"].max())
    final = own[own["round"] == last].merge(areas(own), how="left")
    floor = measures[(measures.bias == bias) & (measures.arm == WHOLE_POOL)]
    floor = floor[floor.view == view].drop_duplicates("seed").assign(start=start)
    final = pd.concat([final, floor], ignore_index=True) if len(floor) else final
    wanted = set(zip(final.arm, final.seed, strict=True))
    cases = _at_end(tables.cases, (bias, start, view), last, wanted)
    missing = cases.assign(missing=cases.surface_distance_mm.isna())
    return Setting(
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
