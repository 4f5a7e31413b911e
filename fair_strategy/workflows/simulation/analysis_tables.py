"""The tables that a simulation leaves behind, read and checked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

WHOLE_POOL = "whole_pool"
CARRIED = "weights carried over"
USUAL_VIEW = "caudate"
SETTING = ["bias", "start"]
RUN = [*SETTING, "arm", "seed"]

_TEXT = {
    *("bias", "start", "arm", "strategy", "rule", "estimator"),
    *("case_id", "subgroup", "reason", "score"),
}
_WHOLE = {"seed", "round", "n_labelled", "n_test", "labelled", "position"}
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "rounds": (
        *("bias", "start", "arm", "strategy", "rule", "estimator", "seed", "round"),
        *("n_labelled", "subgroup", "n_test", "dice", "dice_sd", "surface_distance_mm"),
        *("labelled", "weight", "performance", "train_seconds", "score_seconds"),
    ),
    "cases": (
        *("bias", "start", "arm", "seed", "round", "case_id", "subgroup", "dice"),
        *("surface_distance_mm", "true_volume_mm3"),
    ),
    "selected": (
        *("bias", "start", "arm", "seed", "round", "position", "case_id", "subgroup", "reason"),
    ),
    "scores": (
        *("bias", "start", "arm", "seed", "round", "case_id", "subgroup", "score", "value"),
        *("true_volume_mm3", "dice"),
    ),
}
_KEYS = {
    "rounds": [*RUN, "round", "subgroup"],
    "cases": [*RUN, "round", "case_id"],
    "selected": [*RUN, "round", "position"],
    "scores": [*RUN, "round", "case_id", "score"],
}


class TableError(ValueError):
    """A table of a simulation is missing, or is not what it should be."""


@dataclass(frozen=True)
class Tables:
    """What a simulation wrote.

    An arm that works on other volumes than the first view (a whole brain instead of a box about
    the structure) cannot be compared with the rest: its start is told as "imbalanced, brain", and
    the column `view` holds "brain" ("" for the usual one). Nor can one whose models start from
    the weights of the round before ("imbalanced, weights carried over"): they are trained for
    longer, also than the whole-pool model. A whole-pool model, whatever its arm is
    called, is named `whole_pool`; its start is its view.

    Attributes:
        rounds: a row a run, round and subgroup.
        cases: a row a run, round and test case.
        selected: a row a run and annotated scan.
        scores: a row a run, round, scan of the pool and kind of score; the column `measured` tells
            arms apart whose scores of one name are not the same quantity (another margin, several
            passes), "" for the usual one.
        run: configuration, versions, hardware, time; empty where run.json is missing.
    """

    rounds: pd.DataFrame
    cases: pd.DataFrame
    selected: pd.DataFrame
    scores: pd.DataFrame
    run: Mapping[str, Any]


def read_tables(out: Path) -> Tables:
    """Tables in the folder of a simulation; a run that is still going has them too.

    Raises:
        TableError: if a table is missing, lacks a column, holds a row twice or no row of results,
            or has something else where a number belongs; the sentence names file, column and line.
    """
    read = {name: _read(out / f"{name}.csv", name) for name in COLUMNS}
    if read["rounds"].empty:
        raise TableError(f"{out / 'rounds.csv'}: no finished round yet; come back later")
    run = _run(out / "run.json")
    floors = set(read["rounds"].arm[read["rounds"].strategy == WHOLE_POOL])
    views, measured = _views(run), _measured(run)
    read["scores"] = read["scores"].assign(
        measured=[measured.get(arm, "") for arm in read["scores"].arm]
    )
    return Tables(**{n: _told_apart(t, floors, views) for n, t in read.items()}, run=run)


def _views(run: Mapping[str, Any]) -> dict[str, str]:
    """Arm -> other field of view, or longer training, of those that are a setting of their own."""
    arms = run.get("configuration", {}).get("arms", {})
    return {arm: view for arm, block in arms.items() if (view := _view(block))}


def _view(block: Mapping[str, Any]) -> str:
    seen = str(block.get("field_of_view", USUAL_VIEW))
    apart = [] if seen == USUAL_VIEW else [seen]
    return ", ".join([*apart, *([CARRIED] if block.get("carry_over") else [])])


def _measured(run: Mapping[str, Any]) -> dict[str, str]:
    """Arm -> how its scores are measured, of those that do it in another way than the rest."""
    told = {"margin_mm": "{:g} mm margin", "roi_threshold": "threshold {:g}", "passes": "{} passes"}
    arms = run.get("configuration", {}).get("arms", {})
    own = {arm: block.get("settings", {}) for arm, block in arms.items()}
    words = {
        arm: ", ".join(text.format(given[name]) for name, text in told.items() if name in given)
        for arm, given in own.items()
    }
    return {arm: text for arm, text in words.items() if text}


def _told_apart(table: pd.DataFrame, floors: set[str], views: dict[str, str]) -> pd.DataFrame:
    start, arm = table.start.to_numpy(object), table.arm.to_numpy(object)
    view = np.array([views.get(name, "") for name in arm], object)
    is_floor = np.isin(arm, sorted(floors))
    apart = [f"{name}, {own}" if own else name for name, own in zip(start, view, strict=True)]
    return table.assign(
        view=view,
        start=np.where(is_floor, view, np.array(apart, object)),
        arm=np.where(is_floor, WHOLE_POOL, arm),
    )


def _read(path: Path, name: str) -> pd.DataFrame:
    try:
        raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError:
        raise TableError(
            f"{path}: expected the table that `fair-strategy simulate` writes, found none"
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: expected a table (CSV); {error}") from None
    missing = [column for column in COLUMNS[name] if column not in raw]
    if missing:
        raise TableError(f"{path}: the columns {', '.join(missing)} are missing")
    table = pd.DataFrame({c: _column(raw[c], path) for c in COLUMNS[name]})
    _check_unique(table, _KEYS[name], path)
    return table


def _column(values: pd.Series, path: Path) -> pd.Series:
    name = str(values.name)
    if name in _TEXT:
        return values
    known = values.mask(values.isin(["", "n/a", "nan", "NaN"]))
    numbers = pd.to_numeric(known, errors="coerce")
    wrong = numbers.isna() & (known.notna() if name not in _WHOLE else True)
    if name in _WHOLE:
        wrong |= numbers % 1 != 0
    if wrong.any():
        line = int(wrong.to_numpy().argmax())
        kind = "a whole number" if name in _WHOLE else "a number or nothing"
        raise TableError(
            f"{path} line {line + 2}: {name} must be {kind}, got {values.iloc[line]!r}"
        )
    return numbers.astype("int64" if name in _WHOLE else "float64")


def _check_unique(table: pd.DataFrame, keys: list[str], path: Path) -> None:
    twice = table.duplicated(keys)
    if twice.any():
        line = int(twice.to_numpy().argmax())
        row = ", ".join(f"{key} {table[key].iloc[line]}" for key in keys)
        raise TableError(f"{path} line {line + 2}: a second row of {row}")


def _run(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: expected JSON; {error}") from None
    if not isinstance(content, dict):
        raise TableError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content
