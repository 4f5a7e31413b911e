"""Measures of classes and of rankings: accuracies, areas under ROC and precision-recall curves."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from fair_strategy.metrics.checks import as_finite, as_mask, as_within, same_shape

_SUM_TOLERANCE = 1e-3  # probabilities in float16 keep it


def auroc(score: ArrayLike, positive: ArrayLike) -> float:
    """Chance that a positive has a higher score than a negative, a tie counted half.

    The Mann-Whitney form of the area under the ROC curve.

    Args:
        score: (N,), finite.
        positive: (N,), boolean or 0 and 1.
    Returns:
        0 to 1 (ideal), 0.5 for a score that tells nothing; NaN unless both kinds are there.
    Raises:
        ValueError: if either is empty or not of that kind, or they are not as many.
    References:
        Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747.
    """
    values, wanted = _scored(score, positive)
    n_positive = int(wanted.sum())
    n_negative = wanted.size - n_positive
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    rank_sum = float(rankdata(values)[wanted].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def average_precision(score: ArrayLike, positive: ArrayLike) -> float:
    """Area under the precision-recall curve, the sum of precision x rise of recall.

    The threshold falls over the distinct scores, so that ties enter together.

    Args:
        score: (N,), finite.
        positive: (N,), boolean or 0 and 1.
    Returns:
        Above 0, to 1 (ideal); the share of positives for a score that tells nothing. NaN where no
        case is positive.
    Raises:
        ValueError: as `auroc`.
    References:
        Davis and Goadrich 2006, doi:10.1145/1143844.1143874.
    """
    values, wanted = _scored(score, positive)
    if not wanted.any():
        return float("nan")
    order = np.argsort(-values, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(values[order])), values.size - 1)
    found = np.cumsum(wanted[order])[last_of_tie]
    precision = found / (last_of_tie + 1)
    return float((precision * np.diff(found, prepend=0)).sum() / found[-1])


def accuracy(reference: ArrayLike, predicted: ArrayLike) -> float:
    """Share of the cases whose class is predicted.

    Args:
        reference: (N,), class numbers.
        predicted: (N,), class numbers.
    Returns:
        0 to 1 (ideal).
    Raises:
        ValueError: if they are empty, not finite, or not as many.
    """
    truth, guess = _classes(reference, predicted)
    return float((truth == guess).mean())


def balanced_accuracy(reference: ArrayLike, predicted: ArrayLike) -> float:
    """Mean over the classes of the share of their cases that is recognised.

    Args:
        reference: (N,), class numbers; a class without a case here does not count.
        predicted: (N,), class numbers.
    Returns:
        0 to 1 (ideal).
    Raises:
        ValueError: as `accuracy`.
    References:
        Brodersen et al. 2010, doi:10.1109/ICPR.2010.764.
    """
    truth, guess = _classes(reference, predicted)
    recalls = [float((guess[truth == name] == name).mean()) for name in np.unique(truth)]
    return float(np.mean(recalls))


def macro_auroc(reference: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean over the classes of the AUROC of each against the rest.

    Args:
        reference: (N,), class numbers 0 to C - 1.
        probabilities: (N, C), each in [0, 1], sum over C equal to 1 within 1e-3.
    Returns:
        0 to 1 (ideal); NaN if a class has no case here or all of them: a mean over fewer classes
        would be another measure.
    Raises:
        ValueError: if either is empty or not of that kind, or they are not as many.
    References:
        Fawcett 2006, doi:10.1016/j.patrec.2005.10.010 (each class weighs the same here).
    """
    probs = as_within(probabilities, (0.0, 1.0), name="probabilities", ndim=2)
    truth = as_finite(reference, name="reference classes", ndim=1)
    if len(truth) != len(probs):
        raise ValueError(
            "reference and probabilities must be as many, "
            f"got {len(truth)} cases and {len(probs)} rows"
        )
    sums = probs.sum(axis=1)
    if np.abs(sums - 1).max() > _SUM_TOLERANCE:
        worst = int(np.abs(sums - 1).argmax())
        raise ValueError(
            f"probabilities of a case must sum to 1, those of case {worst} sum to {sums[worst]:g}"
        )
    unknown = truth[~np.isin(truth, np.arange(probs.shape[1]))]
    if unknown.size:
        raise ValueError(f"reference classes must be 0 to {probs.shape[1] - 1}, got {unknown[0]:g}")
    return float(np.mean([auroc(probs[:, c], truth == c) for c in range(probs.shape[1])]))


def _scored(score: ArrayLike, positive: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values = as_finite(score, name="scores", ndim=1)
    wanted = as_mask(positive, name="positive", ndim=1)
    same_shape(values, wanted, names=("score", "positive"))
    return values, wanted


def _classes(
    reference: ArrayLike, predicted: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    truth = as_finite(reference, name="reference classes", ndim=1)
    guess = as_finite(predicted, name="predicted classes", ndim=1)
    same_shape(truth, guess, names=("reference", "predicted"))
    return truth, guess
