"""A task from data to audit: read, split, train, predict, audit."""

import csv
import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

import fair_strategy
from fair_strategy.data.cohort import CohortError
from fair_strategy.learning.objectives import OBJECTIVES
from fair_strategy.learning.uncertainty import Sampling
from fair_strategy.workflows.audit.audit import Source, run_audit
from fair_strategy.workflows.audit.report import write_audit
from fair_strategy.workflows.audit.settings import AuditSettings
from fair_strategy.workflows.tasks.adni import Adni
from fair_strategy.workflows.tasks.brats import Brats
from fair_strategy.workflows.tasks.cases import Case, Reading, Split, make_splits, sizes
from fair_strategy.workflows.tasks.isic import Isic
from fair_strategy.workflows.tasks.recipe import Recipe, Row
from fair_strategy.workflows.tasks.settings import (
    AdniSettings,
    BratsSettings,
    IsicSettings,
    TaskSettings,
)
from fair_strategy.workflows.tasks.training import Parts, chosen_for, train_member

Say = Callable[[str], None]
Track = Callable[[int, int], None]


def make_recipe(settings: TaskSettings) -> Recipe:
    """The recipe of the task that the settings are of."""
    if isinstance(settings, IsicSettings):
        return cast(Recipe, Isic(settings))
    if isinstance(settings, BratsSettings):
        return cast(Recipe, Brats(settings))
    if isinstance(settings, AdniSettings):
        return cast(Recipe, Adni(settings))
    raise ValueError(f"settings: expected those of isic, brats or adni, got {type(settings)}")


def run_task(
    settings: TaskSettings,
    data: Path,
    objective: str,
    out: Path,
    *,
    device: str = "cpu",
    say: Say = lambda sentence: None,
    track: Track = lambda done, total: None,
) -> dict[str, Any]:
    """Train the ensemble, predict the test set, audit the predictions.

    A killed call goes on where it stopped when it is repeated; networks that are finished and
    belong to the same data and settings are used again.

    Args:
        settings: of one task, which they name by their type.
        data: as its owners publish it, or a look-alike.
        objective: erm, balanced or group_dro.
        out: gets networks/, predictions, participants.tsv, splits.csv, left_out.csv, run.json
            and audit/.
        device: "cpu" or "cuda".
        say: told what is being done.
        track: called with (steps done, steps) over all networks.
    Returns:
        Plain values: sizes, what was left out, paths, findings of the audit.
    Raises:
        CohortError, VolumeError: bad input, before anything is trained.
    """
    _check_arguments(objective, data)
    began, used = time.monotonic(), time.process_time()
    recipe = make_recipe(settings)
    say("reading the cases")
    reading = recipe.read(data)
    splits = make_splits(reading.cases, settings.split, seed=settings.seed)
    for split in splits:  # a class that a subgroup lacks is told before anything is trained
        chosen_for(objective, [reading.cases[i] for i in split.training], seed=settings.seed)
    _refuse_other_maps(recipe, out / "predictions", reading, splits)
    out.mkdir(parents=True, exist_ok=True)
    _write_lists(out, reading, splits)
    statistics = _train_and_predict(recipe, reading, splits, objective, out, device, say, track)
    say("auditing")
    found = _audit(recipe, out)
    result = {
        "objective": objective,
        "cases": sizes(reading.cases, splits[0]),
        "folds": len(splits),
        "left_out": dict(Counter(each.reason for each in reading.left_out)),
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(time.process_time() - used, 1),
        **found,
    }
    _write_run(out, settings, result, statistics, device)
    return result


def _check_arguments(objective: str, data: Path) -> None:
    if objective not in OBJECTIVES:
        raise ValueError(f"objective {objective!r}: expected one of {', '.join(OBJECTIVES)}")
    if not data.is_dir():
        raise CohortError(f"{data}: no such folder; give that of the data set")


def _train_and_predict(
    recipe: Recipe,
    reading: Reading,
    splits: Sequence[Split],
    objective: str,
    out: Path,
    device: str,
    say: Say,
    track: Track,
) -> list[dict[str, Any]]:
    settings = recipe.settings
    count = settings.ensemble.networks
    rows: list[Row] = []
    statistics = []
    for fold, split in enumerate(splits):
        parts = Parts(fold, _of(reading, split.training), _of(reading, split.validation))
        fitted = recipe.fitted(parts.training)
        networks: list[nn.Module] = []
        for member in range(count):
            say(f"fold {fold + 1} of {len(splits)}, network {member + 1} of {count}")
            done = fold * count + member

            def move(step: int, steps: int, done: int = done) -> None:
                track(done * steps + step, len(splits) * count * steps)

            trained = train_member(
                fitted, parts, objective=objective, member=member,
                folder=out / "networks", device=device, move=move,
            )  # fmt: skip
            networks.append(trained.network)
            statistics.append(trained.statistics)
        say(f"predicting {len(split.test)} cases")
        sampling = Sampling(settings.ensemble.passes, settings.ensemble.rows_at_once, settings.seed)
        test = _of(reading, split.test)
        rows += fitted.predict(networks, test, sampling, out / "predictions")
    if rows:
        _write_csv(out / "predictions.csv", rows)
    return statistics


def _refuse_other_maps(
    recipe: Recipe, maps: Path, reading: Reading, splits: Sequence[Split]
) -> None:
    if not (recipe.regions and maps.is_dir()):
        return
    own = {reading.cases[number].case_id for split in splits for number in split.test}
    other = sorted(path.name for path in maps.iterdir() if path.name not in own)
    if other:
        raise CohortError(
            f"{maps}: holds {', '.join(other[:3])}, which the test set does not; "
            "choose another --out, or remove that folder"
        )


def _of(reading: Reading, numbers: Iterable[int]) -> tuple[Case, ...]:
    return tuple(reading.cases[number] for number in numbers)


def source_of(recipe: Recipe, out: Path) -> Source:
    """The predictions in the folder of a run: maps, or a table."""
    if recipe.regions:
        return Source(out / "predictions", regions=recipe.regions)
    return Source(out / "predictions.csv")


def audit_settings(settings: TaskSettings) -> AuditSettings:
    """How the audit of a task is made."""
    return AuditSettings(
        draws=settings.audit.draws,
        seed=settings.seed,
        ranked_from=settings.audit.minimum,
        ranked_from_intersection=max(10, settings.audit.minimum),
    )


def _audit(recipe: Recipe, out: Path) -> dict[str, Any]:
    source = source_of(recipe, out)
    audits, changes = run_audit(
        [source],
        recipe.kind,
        out / "participants.tsv",
        recipe.features,
        settings=audit_settings(recipe.settings),
    )
    paths = write_audit(audits, changes, out / "audit")
    return {
        "predictions": str(source.predictions),
        "report": str(paths.html),
        "findings": [each.text for each in audits[0].findings if each.named],
    }


def _write_lists(out: Path, reading: Reading, splits: Sequence[Split]) -> None:
    subjects: dict[str, Mapping[str, str]] = {}
    for case in reading.cases:
        subjects.setdefault(case.subject_id, case.features)
    columns = list(reading.cases[0].features)
    lines = ["\t".join(["participant_id", *columns])]
    lines += ["\t".join([name, *own.values()]) for name, own in sorted(subjects.items())]
    (out / "participants.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    places: list[Row] = [
        {"case": reading.cases[number].case_id, "fold": fold, "part": part}
        for fold, split in enumerate(splits)
        for part in ("training", "validation", "test")
        for number in getattr(split, part)
    ]
    _write_csv(out / "splits.csv", places)
    left_out: list[Row] = [{"case": o.case_id, "reason": o.reason} for o in reading.left_out]
    _write_csv(out / "left_out.csv", left_out, columns=("case", "reason"))


def _write_csv(path: Path, rows: Sequence[Row], *, columns: Sequence[str] = ()) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(columns or rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_run(
    out: Path,
    settings: TaskSettings,
    result: Mapping[str, Any],
    statistics: Sequence[Mapping[str, Any]],
    device: str,
) -> None:
    told = {
        "task": type(settings).__name__.removesuffix("Settings").lower(),
        "settings": settings.model_dump(mode="json", exclude={"weights"}),
        "result": {k: v for k, v in result.items() if k not in ("report", "predictions")},
        "networks": list(statistics),
        "versions": {
            "fair-strategy": fair_strategy.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }
    (out / "run.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
