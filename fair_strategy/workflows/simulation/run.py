"""One run: a study that is annotated, trained and tested round by round."""

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fair_strategy.acquisition.strategies import NEEDS_SCORES
from fair_strategy.metrics.overlap import dice
from fair_strategy.store import cases, plans, predictions, scores
from fair_strategy.store.predictions import full_mask
from fair_strategy.workflows import desk, showing
from fair_strategy.workflows.intake import prepare, refresh
from fair_strategy.workflows.late_plans import plan_if_missing
from fair_strategy.workflows.models import current_model
from fair_strategy.workflows.rounds import adopt_model, train_round
from fair_strategy.workflows.simulation.annotator import annotate
from fair_strategy.workflows.simulation.cohorts import TEST, KnownCohort, known_cohort
from fair_strategy.workflows.simulation.environment import environment, going_on_in
from fair_strategy.workflows.simulation.evaluation import TestedCase, by_subgroup, tested
from fair_strategy.workflows.simulation.first_models import (
    CLIENT,
    Workspace,
    first_model,
    in_round,
    label_truly,
    opened,
    pool_of,
)
from fair_strategy.workflows.simulation.plan import Run
from fair_strategy.workflows.simulation.shards import is_finished, read_shard, write_shard
from fair_strategy.workflows.simulation.snapshots import restore_snapshot, take_snapshot
from fair_strategy.workflows.study import Study
from fair_strategy.workflows.upkeep import settle


def play(workspace: Workspace, run: Run, *, on_round: Callable[[], None] = lambda: None) -> None:
    """Play a run to its end, from where an earlier call stopped.

    The state after each round is kept, and the round is written to the run's shard after that:
    whenever the process is killed, what was begun is done again from the same state.

    Args:
        on_round: called after each round.
    """
    if is_finished(workspace.out, run):
        return
    game = _Game(workspace, run)
    while game.next_round < run.rounds:
        game.play_round()
        on_round()
    game.end()


class _Game:
    """A run in progress: its study, its cohorts, its shard."""

    def __init__(self, workspace: Workspace, run: Run) -> None:
        self.run, self.workspace, self.out = run, workspace, workspace.out
        self.shard = read_shard(workspace.out, run)
        self.state_dir = workspace.work / "runs" / run.name
        self.pool = pool_of(workspace, run)
        view = run.block.field_of_view
        self.test = known_cohort(workspace.out, TEST, bias=run.bias, field_of_view=view)
        if self.next_round and not restore_snapshot(self.state_dir, self.next_round - 1):
            self.shard["rounds"] = []
        if not self.next_round:
            shutil.rmtree(self.state_dir, ignore_errors=True)
        self.shard = going_on_in(self.shard, environment(workspace, run))
        self.study = opened(workspace, run, self.state_dir)
        self._use_streams_of(max(self.next_round - 1, 0))
        self._first = None if run.is_floor else first_model(workspace, run)

    @property
    def next_round(self) -> int:
        """Number of rounds that are done."""
        return len(self.shard["rounds"])

    @property
    def scoring(self) -> bool:
        """Whether the arm's strategy looks at scores."""
        return self.run.block.strategy in NEEDS_SCORES

    def play_round(self) -> None:
        """Annotate and train (or start), score, plan, test; keep the state; write the shard."""
        number, selected, started = self.next_round, [], time.monotonic()
        if self.run.is_floor:
            self._label_all()
        elif number == 0:
            self._start()
        else:
            selected = self._annotate()
            started = time.monotonic()
            self._use_streams_of(number)
            self._train()
        trained = time.monotonic()
        last = number == self.run.rounds - 1
        if not last:
            settle(self.study, score=self.scoring)
            plan_if_missing(self.study, self.run.block.strategy)
        scored = time.monotonic()
        found = {
            "round": self.run.first_round + number,
            **self._described(selected, last=last),
            "train_seconds": trained - started,
            "score_seconds": scored - trained,
        }
        take_snapshot(self.study.store, number)
        self.shard["rounds"].append(found)
        write_shard(self.out, self.run, self.shard)

    def end(self) -> None:
        """Remove the study; what is worth keeping is in the shard."""
        self.study.store.close()
        shutil.rmtree(self.state_dir, ignore_errors=True)

    # ------------------------------------------------------------------ the parts of a round

    def _use_streams_of(self, number: int) -> None:
        number += self.run.first_round
        self.study = in_round(self.workspace, self.run, self.study, number)

    def _start(self) -> None:
        assert self._first is not None
        labelled, model = self._first
        settings = self.study.settings.model_copy(update={"validation_per_group": 0})
        refresh(replace(self.study, settings=settings))
        label_truly(self.study, self.pool, labelled)
        adopt_model(self.study, model)
        # The validation set is frozen only now: none of the first labels may be in it.
        prepare(self.study)

    def _label_all(self) -> None:
        prepare(self.study)
        label_truly(self.study, self.pool, sorted(self.pool.cases))
        train_round(self.study, track=False)

    def _annotate(self) -> list[dict[str, Any]]:
        return annotate_batch(self.study, self.run, self.pool, scoring=self.scoring)

    def _train(self) -> None:
        current = scores.current_model(self.study.store)
        carried = current.path if current and self.run.block.carry_over else None
        train_round(self.study, track=False, start_from=carried)

    # ------------------------------------------------------------------ what is told of it

    def _described(self, selected: list[dict[str, Any]], *, last: bool) -> dict[str, Any]:
        number = self.next_round
        results = tested(current_model(self.study), self.test)
        told: dict[str, Any] = {
            "selected": selected,
            "groups": self._groups(results, planned=not last),
        }
        if number == 0 or last:
            told["cases"] = [
                [c.case_id, c.subgroup, c.dice, c.surface_distance_mm, c.true_volume_mm3]
                for c in results
            ]
        if self.scoring and number in (0, self.run.rounds - 2):
            told["scores"] = pool_scores(self.study, self.pool)
        return told

    def _groups(self, results: list[TestedCase], *, planned: bool) -> dict[str, dict[str, Any]]:
        labelled = cases.labelled_ids(self.study.store)
        groups = [self.pool.cases[i].subgroup for i in labelled]
        plan = None
        if planned and not self.run.is_floor:
            plan = plans.latest_plan(self.study.store, self.run.block.strategy)
        told: dict[str, dict[str, Any]] = {}
        for name, summary in by_subgroup(results).items():
            figures = plan.performance.get(name, {}) if plan else {}
            told[name] = {
                **summary,
                "labelled": groups.count(name),
                "weight": plan.weights.get(name) if plan else None,
                "performance": figures.get("shrunk"),
            }
        return told


def annotate_batch(
    study: Study, run: Run, pool: KnownCohort, *, scoring: bool
) -> list[dict[str, Any]]:
    """Ask for a round's scans one by one and submit a mask for each; what was picked and why."""
    picked: list[dict[str, Any]] = []
    for position in range(run.simulation.budget):
        handed = desk.next_case(study, run.block.strategy, CLIENT)
        if handed is None:
            break
        case_id = handed.case_id
        mask = annotate(
            run.block.annotator,
            pool.cases[case_id],
            shown=partial(_shown, study, case_id),
            seed=study.settings.seed,
            folder=study.state_dir / "annotated",
        )
        desk.submit(study, case_id, mask, client_id=CLIENT)
        picked.append(
            {
                "position": position,
                "case_id": case_id,
                "subgroup": pool.cases[case_id].subgroup,
                "reason": _reason(study),
            }
        )
        settle(study, score=scoring)
    return picked


def pool_scores(study: Study, pool: KnownCohort) -> dict[str, Any]:
    """Every case entropy of the unlabelled scans, with true volume and Dice of the prediction."""
    model = scores.current_model(study.store)
    assert model is not None
    found = scores.scores(study.store, model.checksum, study.settings_hash)
    rows: list[list[Any]] = []
    names = sorted({name for record in found.values() for name in record.entropies})
    for case_id in sorted(set(cases.unlabelled_ids(study.store)) & found.keys()):
        record, case = found[case_id], pool.cases[case_id]
        stored = predictions.read_prediction(
            study.state_dir, model.checksum, case_id, record.fingerprint
        )
        agreement = float("nan")
        if stored is not None:
            agreement = dice(full_mask(stored), case.read()[1].array != 0)
        values = [record.entropies.get(name, float("nan")) for name in names]
        rows.append([case_id, case.subgroup, case.true_volume_mm3(), agreement, *values])
    return {"names": names, "rows": rows}


def _shown(study: Study, case_id: str) -> Path:
    return showing.segmentation(study, case_id, ".nii.gz", client_id=CLIENT)[0]


def _reason(study: Study) -> str:
    last = plans.decisions(study.store, limit=1)[0]
    return plans.rows(study.store, last.plan_id)[last.position].reason
