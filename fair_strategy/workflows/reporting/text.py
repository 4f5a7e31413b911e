"""Words, numbers and tables as people read them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

NOTHING = "–"
NBSP = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Table:
    """A table of text; the first `words` columns are words, the others numbers."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


def percent(value: float) -> str:
    """0.756 as 76 %."""
    return NOTHING if np.isnan(value) else f"{100 * value:.0f}{NBSP}%".replace("-", "−")


def three(value: float) -> str:
    """Three decimals."""
    return number(value, 3)


def signed(value: float) -> str:
    """Three decimals and a sign."""
    return number(value, 3, sign=True)


def number(value: float, decimals: int, *, sign: bool = False) -> str:
    """A number as people read it; a dash for NaN."""
    if np.isnan(value):
        return NOTHING
    if np.isinf(value):
        return "∞"
    text = f"{value:+.{decimals}f}" if sign else f"{value:.{decimals}f}"
    return text.replace("-", "−")


def interval(low: float, high: float, form: Callable[[float], str]) -> str:
    """Low to high, or that it is not known."""
    if np.isnan(low) or np.isnan(high):
        return "not known"
    return f"{form(low).removesuffix(f'{NBSP}%')} to {form(high)}"


def p_value(p: float) -> str:
    """Two digits, at most four decimals."""
    return NOTHING if np.isnan(p) else f"{p:.2g}" if p >= 0.0001 else "< 0.0001"


def spoken(name: str) -> str:
    """A name as people read it: without underscores."""
    return name.replace("_", " ")


def listed(names: Iterable[str]) -> str:
    """Words in a sentence: a, b and c."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
