"""Hierarchical bootstrap of one setting of a simulation: seeds, and test cases within subgroup."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fair_strategy.metrics.fairness import equity_of_means, gap_of_means
from fair_strategy.workflows.simulation.analysis_statistics import (
    DRAWS,
    Floats,
    expanded_percentiles,
    resampled_group_means,
    resampled_seeds,
)
from fair_strategy.workflows.simulation.analysis_tables import WHOLE_POOL

SEED = 20260521
OF_GROUP = "dice of "  # then a subgroup: its mean Dice as a measure
UNKNOWN_INTERVAL = (float("nan"), float("nan"))
Run = tuple[str, int]


@dataclass(frozen=True)
class Resampled:
    """Group means of the runs of one bias and start in resamples of their test cases.

    The draws depend on the setting's name, its test cases and the number of seeds that are
    compared: another arm changes no interval. Intervals are expanded percentiles.

    Attributes:
        means: (draws, runs, groups), Dice.
        runs: (arm, seed) of the second axis.
        groups: names on the last axis.
        sizes: (groups,), number of test cases.
        key: what the drawing of seeds starts from.
    """

    means: Floats
    runs: tuple[Run, ...]
    groups: tuple[str, ...]
    sizes: NDArray[np.int64]
    key: int

    def mean(self, measure: str, arm: str, seeds: Sequence[int]) -> tuple[float, float]:
        """Interval of the mean over seeds of a measure."""
        values = self._values(measure, [arm], seeds)
        if values is None:
            return UNKNOWN_INTERVAL
        return expanded_percentiles(self._over_seeds(values)[0], seeds=len(seeds))

    def difference(
        self, measure: str, arm: str, reference: str, seeds: Sequence[int]
    ) -> tuple[float, float]:
        """Interval of the mean over seeds of arm minus reference."""
        values = self._values(measure, [arm, reference], seeds)
        if values is None:
            return UNKNOWN_INTERVAL
        own, other = self._over_seeds(values)
        return expanded_percentiles(own - other, seeds=len(seeds))

    def reduction(
        self, measure: str, arm: str, reference: str, seeds: Sequence[int]
    ) -> tuple[float, float]:
        """Interval of 1 - mean of arm / mean of reference; unknown if the latter may be 0."""
        values = self._values(measure, [arm, reference], seeds)
        if values is None:
            return UNKNOWN_INTERVAL
        own, other = self._over_seeds(values)
        positive = np.where(other > 0, other, np.nan)
        return expanded_percentiles(1 - own / positive, seeds=len(seeds))

    @cached_property
    def _place(self) -> dict[Run, int]:
        return {run: place for place, run in enumerate(self.runs)}

    def _values(self, measure: str, arms: Sequence[str], seeds: Sequence[int]) -> Floats | None:
        """(arms, draws, seeds); None if a run has no test cases here."""
        needed = [(arm, seed) for arm in arms for seed in seeds]
        if measure == "excess":
            needed += [(WHOLE_POOL, seed) for seed in seeds]
        if not seeds or any(run not in self._place for run in needed):
            return None
        return np.stack([self._measure(measure, arm, seeds) for arm in arms])

    def _measure(self, measure: str, arm: str, seeds: Sequence[int]) -> Floats:
        if measure == "excess":
            return self._measure("gap", arm, seeds) - self._measure("gap", WHOLE_POOL, seeds)
        means = self.means[:, [self._place[arm, seed] for seed in seeds]]
        if measure.startswith(OF_GROUP):
            return means[..., self.groups.index(measure.removeprefix(OF_GROUP))]
        if measure == "gap":
            return gap_of_means(means)
        if measure == "worst":
            return means.min(axis=-1)
        overall = means @ (self.sizes / self.sizes.sum())
        if measure == "overall":
            return overall
        return equity_of_means(means, overall, variant=measure.removeprefix("equity_"))

    def _over_seeds(self, values: Floats) -> Floats:
        rng = np.random.default_rng([SEED, self.key, values.shape[2]])
        return resampled_seeds(values, rng=rng)


def resample(cases: pd.DataFrame, *, name: str, draws: int = DRAWS) -> Resampled:
    """Resampled group means of one setting.

    Args:
        cases: test cases of one bias and start, one round a run: arm, seed, case_id, subgroup,
            dice.
        name: of the setting; the random draws follow from it.
        draws: number of resamples.
    """
    wide = cases.pivot(index=["arm", "seed"], columns="case_id", values="dice").sort_index()
    wide = wide.reindex(columns=sorted(wide.columns))
    group_of = cases.drop_duplicates("case_id").set_index("case_id").subgroup[wide.columns]
    groups = sorted(set(group_of))
    members = {group: np.flatnonzero(group_of == group) for group in groups}
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    rng = np.random.default_rng([SEED, key])
    means = resampled_group_means(wide.to_numpy(np.float64), members, rng=rng, draws=draws)
    sizes = np.array([columns.size for columns in members.values()], np.int64)
    runs = tuple((str(arm), int(seed)) for arm, seed in wide.index)
    return Resampled(means, runs, tuple(groups), sizes, key)
