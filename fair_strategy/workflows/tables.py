"""Offline: tables of scores, read and ranked. No server, no state."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fair_strategy.acquisition.pool import MUTUAL_INFORMATION, Pool, PoolCase
from fair_strategy.acquisition.selection import RankedCase
from fair_strategy.acquisition.strategies import NEEDS_FEATURES, NEEDS_PASSES, STRATEGIES
from fair_strategy.acquisition.weights import group_weights
from fair_strategy.config import StudySettings
from fair_strategy.data.cohort import CohortError
from fair_strategy.workflows.study import masked_score, weighted_score

NO_SCANS = "expected T1-weighted scans (sub-*/anat/*_T1w.nii.gz, or a flat folder), found none"
ENTROPIES = (
    "entropy",
    "entropy_sum",
    "masked_mean",
    "masked_sum",
    "per_boundary",
    "mutual_information",
)
COLUMNS = (
    *("case_id", "subject_id", "subgroup", *ENTROPIES, "volume_mm3", "flags"),
    *("fingerprint", "model", "settings"),
)


def read_scores(path: Path) -> list[dict[str, str]]:
    """Rows of a table that `score_folder` wrote; a torn last line is left out.

    Raises:
        CohortError: if the file is no such table, or a value is not a number.
    """
    reader = csv.DictReader(io.StringIO(_content(path), newline=""), delimiter="\t")
    try:
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise CohortError(
                f"{path.name}: expected a table of scores, "
                f"the columns {', '.join(sorted(missing))} are missing"
            )
        numbered = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise CohortError(f"{path.name}: expected a table of scores; {error}") from None
    whole = [(line, row) for line, row in numbered if None not in row.values()]
    for line, row in whole:
        _check_row(row, f"{path.name} line {line}")
    return [row for _, row in whole]


def read_performance(path: Path) -> dict[str, float]:
    """Subgroup -> performance, from JSON ``{"A": 0.9}`` or a TSV with columns subgroup and mean.

    Raises:
        CohortError: if the file is neither, or a value is not a number.
    """
    return _read_by_group(path, "mean")


def read_labelled_counts(path: Path) -> dict[str, int]:
    """Subgroup -> labelled cases, from JSON ``{"A": 12}`` or a TSV: subgroup and labelled.

    Raises:
        CohortError: if the file is neither, or a value is not a whole number, 0 or more.
    """
    counts = _read_by_group(path, "labelled")
    for group, count in counts.items():
        if count < 0 or not count.is_integer():
            raise CohortError(
                f"{path.name}: expected whole numbers of labelled cases, got {count!r} for {group}"
            )
    return {group: int(count) for group, count in counts.items()}


def rank_table(
    rows: list[dict[str, str]],
    performance: Mapping[str, float],
    settings: StudySettings,
    *,
    strategy: str = "weighted_entropy",
    labelled_counts: Mapping[str, int] | None = None,
) -> tuple[dict[str, float], list[RankedCase]]:
    """Weights by the rule, and the rows in the order of a strategy: what the server would do.

    A subgroup without a performance is treated as badly as the worst one that has one.

    Raises:
        ValueError: if the rule is inverse_frequency and `labelled_counts` is None: a table of
            scores does not tell who is labelled. If the strategy needs what the table has not.
    """
    _check_strategy(strategy, rows)
    groups = {row["subgroup"] for row in rows} | performance.keys()
    weights = group_weights(
        {g: performance.get(g, float("nan")) for g in groups},
        rule=settings.rule,
        attainable=dict(settings.attainable) or None,
        temperature=settings.temperature,
        eta=settings.eta,
        labelled_counts=labelled_counts,
        candidate_counts=Counter(row["subgroup"] for row in rows),
    )
    pool = Pool(
        cases=tuple(
            PoolCase(row["case_id"], row["subgroup"], _entropies(row), _flags(row)) for row in rows
        ),
        weights=weights,
        masked_score=masked_score(settings),
        weighted_score=weighted_score(settings),
        quota_batch=settings.quota_batch,
        audit_every=settings.audit_every,
    )
    return weights, STRATEGIES[strategy](pool, np.random.default_rng(settings.seed))


def _check_strategy(strategy: str, rows: list[dict[str, str]]) -> None:
    if strategy in NEEDS_FEATURES:
        raise ValueError(
            f"strategy {strategy!r} compares features of the network, which a table of scores does "
            "not hold; a server or a simulation has them"
        )
    known = any(not math.isnan(_number(row[MUTUAL_INFORMATION])) for row in rows)
    if strategy in NEEDS_PASSES and rows and not known:
        raise ValueError(
            f"strategy {strategy!r} ranks by how far stochastic passes disagree, and this table is "
            "of one pass: score with passes 2 or more, e.g. -o passes=8"
        )


def _content(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise CohortError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise CohortError(f"{path}: expected a text file (UTF-8), found other bytes") from None


def _read_by_group(path: Path, column: str) -> dict[str, float]:
    text = _content(path)
    try:
        if path.suffix == ".json":
            pairs = dict(json.loads(text))
        else:
            rows = csv.DictReader(text.splitlines(), delimiter="\t")
            pairs = {row["subgroup"]: row[column] for row in rows}
        return {name: _number(value) for name, value in pairs.items()}
    except KeyError as error:
        reason = f"the column {error} is missing"
    except (TypeError, ValueError, csv.Error) as error:
        reason = str(error)
    raise CohortError(
        f"{path.name}: expected subgroup and {column} (TSV), or one JSON object of numbers; "
        f"{reason}"
    )


def _check_row(row: Mapping[str, str], where: str) -> None:
    if None in row:
        raise CohortError(f"{where}: more cells than columns")
    for name in (*ENTROPIES, "volume_mm3"):
        try:
            _number(row[name])
        except ValueError:
            raise CohortError(
                f"{where}: {name} must be a number or n/a, got {row[name]!r}"
            ) from None


def _entropies(row: Mapping[str, str]) -> dict[str, float]:
    return {name: _number(row[name]) for name in ENTROPIES}


def _flags(row: Mapping[str, str]) -> tuple[str, ...]:
    return () if row["flags"] in ("n/a", "") else tuple(row["flags"].split(","))


def _number(value: Any) -> float:
    return float("nan") if value in ("n/a", None) else float(value)
