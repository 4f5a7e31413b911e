"""What the readings and the tables of a report share: rows, tests, figures with intervals."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fair_strategy.workflows.reporting.text import (
    NOTHING,
    interval,
)
from fair_strategy.workflows.simulation.analysis import Analysis


def with_interval(row: Any, name: str, form: Callable[[float], str]) -> str:
    """A figure and its interval; a dash where it is not known."""
    if np.isnan(row[name]):
        return NOTHING
    return f"{form(row[name])}{interval_of(row, name, form)}"


def interval_of(row: Any, name: str, form: Callable[[float], str]) -> str:
    """The interval of a figure in parentheses, after a space; nothing where it is not known."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if np.isnan(low) or np.isnan(high) else f" ({interval(low, high, form)})"


def rows_of(analysis: Analysis, bias: str, start: str) -> dict[str, Any]:
    """Arm -> its row of the summary, in one setting."""
    summary = analysis.summary
    own = summary[(summary.bias == bias) & (summary.start == start)]
    return {row.arm: row for _, row in own.iterrows()}


def paired_test(analysis: Analysis, own: Any, reference: str, measure: str) -> Any:
    """The paired test of an arm's row against a reference."""
    tests = analysis.tests
    tests = tests[(tests.bias == own.bias) & (tests.start == own.start) & (tests.arm == own.arm)]
    return tests[(tests.reference == reference) & (tests.measure == measure)].iloc[0]


def setting_name(bias: str, start: str) -> str:
    """A setting in words."""
    return f"{bias.capitalize()} bias, {start} start"
