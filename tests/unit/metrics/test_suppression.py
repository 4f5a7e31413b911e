"""Small cells stay hidden, also from whoever subtracts."""

import itertools

import numpy as np
import pytest

from fair_strategy.metrics.suppression import suppressed, tells_nobody_apart


def candidates(counts: np.ndarray, hidden: np.ndarray) -> list[np.ndarray]:
    """Every table of whole numbers that has the totals of counts and the cells that are shown."""
    free = np.argwhere(hidden)
    limits = [_limit(counts, place) for place in free]
    found = []
    for values in itertools.product(*(range(limit + 1) for limit in limits)):
        table = np.where(hidden, 0, counts)
        table[tuple(free.T)] = values
        same = (
            table.sum() == counts.sum()
            if counts.ndim == 1
            else (
                (table.sum(axis=0) == counts.sum(axis=0)).all()
                and (table.sum(axis=1) == counts.sum(axis=1)).all()
            )
        )
        if same:
            found.append(table)
    return found


def _limit(counts: np.ndarray, place: np.ndarray) -> int:
    if counts.ndim == 1:
        return int(counts.sum())
    return int(min(counts[place[0]].sum(), counts[:, place[1]].sum()))


def test_one_small_cell_takes_the_smallest_other_with_it():
    # 3 of 20 is small. Shown alone as hidden it would be 20 - 9 - 8 = 3; with 8 hidden it is open.
    assert suppressed([3, 9, 8], minimum=5).tolist() == [True, False, True]


def test_two_small_cells_cover_each_other():
    assert suppressed([3, 9, 2], minimum=5).tolist() == [True, False, True]


def test_nothing_small_hides_nothing_and_zero_is_shown():
    assert not suppressed([0, 5, 9], minimum=5).any()
    assert not suppressed([[0, 5], [9, 6]], minimum=5).any()


def test_a_minimum_of_one_hides_nothing():
    assert not suppressed([1, 2, 3], minimum=1).any()


def test_a_small_cell_of_a_table_takes_the_cheapest_rectangle():
    # Hidden alone, row and column give 2 away. Rectangles with it: over columns (0, 1) and row 1:
    # 10 + 30 + 20 = 60; over columns (0, 2): 8 + 30 + 6 = 44, the fewest cases.
    counts = [[2, 10, 8], [30, 20, 6]]
    assert suppressed(counts, minimum=5).tolist() == [[True, False, True], [True, False, True]]


def test_a_cell_that_is_zero_by_its_total_is_no_cover():
    # Nobody is excluded: that column's total is 0, so its zeros are known and cover nothing.
    counts = [[2, 10, 0], [30, 20, 0]]
    assert suppressed(counts, minimum=5).tolist() == [[True, True, False], [True, True, False]]


def test_two_cells_in_a_column_are_not_enough_where_the_rows_give_them_away():
    counts = np.array([[2, 10], [3, 20]])
    # Each row has one hidden cell: 12 - 10 = 2.
    assert suppressed(counts, minimum=5).all()


def test_one_cell_alone_is_hidden_although_nothing_can_cover_it():
    assert suppressed([[3]], minimum=5).tolist() == [[True]]
    assert suppressed([3], minimum=5).tolist() == [True]


@pytest.mark.parametrize("shape", [(3,), (4,), (2, 2), (2, 3), (3, 2)])
def test_no_small_cell_can_be_worked_out_from_what_is_shown(shape):
    rng = np.random.default_rng(3)
    tables_with_a_small_cell = 0
    for _ in range(8):
        counts = rng.integers(0, 5 if len(shape) == 2 else 9, shape)
        hidden = suppressed(counts, minimum=3)
        possible = candidates(counts, hidden)
        everything = candidates(counts, np.ones_like(hidden))
        for place in zip(*np.nonzero((counts > 0) & (counts < 3)), strict=True):
            assert hidden[place]
            if len({int(table[place]) for table in everything}) == 1:
                continue  # the totals alone give it away
            tables_with_a_small_cell += 1
            assert len({int(table[place]) for table in possible}) > 1
    assert tables_with_a_small_cell > 3


@pytest.mark.parametrize("counts", [[[[1]]], [-1, 2], [0.5, 1], [np.nan, 1]])
def test_what_is_no_table_of_counts_is_refused(counts):
    with pytest.raises(ValueError, match="counts must"):
        suppressed(counts, minimum=5)


@pytest.mark.parametrize(
    ("after", "allowed"),
    [("abc", True), ("abcd", False), ("bcd", False), ("abcdefgh", True), ("fghij", True)],
)
def test_sets_that_differ_by_one_to_four_tell_these_apart(after, allowed):
    # From {a, b, c}: none changed; d; a and d; five came; three went and five came.
    assert tells_nobody_apart("abc", after, minimum=5) is allowed
