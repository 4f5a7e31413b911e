"""Between Python values and columns: JSON text, NaN, NumPy scalars."""

import json
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np


class WrittenOften(dict[str, Any]):
    """Values that go into several rows: their text is made once. Not to be changed afterwards."""

    @cached_property
    def text(self) -> str:
        """The JSON text."""
        return _ENCODER.encode(self)


def to_json(value: Any) -> str:
    """Compact JSON text; NumPy scalars and arrays as plain numbers, NaN as `NaN`."""
    if isinstance(value, WrittenOften):
        return value.text
    return _ENCODER.encode(value)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON")


_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=_plain)


def number_or_null(value: float) -> float | None:
    """A float for a REAL column: SQLite has no NaN, it stands as NULL."""
    return None if math.isnan(value) else float(value)


def null_to_nan(value: float | None) -> float:
    """The float of a REAL column in which NULL stands for NaN."""
    return math.nan if value is None else value
