"""Cases that stand for many others: greedy k-center, and random batches."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ROWS_AT_ONCE = 512
"""So many differences stay in the cache of a core until they are squared."""


def k_center_greedy(
    features: ArrayLike, chosen: ArrayLike, *, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Order in which each next point is the farthest from all centres: those chosen and picked.

    After `count` picks, which become centres one by one, the others follow by their distance to
    the nearest centre, farthest first: the work is O((M + count) N D), the memory O(N D).

    Args:
        features: (N, D), finite.
        chosen: (M, D), finite: centres from the start. Without any, the first pick is random.
        count: of the greedy picks, 0 or more; more than N counts as N.
        rng: breaks ties and draws the first pick where nothing is chosen.
    Returns:
        (N,) indices, each once, and (N,) Euclidean distances of these points to their nearest
        centre when they were placed; inf for a pick before there was any centre.
    Raises:
        ValueError: if the two are not of that shape, or not finite, or count is negative.
    References:
        Sener and Savarese 2018, arXiv:1708.00489, algorithm 1; docs/method.md#other-strategies.
    """
    points, centres = _points(features, "features"), _points(chosen, "chosen")
    if len(centres) and len(points) and centres.shape[1] != points.shape[1]:
        raise ValueError(f"features have {points.shape[1]} columns and chosen {centres.shape[1]}")
    if count < 0:
        raise ValueError(f"count must be 0 or more, got {count!r}")
    if not len(points):
        return np.empty(0, np.int64), np.empty(0)
    turn = rng.permutation(len(points))  # argmax takes the first of equal ones
    points = points[turn]
    squared = np.full(len(points), np.inf)
    scratch = np.empty_like(points[:_ROWS_AT_ONCE])
    for centre in centres:
        _draw_near(squared, points, centre, scratch)
    picks, reached = _pick(squared, points, min(count, len(points)), scratch)
    rest = np.argsort(-squared, kind="stable")[: len(points) - len(picks)]
    order = np.concatenate([picks, rest])
    return turn[order], np.sqrt(np.concatenate([reached, squared[rest]]))


def random_batches(size: int, number: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """The indices 0 to number - 1 at random, cut into batches of `size`; the last may be smaller.

    Raises:
        ValueError: if size is below 1.
    """
    if size < 1:
        raise ValueError(f"size must be 1 or more, got {size!r}")
    order = rng.permutation(number)
    return [order[start : start + size] for start in range(0, number, size)]


def _points(values: ArrayLike, name: str) -> NDArray[np.floating]:
    array = np.asarray(values)
    if array.size == 0:
        return np.empty((len(array), array.shape[1] if array.ndim == 2 else 0), np.float32)
    array = array.astype(np.result_type(array.dtype, np.float32), copy=False)
    if array.ndim != 2 or array.dtype.kind != "f" or not np.isfinite(array).all():
        raise ValueError(f"{name} must be (N, D) and finite, got shape {array.shape}")
    return array


def _pick(
    squared: NDArray[np.float64],
    points: NDArray[np.floating],
    count: int,
    scratch: NDArray[np.floating],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The farthest `count` times; in `squared`, picked ones are marked by -1 for the rest."""
    picks, reached = np.empty(count, np.int64), np.empty(count)
    for place in range(count):
        pick = int(np.argmax(squared))
        picks[place], reached[place] = pick, squared[pick]
        _draw_near(squared, points, points[pick], scratch)
        squared[pick] = -1.0
    return picks, reached


def _draw_near(
    squared: NDArray[np.float64],
    points: NDArray[np.floating],
    centre: NDArray[np.floating],
    scratch: NDArray[np.floating],
) -> None:
    # By differences: |p|^2 - 2 p c + |c|^2 would lose small distances and break exact ties.
    for start in range(0, len(points), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        apart = scratch[: len(points[some])]
        np.subtract(points[some], centre, out=apart)
        np.minimum(squared[some], np.einsum("nd,nd->n", apart, apart), out=squared[some])
