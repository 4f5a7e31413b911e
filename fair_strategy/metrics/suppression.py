"""Which cells of a table of counts to hide, so that no small cell can be read or worked out."""

from collections.abc import Collection, Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog

Counts = NDArray[np.float64]
Mask = NDArray[np.bool_]


def suppressed(counts: ArrayLike, *, minimum: int) -> Mask:
    """Cells to hide: those of 1 to minimum - 1 cases, and others that would give these away.

    Whoever looks knows the total of the table (one axis), or of each row and each column (two),
    and that a count is not negative. A small cell stays hidden if it could then be more than one
    number. Zeros are shown, since an absent subgroup is a finding, unless one is needed as cover.

    Args:
        counts: (G,) or (G, C), whole numbers, 0 or more.
        minimum: the smallest count that may be shown; 1 or less hides nothing.

    Returns:
        A mask of the shape of counts. Of all covers of a cell the one of fewest cases is taken;
        where none helps, everything is hidden. A table of one cell has no cover: its total is it.

    Raises:
        ValueError: for another number of axes, or counts that are negative or not whole.

    References:
        Gusfield 1988, doi:10.1137/0217034: in a table with margins a cell is protected if and
        only if it can take two values.
    """
    table = _checked(counts)
    small = (table > 0) & (table < minimum)
    hidden = small.copy()
    for place in map(tuple, np.argwhere(small)):
        if _is_known(table, hidden, place):
            hidden = _covered(table, hidden, place)
    return hidden


def tells_nobody_apart(before: Collection[str], after: Collection[str], *, minimum: int) -> bool:
    """Whether two sets differ by no case, or by at least `minimum` of them.

    Two tables, one of each set, subtracted from one another then count no fewer cases than one
    table may.
    """
    changed = len(set(before) ^ set(after))
    return changed == 0 or changed >= minimum


def _checked(counts: ArrayLike) -> Counts:
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim not in (1, 2):
        raise ValueError(f"counts must have one or two axes, got shape {table.shape}")
    if not np.isfinite(table).all() or (table < 0).any() or (table != np.floor(table)).any():
        raise ValueError("counts must be whole numbers, 0 or more")
    return table


def _covered(table: Counts, hidden: Mask, place: tuple[int, ...]) -> Mask:
    """The mask with the cheapest further cells that leave `place` open; all cells if none do."""
    found: list[tuple[float, Mask]] = []
    for cover in _covers(table.shape, place):
        wider = hidden.copy()
        for cell in cover:
            wider[cell] = True
        cost = float(table[wider & ~hidden].sum())
        if not any(cost >= other for other, _ in found) and not _is_known(table, wider, place):
            found.append((cost, wider))
    everything = np.ones_like(hidden)
    return min(found, key=lambda pair: pair[0], default=(0.0, everything))[1]


def _covers(shape: tuple[int, ...], place: tuple[int, ...]) -> Iterator[Sequence[tuple[int, ...]]]:
    """Sets of cells that form a cycle with `place` through the totals of the table."""
    others = [[i for i in range(n) if i != own] for n, own in zip(shape, place, strict=True)]
    if len(shape) == 1:
        yield from ([(i,)] for i in others[0])
    else:
        row, column = place
        yield from ([(row, j), (i, column), (i, j)] for i, j in product(*others))


def _is_known(table: Counts, hidden: Mask, place: tuple[int, ...]) -> bool:
    """Whether the totals and the cells shown leave one value for a hidden cell."""
    cells = np.argwhere(hidden)
    sums, totals = _equations(table, hidden, cells)
    target = (cells == np.array(place)).all(axis=1).astype(np.float64)
    ends = []
    for sign in (1.0, -1.0):
        solved = linprog(sign * target, A_eq=sums, b_eq=totals, bounds=(0, None), method="highs")
        if solved.fun is None:
            raise RuntimeError(f"a table with its own totals has no solution: {solved.message}")
        ends.append(sign * float(solved.fun))
    return bool(ends[1] - ends[0] < 0.5)


def _equations(table: Counts, hidden: Mask, cells: NDArray[np.intp]) -> tuple[Counts, Counts]:
    """One row for each total: which hidden cells it sums, and to what."""
    left = np.where(hidden, table, 0.0)
    if table.ndim == 1:
        return np.ones((1, len(cells))), np.array([left.sum()])
    lines = [cells[:, axis] == line for axis, n in enumerate(table.shape) for line in range(n)]
    return np.array(lines, dtype=np.float64), np.concatenate([left.sum(axis=1), left.sum(axis=0)])
