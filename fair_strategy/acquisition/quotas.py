"""Places of a batch, shared out among the groups by weight."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def quotas(
    size: int,
    weights: Mapping[str, float],
    left: Mapping[str, int],
    rng: np.random.Generator,
    *,
    owed: Mapping[str, float] | None = None,
) -> dict[str, int]:
    """A batch's places shared out among the groups by weight, by largest remainder.

    Args:
        size: places, 0 or more.
        weights: of the groups.
        left: cases that each group still has; no group gets more, the rest goes to the others.
        rng: breaks ties of equal remainders.
        owed: places that earlier batches owe a group (below 0: gave it in advance), added to its
            share; a group that is missing is owed nothing.
    Returns:
        Places a group, with sum min(size, sum of left). Groups of weight 0 get places only when no
        other group has cases, and then equally.
    """
    exact = exact_shares(size, weights, left)
    result = dict.fromkeys(exact, 0)
    due = {g: share + (owed or {}).get(g, 0.0) for g, share in exact.items() if share > 0}
    ties = dict(zip(due, rng.permutation(len(due)).tolist(), strict=True))
    # Whole places first, in one step, as far as nobody gets more than is there.
    for group, places in due.items():
        result[group] = min(max(int(np.floor(round(places, 9))), 0), left[group])
    missing = min(size, sum(left.values())) - sum(result.values())
    while missing:
        step = 1 if missing > 0 else -1
        free = [g for g in due if 0 <= result[g] + step <= left[g]]
        # Rounded, so that equal remainders tie.
        group = max(free, key=lambda g: (step * round(due[g] - result[g], 9), ties[g]))
        result[group] += step
        missing -= step
    return result


def exact_shares(
    size: int, weights: Mapping[str, float], left: Mapping[str, int]
) -> dict[str, float]:
    """A batch's places shared out by weight, as fractions; arguments as in `quotas`.

    Returns:
        Places a group, sorted by name, at most `left`, with sum min(size, sum of left).
    """
    result = dict.fromkeys(sorted(left), 0.0)
    waiting = [group for group in result if left[group] > 0]
    rest = float(size)
    while waiting:
        exact = dict(zip(waiting, (rest * shares(weights, waiting)).tolist(), strict=True))
        full = [group for group in waiting if exact[group] >= left[group]]
        if not full:
            return result | exact
        for group in full:
            result[group] = float(left[group])
            rest -= left[group]
        waiting = [group for group in waiting if group not in full]
    return result


def shares(weights: Mapping[str, float], names: Sequence[str]) -> NDArray[np.float64]:
    """Weight over the sum of the weights, of the groups that are named; equal if that sum is 0."""
    own = np.array([weights[name] for name in names], dtype=np.float64)
    total = own.sum()
    return own / total if total > 0 else np.full(len(names), 1 / len(names))
