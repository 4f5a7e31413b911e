"""The tidy tables of a simulation, made anew from its shards."""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fair_strategy.learning.checkpoint import write_atomically
from fair_strategy.workflows.simulation.plan import WEIGHTED, Run
from fair_strategy.workflows.simulation.shards import read_shard, shard_path

Row = list[Any]

KEY = ("bias", "start", "arm")
ROUNDS = (
    *KEY, "strategy", "rule", "estimator", "seed", "round", "n_labelled", "subgroup", "n_test",
    "dice", "dice_sd", "surface_distance_mm", "labelled", "weight", "performance",
    "train_seconds", "score_seconds",
)  # fmt: skip
CASES = (
    *KEY, "seed", "round", "case_id", "subgroup", "dice", "surface_distance_mm", "true_volume_mm3",
)  # fmt: skip
SELECTED = (*KEY, "seed", "round", "position", "case_id", "subgroup", "reason")
SCORES = (
    *KEY, "seed", "round", "case_id", "subgroup", "score", "value", "true_volume_mm3", "dice",
)  # fmt: skip
TIMING = ("train_seconds", "score_seconds")
"""Columns that differ from one machine, and one call, to the next; all others do not."""


def write_tables(out: Path, runs: Iterable[Run]) -> None:
    """Write rounds.csv, cases.csv, selected.csv and scores.csv of the runs that have a shard."""
    begun = [(run, read_shard(out, run)) for run in runs if shard_path(out, run).exists()]
    begun.sort(key=lambda pair: (*(getattr(pair[0], name) for name in KEY), pair[0].seed))
    for name, header, rows in (
        ("rounds", ROUNDS, _rounds),
        ("cases", CASES, _cases),
        ("selected", SELECTED, _selected),
        ("scores", SCORES, _scores),
    ):
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(header)
        for run, shard in begun:
            table.writerows([_text(cell) for cell in row] for row in rows(run, shard))
        write_atomically(out / f"{name}.csv", text.getvalue().encode())


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)


def _key(run: Run, number: int) -> Row:
    return [run.bias, run.start, run.arm, run.seed, number]


def _rounds(run: Run, shard: dict[str, Any]) -> Iterator[Row]:
    settings = run.study_settings()
    strategy = run.block.strategy
    rule = settings.rule if strategy in WEIGHTED else "uniform"
    kind = [strategy, "" if run.is_floor else rule, "" if run.is_floor else settings.estimator]
    for done in shard["rounds"]:
        total = sum(group["labelled"] for group in done["groups"].values())
        for subgroup, group in done["groups"].items():
            yield [
                *_key(run, done["round"])[:3],
                *kind,
                run.seed,
                done["round"],
                total,
                subgroup,
                *(group[n] for n in ("n_test", "dice", "dice_sd", "surface_distance_mm")),
                *(group[n] for n in ("labelled", "weight", "performance")),
                *(done[n] for n in TIMING),
            ]


def _cases(run: Run, shard: dict[str, Any]) -> Iterator[Row]:
    for done in shard["rounds"]:
        for row in done.get("cases", ()):
            yield [*_key(run, done["round"]), *row]


def _selected(run: Run, shard: dict[str, Any]) -> Iterator[Row]:
    for done in shard["rounds"]:
        for pick in done["selected"]:
            names = ("position", "case_id", "subgroup", "reason")
            yield [*_key(run, done["round"]), *(pick[n] for n in names)]


def _scores(run: Run, shard: dict[str, Any]) -> Iterator[Row]:
    for done in shard["rounds"]:
        found = done.get("scores", {"names": [], "rows": []})
        for case_id, subgroup, volume, agreement, *values in found["rows"]:
            for name, value in zip(found["names"], values, strict=True):
                yield [*_key(run, done["round"]), case_id, subgroup, name, value, volume, agreement]
