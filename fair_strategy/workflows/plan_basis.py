"""What all plans of a round are made from, and how a plan is made of it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from fair_strategy.acquisition.pool import Features, Pool
from fair_strategy.acquisition.selection import RankedCase, percentiles
from fair_strategy.acquisition.strategies import (
    NEEDS_FEATURES,
    NEEDS_SCORES,
    STRATEGIES,
    can_order,
)
from fair_strategy.store import cases, plans, scores
from fair_strategy.store.encoding import WrittenOften
from fair_strategy.store.plans import PlanRecord, PlanRow
from fair_strategy.workflows.study import Study


@dataclass(frozen=True)
class Basis:
    """The study at one moment, as far as plans depend on it.

    Attributes:
        pool: the candidates, without features.
        performance: what was measured of each subgroup, as a plan keeps it.
        seed: of the order.
        model: checksum of the model behind the scores; None without scores.
        settings_version: of the study.
        stamp: digest by which a plan is known to be of this moment.
    """

    pool: Pool
    performance: Mapping[str, Any]
    seed: int
    model: str | None
    settings_version: int
    stamp: str

    def write_plan(self, study: Study, strategy: str) -> int | None:
        """Order the pool by a strategy and store the plan; None if the pool lacks what it needs."""
        features = strategy in NEEDS_FEATURES
        pool = self._with_features(study) if features else self.pool
        if not can_order(strategy, pool):
            return None
        record = PlanRecord(
            plan_id=None,
            strategy=strategy,
            model=self.model if strategy in NEEDS_SCORES else None,
            settings_version=self.settings_version,
            seed=self.seed,
            weights=dict(pool.weights),
            performance=self.performance,
            inputs=pool.to_json() if features else self._inputs,
            created_at=time.time(),
            note=self.stamp,
        )
        return plans.add_plan(study.store, record, self._rows(order(strategy, pool, self.seed)))

    @cached_property
    def _inputs(self) -> WrittenOften:
        return WrittenOften(self.pool.to_json(with_features=False))

    @cached_property
    def _percentile(self) -> dict[str, float]:
        # Readers see where a scan's uncertainty lies among the pool's, never weight or utility.
        nan = float("nan")
        own = [case.entropies.get(self.pool.masked_score, nan) for case in self.pool.cases]
        ids = [case.case_id for case in self.pool.cases]
        return dict(zip(ids, percentiles(np.array(own)).tolist(), strict=True))

    def _rows(self, ranked: list[RankedCase]) -> list[PlanRow]:
        return [
            PlanRow(
                position,
                row.case_id,
                row.subgroup,
                row.case_entropy,
                row.utility,
                self._percentile[row.case_id],
                row.reason,
            )
            for position, row in enumerate(ranked)
        ]

    def _with_features(self, study: Study) -> Pool:
        """The pool with what the model makes of each case, where it was kept."""
        if self.model is None:
            return self.pool
        vectors = scores.features(study.store, self.model, study.settings_hash)
        splits, subject = cases.splits(study.store), cases.subjects(study.store)
        # The frozen validation set is not trained on: it covers nothing.
        trained = {i for i in cases.labelled_ids(study.store) if subject[i] not in splits}
        waiting = {case.case_id for case in self.pool.cases} - trained
        return replace(
            self.pool,
            features=Features.of({i: vectors[i] for i in waiting & vectors.keys()}),
            labelled_features=Features.of({i: vectors[i] for i in trained & vectors.keys()}),
        )


def order(strategy: str, pool: Pool, seed: int) -> list[RankedCase]:
    """The pool in a strategy's order; the same seed gives the same."""
    return STRATEGIES[strategy](pool, np.random.default_rng(seed))
