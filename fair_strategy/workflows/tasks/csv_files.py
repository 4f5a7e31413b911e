"""Tables of data sets as text, with errors that name file, line and column."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fair_strategy.data.cohort import CohortError

MISSING = frozenset({"", "n/a", "na", "nan", "none", "null", "-4", "unknown"})
"""What stands for a missing value; -4 is ADNI's."""


def read_csv(path: Path, required: Sequence[str]) -> pd.DataFrame:
    """A comma-separated table of text; the index of a row is its line in the file.

    Raises:
        CohortError: no such file, not a table, no row, or a required column is missing.
    """
    if not path.is_file():
        raise CohortError(f"{path}: no such table; give the folder that holds it as --data")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:
        raise CohortError(f"{path}: cannot be read as comma-separated: {error}") from None
    table = table.apply(lambda column: column.str.strip())
    table.columns = table.columns.str.strip()
    absent = [name for name in required if name not in table.columns]
    if absent:
        raise CohortError(
            f"{path}: no column {', '.join(map(repr, absent))}; "
            f"the table has {', '.join(table.columns[:20])}"
        )
    if table.empty:
        raise CohortError(f"{path}: the table holds no row")
    table.index = pd.RangeIndex(2, len(table) + 2)
    return table


def refuse_twice(path: Path, table: pd.DataFrame, column: str) -> None:
    """CohortError where two rows have one id."""
    twice = table.index[table[column].duplicated()]
    if len(twice):
        raise CohortError(
            f"{path.name} line {twice[0]}: {column} {table[column][twice[0]]} stands there twice; "
            "keep one row"
        )


def numbers(path: Path, table: pd.DataFrame, column: str) -> pd.Series:
    """A column of numbers, NaN where missing; CohortError for what is neither."""
    text = table[column]
    missing = text.str.casefold().isin(MISSING)
    values = pd.to_numeric(text.mask(missing), errors="coerce").astype(np.float64)
    wrong = table.index[~missing & ~np.isfinite(values)]
    if len(wrong):
        raise CohortError(
            f"{path.name} line {wrong[0]}: column {column!r} holds {text[wrong[0]]!r}, not a number"
        )
    return values
