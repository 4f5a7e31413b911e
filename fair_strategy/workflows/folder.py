"""Offline: score a folder of scans into a table, here or on a cluster."""

import csv
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from fair_strategy.config import StudySettings
from fair_strategy.data import bids
from fair_strategy.data.bids import Scan
from fair_strategy.data.cohort import Cohort, CohortError
from fair_strategy.data.grids import VolumeError
from fair_strategy.data.volumes import Volume
from fair_strategy.learning.checkpoint import Model
from fair_strategy.learning.prediction import Prediction
from fair_strategy.workflows.assessment import Assessment, assess
from fair_strategy.workflows.executors import Killed, Workers, as_finished
from fair_strategy.workflows.flow import Why
from fair_strategy.workflows.models import ModelFile
from fair_strategy.workflows.outcomes import predict_volume, read_scan, too_large_is_told
from fair_strategy.workflows.pace import pace_on
from fair_strategy.workflows.pipeline import Pipeline
from fair_strategy.workflows.study import score_settings_hash
from fair_strategy.workflows.tables import COLUMNS, ENTROPIES, NO_SCANS, read_scores
from fair_strategy.workflows.work import Work


@dataclass(frozen=True)
class FolderReport:
    """How many scans were scored now, were scored before, and could not be read (id -> why)."""

    scored: int
    kept: int
    unreadable: dict[str, str]


def score_folder(
    images_dir: Path,
    cohort: Cohort,
    model: ModelFile,
    settings: StudySettings,
    out: Path,
    *,
    workers: Workers | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FolderReport:
    """Score every scan of a folder into a TSV, a row as soon as it is known.

    Rows of the same scan, model and settings are kept: a second run goes on where one stopped.
    Their subgroups are told anew from `cohort`. A scan that fails is reported, the rest goes on.
    In the end the rows stand in the order of the scans, whoever was first.

    Args:
        workers: where scans are scored; None for this process, see pace.pace_on. The table is
            written here alone.
        progress: called with (done, total) after each scan.
    Raises:
        CohortError: if there is no scan, no folder for `out`, or `out` is not such a table.
        WorkersLost: if all workers are gone; rows that came back are in the table.
    """
    if not out.parent.is_dir():
        raise CohortError(f"{out}: expected a folder to write into, {out.parent} is none")
    scans = bids.walk(images_dir.absolute())
    if not scans:
        raise CohortError(f"{images_dir}: {NO_SCANS}")
    kept = _kept_rows(out, scans, cohort, (model.checksum, score_settings_hash(settings)))
    done = {row["case_id"] for row in kept}
    unreadable: dict[str, str] = {}
    _start_table(out, kept)
    todo = [scan for scan in scans if scan.case_id not in done]
    with out.open("a", encoding="utf-8", newline="") as file:
        table = _writer(file)
        for number, (scan, found) in enumerate(_measured(todo, model, settings, workers), start=1):
            if isinstance(found, Assessment):
                table.writerow(_row(scan, found, cohort, model, settings))
                file.flush()
            else:
                unreadable[scan.case_id] = _told(scan, str(found))
            if progress:
                progress(len(kept) + number, len(scans))
    _put_in_order(out, [scan.case_id for scan in scans])
    return FolderReport(len(todo) - len(unreadable), len(kept), unreadable)


def measure(work: Work) -> Assessment | str:
    """The assessment of one scan, or why there is none; reads, and writes nothing.

    Raises:
        StudyError: if the worker does not fit the work.
        ModelError: if the model cannot be loaded here.
    """
    model, settings = work.begin(), work.settings
    try:
        volume = _read(work.path)
        prediction = predict_volume(model, volume, settings, name=work.case_id)
        return _assessed(work.case_id, prediction, settings)
    except VolumeError as error:
        return str(error)


def _read(path: Path) -> Volume:
    try:
        return read_scan(path)
    except OSError as error:
        where = "cannot be read where it was to be scored"
        raise VolumeError(f"{where} ({error.strerror})") from error


def _assessed(name: str, prediction: Prediction, settings: StudySettings) -> Assessment:
    with too_large_is_told(name, prediction):
        return assess(prediction, settings)


def _kept_rows(
    out: Path, scans: list[Scan], cohort: Cohort, key: tuple[str, str]
) -> list[dict[str, str]]:
    current = {(scan.case_id, scan.fingerprint, *key): scan.subject_id for scan in scans}
    rows = [row for row in (read_scores(out) if out.exists() else []) if _key(row) in current]
    # the key is of the score alone: who belongs to which subgroup may have changed since
    for row in rows:
        row["subject_id"] = current[_key(row)]
        row["subgroup"] = cohort.subgroup(row["subject_id"])
    return rows


def _measured(
    scans: list[Scan], model: ModelFile, settings: StudySettings, workers: Workers | None
) -> Iterator[tuple[Scan, Assessment | Why]]:
    if workers is None:
        yield from _measured_here(scans, model.load(), settings)
        return
    by_id = {scan.case_id: scan for scan in scans}
    todo = (
        Work(scan.case_id, scan.path, scan.fingerprint, model, settings, workers.threads)
        for scan in scans
    )
    for work, found in as_finished(workers, measure, todo):
        yield by_id[work.case_id], found.reason if isinstance(found, Killed) else found


def _measured_here(
    scans: list[Scan], model: Model, settings: StudySettings
) -> Iterator[tuple[Scan, Assessment | Why]]:
    def read(scan: Scan) -> Volume:
        return _read(scan.path)

    def reduce(scan: Scan, prediction: Prediction) -> Assessment:
        return _assessed(scan.case_id, prediction, settings)

    return Pipeline(model, settings, read, reduce).run(scans, pace_on(model.device, settings))


def _told(scan: Scan, reason: str) -> str:
    return reason if str(scan.path) in reason else f"{scan.path}: {reason}"


def _row(
    scan: Scan, found: Assessment, cohort: Cohort, model: ModelFile, settings: StudySettings
) -> dict[str, Any]:
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


def _put_in_order(out: Path, case_ids: list[str]) -> None:
    rows = read_scores(out)
    place = {case_id: number for number, case_id in enumerate(case_ids)}
    ordered = sorted(rows, key=lambda row: place[row["case_id"]])
    if ordered != rows:
        _start_table(out, ordered)


def _key(row: Mapping[str, str]) -> tuple[str, str, str, str]:
    return row["case_id"], row["fingerprint"], row["model"], row["settings"]


def _text(value: float) -> str:
    return "n/a" if math.isnan(value) else repr(value)
