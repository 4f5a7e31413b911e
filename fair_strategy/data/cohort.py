"""participants.tsv -> the subgroup of each subject."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

UNKNOWN = "unknown"
DEFAULT_FEATURE = "group"
DEFAULT_AGE_BINS = (0.0, 60.0, 70.0, 200.0)
_ID = "participant_id"
_AGE, _AGE_GROUP = "age", "age_group"
_MISSING = frozenset({"", "n/a", "nan", UNKNOWN})


class CohortError(ValueError):
    """An input folder or table is not what it must be; the sentence says where and what to do."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """Subgroup of each subject of a study.

    Attributes:
        features: the sensitive features in use; empty when fairness weighting is off.
        subgroups: participant_id as written in the table -> subgroup, or 'unknown'.
        columns: the columns of the table, empty without a table.
    """

    features: tuple[str, ...] = ()
    subgroups: Mapping[str, str] = field(default_factory=dict, repr=False)
    columns: tuple[str, ...] = ()

    def subgroup(self, subject_id: str) -> str:
        """Subgroup of a subject, whose id may come with or without 'sub-'; 'unknown' if untold."""
        for name in (subject_id, f"sub-{subject_id}", _bare(subject_id)):
            if name in self.subgroups:
                return self.subgroups[name]
        return UNKNOWN

    @property
    def known_groups(self) -> tuple[str, ...]:
        """Subgroups that the table names, sorted; 'unknown' is not one of them."""
        return tuple(sorted(set(self.subgroups.values()) - {UNKNOWN}))

    @property
    def fairness_on(self) -> bool:
        """Whether a sensitive feature is in use."""
        return bool(self.features)

    def count_unknown(self, subject_ids: Iterable[str]) -> int:
        """Number of the given ids whose subgroup is 'unknown'; an id given twice counts twice."""
        return sum(self.subgroup(subject_id) == UNKNOWN for subject_id in subject_ids)

    def without_scan(self, subject_ids: Collection[str]) -> tuple[str, ...]:
        """Participants of the table that are none of the given subjects, in the table's order."""
        scanned = {_bare(subject_id) for subject_id in subject_ids}
        return tuple(name for name in self.subgroups if _bare(name) not in scanned)


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Table:
    path: Path
    columns: tuple[str, ...]
    rows: tuple[_Row, ...]

    def error(self, line: int, sentence: str) -> CohortError:
        return CohortError(f"{self.path.name} line {line}: {sentence} (file: {self.path})")


def load_cohort(
    participants_tsv: Path | None,
    *,
    sensitive_feature: Sequence[str] | None = None,
    age_bins: Sequence[float] = DEFAULT_AGE_BINS,
) -> Cohort:
    """The cohort that a participants.tsv describes, by the chosen sensitive features.

    Args:
        participants_tsv: tab-separated UTF-8 (a byte order mark and CRLF are fine); None if the
            study has no such table, which puts everybody into 'unknown'.
        sensitive_feature: names of columns; several make intersections ('F / 60-70'). 'age_group'
            is made from the column 'age' unless the table has a column of that name. None means
            the column 'group' where there is one, and no feature otherwise.
        age_bins: rising edges; an age belongs to [lower, upper). '89+' as BIDS writes it is
            accepted where its bin is the last one.
    Returns:
        A cohort; a value that is missing (n/a, nan, unknown or nothing) makes 'unknown', for an
        intersection too.
    Raises:
        CohortError: the table cannot be read, or a named feature is not in it. An age that is
            wrong is shown with its line, without its subject: the sentence may end up in a log.
        TypeError: sensitive_feature is one string.
    """
    if isinstance(sensitive_feature, str):
        raise TypeError(f"sensitive_feature must be a sequence of names, not {sensitive_feature!r}")
    edges = _checked_bins(age_bins)
    if participants_tsv is None:
        if sensitive_feature:
            raise CohortError(
                f"sensitive feature {', '.join(map(repr, sensitive_feature))} was asked for, but "
                "the study has no participants.tsv; add one, or leave sensitive_feature out"
            )
        return Cohort()
    table = _read_table(participants_tsv)
    features = _chosen(sensitive_feature, table)
    return Cohort(features, _subgroups(table, features, edges), table.columns)


def _bare(subject_id: str) -> str:
    return subject_id.removeprefix("sub-")


def _checked_bins(age_bins: Sequence[float]) -> tuple[float, ...]:
    edges = tuple(float(edge) for edge in age_bins)
    if len(edges) < 2 or not all(low < high for low, high in pairwise(edges)):
        raise CohortError(f"age_bins must be at least two rising numbers, got {list(age_bins)}")
    return edges


def _read_table(path: Path) -> _Table:
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, delimiter="\t", strict=True)
            lines = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise CohortError(
            f"{path} is not UTF-8 (byte {error.object[error.start]:#04x} at position "
            f"{error.start}); save it as UTF-8"
        ) from error
    except csv.Error as error:
        raise CohortError(f"{path} line {reader.line_num}: {error}; check the quotes") from error
    except OSError as error:
        raise CohortError(f"cannot read {path}: {error.strerror or error}") from error
    filled = [
        (line, [cell.strip() for cell in row]) for line, row in lines if any(map(str.strip, row))
    ]
    if not filled:
        raise CohortError(f"{path} is empty; its first line must name the columns, one '{_ID}'")
    columns = _checked_header(path, *filled[0])
    table = _Table(path, columns, ())
    return _Table(path, columns, tuple(_checked_rows(table, filled[1:])))


def _checked_header(path: Path, line: int, cells: list[str]) -> tuple[str, ...]:
    where = f"{path.name} line {line}"
    if len(cells) == 1 and cells[0] != _ID:
        raise CohortError(
            f"{where}: the header {cells[0]!r} holds no tab; columns must be separated by tabs, "
            f"not by commas, semicolons or spaces (file: {path})"
        )
    if _ID not in cells:
        raise CohortError(
            f"{where}: no column '{_ID}' among {', '.join(cells)}; name the column of the "
            f"subject ids so (file: {path})"
        )
    twice = sorted({cell for cell in cells if cells.count(cell) > 1})
    if twice:
        raise CohortError(f"{where}: column {twice[0]!r} stands there twice (file: {path})")
    return tuple(cells)


def _checked_rows(table: _Table, lines: list[tuple[int, list[str]]]) -> Iterator[_Row]:
    seen: dict[str, int] = {}
    for line, cells in lines:
        if len(cells) != len(table.columns):
            raise table.error(
                line,
                f"{len(cells)} values where the header names {len(table.columns)} columns; "
                "separate values by tabs and write n/a for a missing one",
            )
        row = _Row(line, dict(zip(table.columns, cells, strict=True)))
        name = row.values[_ID]
        if name.casefold() in _MISSING:
            raise table.error(line, f"no {_ID}; write the subject's id, or remove the line")
        first = seen.setdefault(_bare(name), line)
        if first != line:
            raise table.error(
                line, f"{name} stands in line {first} already; keep one line a subject"
            )
        yield row


def _chosen(sensitive_feature: Sequence[str] | None, table: _Table) -> tuple[str, ...]:
    if sensitive_feature is None:
        return (DEFAULT_FEATURE,) if DEFAULT_FEATURE in table.columns else ()
    there = [name for name in table.columns if name != _ID]
    if _AGE in there and _AGE_GROUP not in there:
        there.append(_AGE_GROUP)
    absent = [name for name in sensitive_feature if name not in there]
    if absent:
        raise CohortError(
            f"sensitive feature {', '.join(map(repr, absent))} is no column of {table.path}; "
            f"choose among: {', '.join(there) or 'none, the table has ids only'}"
        )
    return tuple(dict.fromkeys(sensitive_feature))


def _subgroups(
    table: _Table, features: tuple[str, ...], edges: tuple[float, ...]
) -> dict[str, str]:
    subgroups = {}
    for row in table.rows:
        values = [_value(table, row, feature, edges) for feature in features]
        known = bool(values) and UNKNOWN not in values
        subgroups[row.values[_ID]] = " / ".join(values) if known else UNKNOWN
    return subgroups


def _value(table: _Table, row: _Row, feature: str, edges: tuple[float, ...]) -> str:
    derived = feature == _AGE_GROUP and feature not in table.columns
    text = row.values[_AGE if derived else feature]
    if text.casefold() in _MISSING:
        return UNKNOWN
    return _age_group(table, row.line, text, edges) if derived else text


def _age_group(table: _Table, line: int, text: str, edges: tuple[float, ...]) -> str:
    capped = text.endswith("+")
    try:
        age = float(text.removesuffix("+"))
    except ValueError:
        age = math.nan
    if not math.isfinite(age):
        raise table.error(line, f"age {text!r} is not a number; write years, or n/a")
    for low, high in pairwise(edges):
        if low <= age < high and (not capped or high == edges[-1]):
            return f"{low:g}-{high:g}"
    raise table.error(
        line,
        f"age {text!r} is in none of the age bins {', '.join(f'{edge:g}' for edge in edges)}; "
        "correct it, or choose other age_bins",
    )
