"""Predictions as a table (CSV, TSV, Parquet) -> evidence. The schema: docs/how-to, audit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fair_strategy.acquisition.entropy import predictive_entropy
from fair_strategy.data.bids import subject_of
from fair_strategy.data.cohort import CohortError
from fair_strategy.workflows.audit.classification import classified
from fair_strategy.workflows.audit.evidence import Evidence, Flag, Target, missing_flags
from fair_strategy.workflows.audit.measures import Floats
from fair_strategy.workflows.audit.regression import regressed
from fair_strategy.workflows.audit.segmentation import SCORES, scored_target
from fair_strategy.workflows.audit.settings import AuditSettings

CASE, SUBJECT, UNCERTAINTY = "case", "subject", "uncertainty"
TARGET = {"segmentation": "region", "classification": "", "regression": "target"}
SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
_MISSING = frozenset({"", "n/a", "na", "nan", "none", "null"})
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class _Sheet:
    """A table of text; the index of a row is its line in the file, less 2."""

    path: Path
    rows: pd.DataFrame

    def error(self, row: int, sentence: str) -> CohortError:
        case, line = self.rows[CASE].iloc[row], self.rows.index[row] + 2
        return CohortError(f"{self.path.name} line {line}, case {case}: {sentence}")

    def numbers(self, column: str, *, required: bool, low: float | None = None) -> Floats:
        """A column in float64; NaN where missing, which is an error where required."""
        text = self.rows[column]
        missing = text.str.casefold().isin(_MISSING).to_numpy()
        values = pd.to_numeric(text.mask(missing), errors="coerce").to_numpy(np.float64)
        wrong = np.flatnonzero(~missing & ~np.isfinite(values))
        if wrong.size:
            shown = text.iloc[wrong[0]]
            raise self.error(int(wrong[0]), f"column {column!r} holds {shown!r}, not a number")
        if required and missing.any():
            first = int(np.flatnonzero(missing)[0])
            raise self.error(
                first,
                f"column {column!r} has no value (so in {missing.sum()} of {missing.size} rows); "
                "complete it, or leave these cases out of the table yourself",
            )
        if low is not None and (values < low).any():
            first = int(np.flatnonzero(values < low)[0])
            raise self.error(
                first, f"column {column!r} must be {low:g} or more, got {values[first]:g}"
            )
        return values


def read_table(path: Path, task: str, settings: AuditSettings) -> Evidence:
    """Evidence from a table, a row a case (and region, or quantity).

    Columns: `case`, and optionally `subject` and `uncertainty`; and for
    classification `reference` and `p_<class>` for two classes or more, summing to 1;
    regression `reference`, `prediction`, optionally `variance` and `target`;
    segmentation `dice`, optionally `region` and the other scores of `segmentation.SCORES`.

    Raises:
        CohortError: naming file, line, column or case.
    """
    sheet = _read(path)
    wanted = {
        "segmentation": ("dice",),
        "classification": ("reference",),
        "regression": ("reference", "prediction"),
    }[task]
    _require(sheet, (CASE, *wanted))
    _check_cases(sheet)
    by_target = TARGET[task]
    names = _target_names(sheet, by_target)
    parts = [_part(sheet, by_target, name) for name in names]
    case_ids = tuple(parts[0].rows[CASE])
    for name, part in zip(names, parts, strict=True):
        _check_same(part, case_ids, f"{by_target} {name!r}", f"{by_target} {names[0]!r}")
    make = {
        "segmentation": _segmentation,
        "classification": _classification,
        "regression": _regression,
    }[task]
    targets = tuple(make(part, name, settings) for name, part in zip(names, parts, strict=True))
    flags = [flag for target in targets for flag in missing_flags(target, case_ids)]
    return Evidence(task, case_ids, _subjects(parts[0]), targets, (*_unused(sheet, task), *flags))


def _read(path: Path) -> _Sheet:
    if path.suffix not in SUFFIXES:
        raise CohortError(f"{path}: a table must end in {', '.join(SUFFIXES)}; else give a folder")
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            separator = "," if path.suffix == ".csv" else "\t"
            frame = pd.read_csv(
                path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig",
                index_col=False,
            )  # fmt: skip
    except (ValueError, OSError, ImportError) as error:
        raise CohortError(f"{path}: cannot be read as a table: {error}") from error
    frame = frame.rename(columns=str)
    frame = frame.astype(object).where(frame.notna(), "").astype(str)
    frame = frame.apply(lambda column: column.str.strip())
    frame.columns = frame.columns.str.strip()
    if frame.empty:
        raise CohortError(f"{path}: the table holds no row")
    return _Sheet(path, frame)


def _require(sheet: _Sheet, columns: Sequence[str]) -> None:
    absent = [name for name in columns if name not in sheet.rows.columns]
    if absent:
        raise CohortError(
            f"{sheet.path}: no column {', '.join(map(repr, absent))}; "
            f"the table has {', '.join(sheet.rows.columns)}"
        )


def _check_cases(sheet: _Sheet) -> None:
    blank = np.flatnonzero(sheet.rows[CASE].str.casefold().isin(_MISSING))
    if blank.size:
        raise CohortError(f"{sheet.path.name} line {blank[0] + 2}: no {CASE}; write its id")


def _target_names(sheet: _Sheet, column: str) -> list[str]:
    if not column or column not in sheet.rows.columns:
        return [""]
    return list(dict.fromkeys(sheet.rows[column]))


def _part(sheet: _Sheet, column: str, name: str) -> _Sheet:
    """Rows of one target, sorted by case; the index keeps the line."""
    rows = sheet.rows
    if column and column in rows.columns:
        rows = rows[rows[column] == name]
    twice = rows[rows[CASE].duplicated()]
    if len(twice):
        case = twice[CASE].iloc[0]
        again = f" for {column} {name!r}" if name else ""
        raise CohortError(
            f"{sheet.path.name} line {twice.index[0] + 2}: case {case} stands there twice{again}; "
            "keep one row"
        )
    return _Sheet(sheet.path, rows.sort_values(CASE, kind="stable"))


def _check_same(part: _Sheet, case_ids: tuple[str, ...], name: str, first: str) -> None:
    other = set(part.rows[CASE])
    apart = sorted(other ^ set(case_ids))
    if apart:
        raise CohortError(
            f"{part.path.name}: {name} and {first} have different cases, such as "
            f"{', '.join(apart[:3])} ({len(apart)} in all); give every case a row for each"
        )


def _subjects(sheet: _Sheet) -> tuple[str, ...]:
    if SUBJECT in sheet.rows.columns:
        return tuple(sheet.rows[SUBJECT])
    return tuple(subject_of(case) for case in sheet.rows[CASE])


def _unused(sheet: _Sheet, task: str) -> list[Flag]:
    known = {CASE, SUBJECT, UNCERTAINTY, TARGET[task]} | {
        "segmentation": set(SCORES),
        "classification": {"reference", *_class_columns(sheet)},
        "regression": {"reference", "prediction", "variance"},
    }[task]
    unused = [name for name in sheet.rows.columns if name not in known]
    if not unused:
        return []
    return [Flag("", "", f"columns of the table that were not used: {', '.join(unused)}")]


def _uncertainty(sheet: _Sheet) -> Floats | None:
    if UNCERTAINTY not in sheet.rows.columns:
        return None
    return sheet.numbers(UNCERTAINTY, required=False)


def _segmentation(sheet: _Sheet, name: str, settings: AuditSettings) -> Target:
    scores = {
        column: sheet.numbers(column, required=column == "dice")
        for column in SCORES
        if column in sheet.rows.columns
    }
    dice = scores["dice"]
    outside = np.flatnonzero((dice < 0) | (dice > 1))
    if outside.size:
        raise sheet.error(int(outside[0]), f"Dice must lie in [0, 1], got {dice[outside[0]]:g}")
    return scored_target(name, scores, _uncertainty(sheet))


def _class_columns(sheet: _Sheet) -> list[str]:
    return [name for name in sheet.rows.columns if name.startswith("p_") and len(name) > 2]


def _classification(sheet: _Sheet, name: str, settings: AuditSettings) -> Target:
    columns = _class_columns(sheet)
    if len(columns) < 2:
        raise CohortError(
            f"{sheet.path}: expected a column p_<class> for every class, two or more; "
            f"found {', '.join(columns) or 'none'}"
        )
    probs = np.stack([sheet.numbers(c, required=True, low=0.0) for c in columns], axis=1)
    sums = probs.sum(axis=1)
    wrong = np.flatnonzero(np.abs(sums - 1) > _SUM_TOLERANCE)
    if wrong.size:
        raise sheet.error(
            int(wrong[0]),
            f"{', '.join(columns)} must sum to 1, they sum to {sums[wrong[0]]:g}; "
            "give probabilities, not logits",
        )
    probs = probs / sums[:, None]
    truth = _classes(sheet, [column[2:] for column in columns])
    given = _uncertainty(sheet)
    entropy = predictive_entropy(probs.T[None, :, :, None, None]).ravel()
    return classified(name, truth, probs, entropy if given is None else given, settings)


def _classes(sheet: _Sheet, classes: list[str]) -> Floats:
    names = sheet.rows["reference"]
    number = {name: place for place, name in enumerate(classes)}
    unknown = np.flatnonzero(~names.isin(classes))
    if unknown.size:
        raise sheet.error(
            int(unknown[0]),
            f"reference class {names.iloc[unknown[0]]!r} has no column p_<class>; "
            f"known classes: {', '.join(classes)}",
        )
    return np.array([number[name] for name in names], np.float64)


def _regression(sheet: _Sheet, name: str, settings: AuditSettings) -> Target:
    truth = sheet.numbers("reference", required=True)
    error = sheet.numbers("prediction", required=True) - truth
    given = _uncertainty(sheet)
    variance = None
    if "variance" in sheet.rows.columns:
        variance = sheet.numbers("variance", required=True, low=0.0)
    return regressed(name, truth, error, variance if given is None else given, variance, settings)
