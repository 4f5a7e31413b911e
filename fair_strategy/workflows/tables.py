"""Offline: score a folder into a table, and rank the rows of such a table. No server, no state."""

import csv
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from fair_strategy.acquisition.selection import RankedCase
from fair_strategy.acquisition.strategies import STRATEGIES, Pool, PoolCase
from fair_strategy.acquisition.weights import group_weights
from fair_strategy.config import StudySettings
from fair_strategy.data import bids
from fair_strategy.data.bids import Scan
from fair_strategy.data.cohort import Cohort, CohortError
from fair_strategy.data.volumes import VolumeError, read_image
from fair_strategy.learning.checkpoint import Model
from fair_strategy.learning.inference import predict
from fair_strategy.workflows.scoring import assess
from fair_strategy.workflows.study import masked_score, score_settings_hash

ENTROPIES = (
    "entropy",
    "entropy_sum",
    "masked_mean",
    "masked_sum",
    "per_boundary",
    "mutual_information",
)
KEY = ("case_id", "fingerprint", "model", "settings")
COLUMNS = ("case_id", "subject_id", "subgroup", *ENTROPIES, "volume_mm3", "flags", *KEY[1:])


@dataclass(frozen=True)
class FolderReport:
    """How many scans were scored now, were scored before, and could not be read (id -> why)."""

    scored: int
    kept: int
    unreadable: dict[str, str]


def score_folder(
    images_dir: Path,
    cohort: Cohort,
    model: Model,
    settings: StudySettings,
    out: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> FolderReport:
    """Score every scan of a folder into a TSV, a row as soon as it is known.

    Rows of the same scan, model and settings are kept: a second run goes on where one stopped.

    Raises:
        CohortError: if `out` exists and is not such a table.
    """
    scans = bids.walk(images_dir)
    settings_hash = score_settings_hash(settings)
    current = {(s.case_id, s.fingerprint, model.checksum, settings_hash) for s in scans}
    kept = [row for row in (read_scores(out) if out.exists() else []) if _key(row) in current]
    done = {row["case_id"] for row in kept}
    unreadable: dict[str, str] = {}
    _start_table(out, kept)
    with out.open("a", encoding="utf-8", newline="") as file:
        table = _writer(file)
        for number, scan in enumerate(scans, start=1):
            if scan.case_id not in done:
                try:
                    table.writerow(_row(scan, cohort, model, settings))
                except VolumeError as error:
                    unreadable[scan.case_id] = str(error)
                file.flush()
            if progress:
                progress(number, len(scans))
    return FolderReport(len(scans) - len(kept) - len(unreadable), len(kept), unreadable)


def read_scores(path: Path) -> list[dict[str, str]]:
    """Rows of a table that `score_folder` wrote; a torn last line is left out.

    Raises:
        CohortError: if a column is missing or a value is not a number.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t")
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise CohortError(
                f"{path.name}: expected a table of scores, "
                f"the columns {', '.join(sorted(missing))} are missing"
            )
        return [row for row in reader if None not in row.values()]


def read_performance(path: Path) -> dict[str, float]:
    """Subgroup -> performance, from JSON ``{"A": 0.9}`` or a TSV with columns subgroup and mean.

    Raises:
        CohortError: if the file is neither, or a value is not a number.
    """
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".json":
            pairs = dict(json.loads(text))
        else:
            rows = csv.DictReader(text.splitlines(), delimiter="\t")
            pairs = {row["subgroup"]: row["mean"] for row in rows}
        return {name: _number(value) for name, value in pairs.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise CohortError(
            f"{path.name}: expected subgroup and mean (TSV), or one JSON object of numbers; {error}"
        ) from None


def rank_table(
    rows: list[dict[str, str]],
    performance: Mapping[str, float],
    settings: StudySettings,
    *,
    strategy: str = "weighted_entropy",
) -> tuple[dict[str, float], list[RankedCase]]:
    """Weights by the rule, and the rows in the order of a strategy: what the server would do.

    A subgroup without a performance is treated as badly as the worst one that has one.
    """
    groups = {row["subgroup"] for row in rows} | performance.keys()
    weights = group_weights(
        {g: performance.get(g, float("nan")) for g in groups},
        rule=settings.rule,
        attainable=dict(settings.attainable) or None,
        temperature=settings.temperature,
        eta=settings.eta,
        labelled_counts={},
        candidate_counts=Counter(row["subgroup"] for row in rows),
    )
    pool = Pool(
        cases=tuple(
            PoolCase(row["case_id"], row["subgroup"], _entropies(row), _flags(row)) for row in rows
        ),
        weights=weights,
        masked_score=masked_score(settings),
        quota_batch=settings.quota_batch,
        audit_every=settings.audit_every,
    )
    return weights, STRATEGIES[strategy](pool, np.random.default_rng(settings.seed))


def _row(scan: Scan, cohort: Cohort, model: Model, settings: StudySettings) -> dict[str, Any]:
    prediction = predict(model, read_image(scan.path), passes=settings.passes, seed=settings.seed)
    found = assess(prediction, settings)
    return {
        "case_id": scan.case_id,
        "subject_id": scan.subject_id,
        "subgroup": cohort.subgroup(scan.subject_id),
        **{name: _text(found.entropies.get(name, float("nan"))) for name in ENTROPIES},
        "volume_mm3": f"{found.volume_mm3:.1f}",
        "flags": ",".join(found.flags) or "n/a",
        "fingerprint": scan.fingerprint,
        "model": model.checksum,
        "settings": score_settings_hash(settings),
    }


def _writer(file: TextIO) -> csv.DictWriter:
    return csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")


def _start_table(out: Path, kept: list[dict[str, str]]) -> None:
    """Header and kept rows, by rename: a kill here loses no row of an earlier run."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        table = _writer(file)
        table.writeheader()
        table.writerows(kept)
    os.replace(temporary, out)


def _key(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in KEY)


def _entropies(row: Mapping[str, str]) -> dict[str, float]:
    return {name: _number(row[name]) for name in ENTROPIES}


def _flags(row: Mapping[str, str]) -> tuple[str, ...]:
    return () if row["flags"] in ("n/a", "") else tuple(row["flags"].split(","))


def _number(value: Any) -> float:
    return float("nan") if value in ("n/a", None) else float(value)


def _text(value: float) -> str:
    return "n/a" if math.isnan(value) else repr(value)
