"""Runs of the tasks by several objectives, read and laid out as Mehta, Shui and Arbel 2023 do."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fair_strategy.data.cohort import DEFAULT_AGE_BINS, CohortError
from fair_strategy.learning.objectives import OBJECTIVES
from fair_strategy.workflows.audit.audit import read_evidence, same_persons
from fair_strategy.workflows.audit.comparison import Change, compare
from fair_strategy.workflows.audit.grouping import read_groupings
from fair_strategy.workflows.tasks.run import audit_settings, make_recipe, source_of
from fair_strategy.workflows.tasks.settings import SETTINGS

TITLES = {"isic": "ISIC-2019", "brats": "BraTS-2019", "adni": "ADNI"}
NAMES = {"erm": "Baseline (erm)", "balanced": "Balanced", "group_dro": "GroupDRO"}
_LAST_FIRST = frozenset({"adni"})
"""Tasks whose group 0 in the paper comes last in the alphabet here."""


@dataclass(frozen=True)
class Column:
    """One of the paper's columns: a measure of a target, as a percentage or as it is."""

    title: str
    target: str
    measure: str
    percent: bool


COLUMNS: dict[str, tuple[Column, ...]] = {
    "isic": (
        Column("AUC", "", "macro_auroc", True),
        Column("accuracy", "", "accuracy", True),
        Column("balanced accuracy", "", "balanced_accuracy", True),
    ),
    "brats": tuple(
        Column(f"{title} {region}", region, measure, True)
        for title, measure in (("Dice", "dice"), ("QU-BraTS score", "qu_brats"))
        for region in ("WT", "TC", "ET")
    ),
    "adni": (
        Column("RMSE of ADAS-13", "ADAS13", "rmse", False),
        Column("RMSE of MMSE", "MMSE", "rmse", False),
    ),
}


@dataclass(frozen=True, eq=False)
class TaskRun:
    """The folder of one run of `fair-strategy task`.

    Attributes:
        folder: of the run.
        task: isic, brats or adni.
        objective: of its networks.
        run: run.json.
        audit: audit.json.
    """

    folder: Path
    task: str
    objective: str
    run: dict[str, Any]
    audit: dict[str, Any]

    @property
    def feature(self) -> str:
        """That of splits and objectives."""
        return str(self.run["settings"].get("feature", "age_group"))

    @property
    def groups(self) -> tuple[str, ...]:
        """The ranked subgroups, in the paper's order."""
        (own,) = (f for f in self.audit["features"] if f["feature"] == self.feature)
        names = sorted(name for name, group in own["subgroups"].items() if group["ranked"])
        return tuple(names[::-1] if self.task in _LAST_FIRST else names)

    @property
    def targets(self) -> tuple[str, ...]:
        """Regions or quantities; "" where there is one only."""
        return tuple(dict.fromkeys(m["target"] for m in self._measures))

    def measure(self, name: str, target: str) -> dict[str, Any]:
        """Its entry in audit.json, by the feature of the run."""
        (found,) = (m for m in self._measures if (m["name"], m["target"]) == (name, target))
        return found

    def curve(self, measure: str, target: str, kind: str) -> dict[str, Any] | None:
        """Its entry in audit.json, by the feature of the run; None where there is none."""
        wanted = (self.feature, target, measure, kind)
        keys = ("feature", "target", "measure", "kind")
        found = (c for c in self._model["curves"] if tuple(c[k] for k in keys) == wanted)
        return next(found, None)

    @property
    def _model(self) -> dict[str, Any]:
        model: dict[str, Any] = self.audit["models"][0]
        return model

    @property
    def _measures(self) -> list[dict[str, Any]]:
        return [m for m in self._model["measures"] if m["feature"] == self.feature]


def read_runs(folders: Sequence[Path]) -> dict[str, list[TaskRun]]:
    """Task -> its runs, both in the paper's order.

    Raises:
        CohortError: for a folder that no finished run wrote, two runs of one objective, or runs
            of one task with other settings or another split.
    """
    runs = [_read(folder) for folder in folders]
    found: dict[str, list[TaskRun]] = {}
    for task in TITLES:
        own = sorted((r for r in runs if r.task == task), key=lambda r: _place(r.objective))
        for run in own[1:]:
            _check_alike(own[0], run)
        if own:
            found[task] = own
    return found


def paired_changes(runs: Sequence[TaskRun]) -> dict[str, list[Change]]:
    """Objective -> paired differences, that run minus the first one, by the feature of the runs."""
    first = runs[0]
    settings = SETTINGS[first.task](**first.run["settings"])
    recipe, chosen = make_recipe(settings), audit_settings(settings)
    own = read_evidence(source_of(recipe, first.folder), recipe.kind, chosen)
    groupings, _ = read_groupings(
        own,
        first.folder / "participants.tsv",
        [first.feature],
        age_bins=DEFAULT_AGE_BINS,
        settings=chosen,
    )
    changes = {}
    for run in runs[1:]:
        other = read_evidence(source_of(recipe, run.folder), recipe.kind, chosen)
        changes[run.objective] = compare(own, same_persons(own, other), groupings, chosen)
    return changes


def numbers(values: Sequence[float | None]) -> np.ndarray:
    """JSON's null as NaN."""
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _read(folder: Path) -> TaskRun:
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        audit = json.loads((folder / "audit" / "audit.json").read_text(encoding="utf-8"))
        return TaskRun(folder, run["task"], run["result"]["objective"], run, audit)
    except (OSError, ValueError, KeyError) as error:
        raise CohortError(
            f"{folder}: expected run.json and audit/audit.json of `fair-strategy task`; "
            f"run it, or let it finish ({error})"
        ) from None


def _check_alike(first: TaskRun, other: TaskRun) -> None:
    both = f"{first.folder} and {other.folder}"
    if first.objective == other.objective:
        raise CohortError(f"{both} are both {first.task} by {first.objective}; give one")
    if first.run["settings"] != other.run["settings"] or _split(first) != _split(other):
        raise CohortError(
            f"{both} have other settings or other cases; train both with one --data and --config"
        )


def _split(run: TaskRun) -> list[tuple[str, ...]]:
    with (run.folder / "splits.csv").open(encoding="utf-8", newline="") as handle:
        return [tuple(row) for row in csv.reader(handle)]


def _place(objective: str) -> int:
    return OBJECTIVES.index(objective)
