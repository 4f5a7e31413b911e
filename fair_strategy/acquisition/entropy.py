"""Entropy of a segmentation, per voxel and per case."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

from fair_strategy.metrics.checks import as_mask

SUM_TOLERANCE = 1e-3  # float16 probabilities of a softmax keep it
_RANGE_TOLERANCE = 1e-6  # a float32 softmax may exceed 1 by its rounding
REDUCTIONS = ("mean", "sum", "per_boundary")


def predictive_entropy(probs: ArrayLike) -> NDArray[np.float64]:
    """Entropy of the mean prediction per voxel, H[E_r p(c | x, r)].

    Args:
        probs: (R, C, I, J, K), each in [0, 1], sum over C equal to 1 within 1e-3. Any float type;
            the maths is in float64.
    Returns:
        (I, J, K), in nats: 0 (certain) to ln C (uniform).
    Raises:
        ValueError: if probs has another rank, is not finite, leaves [0, 1], or does not sum to 1.
    References:
        Gal et al. 2017, arXiv:1703.02910; docs/method.md#entropy-of-a-case.
    """
    array = _checked(probs)
    average = np.zeros(array.shape[1:])
    for one_pass in array:
        average += _one_pass(one_pass)
    return _entropy(average / len(array))


def binary_entropy(foreground: NDArray[np.floating]) -> NDArray[np.floating]:
    """Entropy of two classes per voxel, given the probability of one: H(p, 1 - p).

    `predictive_entropy` of a single pass, in the type that comes and a tenth of the time.

    Args:
        foreground: any shape, float32 or float64, in [0, 1].
    Returns:
        The same shape and type, in nats: 0 (certain) to ln 2.
    Raises:
        ValueError: if it is not of such a type, not finite, or leaves [0, 1].
    """
    p = np.asarray(foreground)
    if p.dtype not in (np.float32, np.float64):
        raise ValueError(f"foreground must be float32 or float64, got dtype {p.dtype}")
    if p.size and not (p.min() >= 0 and p.max() <= 1):  # NaN fails it too
        raise ValueError(f"foreground must lie in [0, 1], got {p.min():g} to {p.max():g}")
    entropy = _x_log_x(p)
    entropy += _x_log_x(p.dtype.type(1) - p)
    np.negative(entropy, out=entropy)
    return np.minimum(entropy, np.log(2, dtype=p.dtype), out=entropy)


def _x_log_x(x: NDArray[np.floating]) -> NDArray[np.floating]:
    # 0 times any logarithm is the limit at 0; numpy's logarithm is vectorised, xlogy is not
    logarithm: NDArray[np.floating] = np.maximum(x, np.finfo(x.dtype).tiny)
    np.log(logarithm, out=logarithm)
    logarithm *= x
    return logarithm


def expected_entropy(probs: ArrayLike) -> NDArray[np.float64]:
    """Mean over the passes of the entropy of each, E_r H[p(c | x, r)].

    Args:
        probs: (R, C, I, J, K), as in `predictive_entropy`.
    Returns:
        (I, J, K), in nats: 0 to ln C; never above the predictive entropy.
    Raises:
        ValueError: as `predictive_entropy`.
    References:
        Gal et al. 2017, arXiv:1703.02910.
    """
    array = _checked(probs)
    total = np.zeros(array.shape[2:])
    for one_pass in array:
        total += _entropy(_one_pass(one_pass))
    return total / len(array)


def mutual_information(probs: ArrayLike) -> NDArray[np.float64]:
    """Predictive minus expected entropy per voxel (BALD): how far the passes disagree.

    Args:
        probs: (R, C, I, J, K), as in `predictive_entropy`.
    Returns:
        (I, J, K), in nats: 0 (passes agree, and wherever R is 1) to ln C.
    Raises:
        ValueError: as `predictive_entropy`.
    References:
        Houlsby et al. 2011, arXiv:1112.5745; Gal et al. 2017, arXiv:1703.02910.
    """
    difference = predictive_entropy(probs) - expected_entropy(probs)
    return np.maximum(difference, 0.0)  # below 0 by rounding only (Jensen)


def case_entropy(
    entropy_map: ArrayLike,
    *,
    roi: ArrayLike | None = None,
    reduction: str = "mean",
    boundary_area_mm2: float | None = None,
) -> float:
    """One number a case: the entropy map's mean, sum, or sum per boundary area, over a region.

    Args:
        entropy_map: (I, J, K), in nats, 0 or more.
        roi: boolean (or 0 and 1), the same shape; None for the whole volume.
        reduction: "mean" (nats: masked and scaled where a roi is given), "sum" (nats), or
            "per_boundary" (sum / boundary_area_mm2, nats per mm2).
        boundary_area_mm2: surface area of the predicted mask; "per_boundary" alone uses it.
    Returns:
        0 upwards. NaN where it is undefined: the mean over an empty roi, or a boundary of area 0.
    Raises:
        ValueError: if map or roi are not of that kind, for another reduction, or if "per_boundary"
            comes without an area.
    References:
        docs/method.md#entropy-of-a-case. Scaling does not by itself remove the size of the
        structure: see there.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    values = _in_region(entropy_map, roi)
    total = float(values.sum(dtype=np.float64))
    if reduction == "sum":
        return total
    divisor = values.size if reduction == "mean" else _area(boundary_area_mm2)
    return total / divisor if divisor else float("nan")


def _in_region(entropy_map: ArrayLike, roi: ArrayLike | None) -> NDArray[np.number]:
    array = np.asarray(entropy_map)
    if array.ndim != 3 or array.size == 0:
        raise ValueError(f"entropy_map must be (I, J, K) and not empty, got shape {array.shape}")
    if roi is not None:
        region = as_mask(roi, name="roi")
        if region.shape != array.shape:
            raise ValueError(f"roi must have the map's shape {array.shape}, got {region.shape}")
        array = array[region]
    if array.size and not (array.min() >= 0 and array.max() < np.inf):  # NaN fails it too
        raise ValueError("entropy_map must be finite and 0 or more; it holds NaN, inf or less")
    return array


def _area(boundary_area_mm2: float | None) -> float:
    if boundary_area_mm2 is None:
        raise ValueError("reduction 'per_boundary' needs boundary_area_mm2, got None")
    if not np.isfinite(boundary_area_mm2) or boundary_area_mm2 < 0:
        raise ValueError(f"boundary_area_mm2 must be 0 or more, got {boundary_area_mm2!r}")
    return float(boundary_area_mm2)


def _checked(probs: ArrayLike) -> NDArray[np.floating]:
    array = np.asarray(probs)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"probs must be real numbers, got dtype {array.dtype}")
    if array.ndim != 5 or array.size == 0:
        raise ValueError(
            f"probs must be (R, C, I, J, K) with no empty axis, got shape {array.shape}"
        )
    return array


def _one_pass(one_pass: NDArray[np.floating]) -> NDArray[np.float64]:
    """One pass (C, I, J, K) in float64, checked. Passes go one by one to keep memory low."""
    p = one_pass.astype(np.float64)
    if not np.isfinite(p).all():
        raise ValueError(
            f"probs must be finite, got {np.count_nonzero(~np.isfinite(p))} NaN or inf"
        )
    low, high = p.min(), p.max()
    if low < -_RANGE_TOLERANCE or high > 1 + _RANGE_TOLERANCE:
        raise ValueError(
            f"probs must lie in [0, 1], got {low:g} to {high:g}; apply softmax or sigmoid first"
        )
    off = np.abs(p.sum(axis=0) - 1).max()
    if off > SUM_TOLERANCE:
        raise ValueError(
            f"probs must sum to 1 over axis 1 within {SUM_TOLERANCE:g}, got a sum {off:g} away"
        )
    return np.clip(p, 0.0, 1.0, out=p)


def _entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    # Sums that are 1 within the tolerance only could leave [0, ln C] by as little.
    return np.clip(-xlogy(p, p).sum(axis=0), 0.0, np.log(len(p)))
