"""What chance alone gives: a statistic of groups after the labels were dealt out anew."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fair_strategy.metrics.checks import as_finite, as_labels
from fair_strategy.metrics.fairness import gap_of_means

Statistic = Callable[[NDArray[np.float64], NDArray[np.str_]], float]
_TIE = 1e-9  # of the largest; sums in another order differ by less


@dataclass(frozen=True, eq=False)
class PermutationNull:
    """A statistic of groups beside what exchangeable labels give.

    Attributes:
        observed: the statistic with the true labels.
        p: chance of a statistic as large or larger if labels do not matter; NaN where `observed`
            is.
        null: (D,), the statistic of each dealing where it is defined.
        exact: True if `null` holds every dealing (the true one among them) once.
        undefined: number of dealings whose statistic is NaN; they are left out of `null`.
    """

    observed: float
    p: float
    null: NDArray[np.float64]
    exact: bool
    undefined: int


def mean_gap(rows: NDArray[np.float64], labels: NDArray[np.str_]) -> float:
    """Best group's mean minus worst group's mean: `fairness.gap` of checked input."""
    return float(gap_of_means([rows[labels == name].mean() for name in np.unique(labels)]))


def permutation_null(
    rows: ArrayLike,
    groups: Iterable[object],
    *,
    rng: np.random.Generator,
    statistic: Statistic = mean_gap,
    draws: int = 1000,
    exact_limit: int = 5000,
) -> PermutationNull:
    """Distribution of a statistic when the labels are dealt out anew, group sizes kept.

    Exact where there are at most `exact_limit` different dealings, N! / prod_g n_g!: p is the share
    of them at or above the observed statistic, which is one of them. Else sampled:
    p = (1 + number at or above) / (1 + draws), which is never 0 and keeps its level.

    Args:
        rows: (N,) or (N, M), finite: what the statistic needs of each case. All of a row stays
            together, so an uncertainty can be a column.
        groups: N subgroup labels, of two groups or more. Labels must be exchangeable between rows:
            several scans of one person are one row.
        rng: the only source of randomness; unused where the null is exact.
        statistic: from rows and labels, (N,) of text, to one number, the larger the more unequal;
            by default the gap of the groups' means. May give NaN.
        draws: number of dealings where sampled, 1 or more.
        exact_limit: largest number of dealings that is gone through; 0 for always sampling.
    Raises:
        ValueError: if rows are empty, NaN or infinite, are not as many as the labels, a label is
            None or NaN, there is one group only, or draws is below 1.
    References:
        Phipson and Smyth 2010, doi:10.2202/1544-6115.1585.
    """
    values = as_finite(rows, name="rows")
    if values.ndim not in (1, 2):
        raise ValueError(f"rows must be (N,) or (N, M), got shape {values.shape}")
    labels = as_labels(groups, n=len(values), name="rows")
    if draws < 1:
        raise ValueError(f"draws must be 1 or more, got {draws}")
    names, sizes = np.unique(labels, return_counts=True)
    if names.size < 2:
        raise ValueError(f"a gap needs two groups or more, got {names.tolist()} alone")
    exact = _dealings(sizes.tolist()) <= exact_limit
    dealt = (
        _all_dealings(names, sizes) if exact else (rng.permutation(labels) for _ in range(draws))
    )
    observed = float(statistic(values, labels))
    null = np.array([float(statistic(values, dealing)) for dealing in dealt])
    defined = null[~np.isnan(null)]
    return PermutationNull(
        observed, _p_value(observed, defined, exact), defined, exact, null.size - defined.size
    )


def _p_value(observed: float, null: NDArray[np.float64], exact: bool) -> float:
    if np.isnan(observed):
        return float("nan")
    slack = _TIE * np.abs(null).max(initial=0.0)
    above = int((null >= observed - slack).sum())
    return above / null.size if exact else (1 + above) / (1 + null.size)


def _dealings(sizes: list[int]) -> int:
    number, left = 1, sum(sizes)
    for size in sizes:
        number *= math.comb(left, size)
        left -= size
    return number


def _all_dealings(names: NDArray[np.str_], sizes: NDArray[np.int64]) -> Iterator[NDArray[np.str_]]:
    """Every different order of the labels, once."""
    labels = np.empty(int(sizes.sum()), names.dtype)

    def deal(group: int, free: tuple[int, ...]) -> Iterator[NDArray[np.str_]]:
        if group == names.size:
            yield labels.copy()
            return
        for own in combinations(free, int(sizes[group])):
            labels[list(own)] = names[group]
            yield from deal(group + 1, tuple(place for place in free if place not in own))

    yield from deal(0, tuple(range(labels.size)))
