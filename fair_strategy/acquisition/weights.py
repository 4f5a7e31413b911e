"""Weight of each group in the choice of the next case, from its performance."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

RULES: tuple[str, ...] = (
    "uniform",
    "error_proportional",
    "reducible_error",
    "inverse_performance",
    "softmax",
    "exponentiated",
    "inverse_frequency",
    "worst_group",
)


def group_weights(
    performance: Mapping[str, float],
    *,
    rule: str,
    attainable: Mapping[str, float] | None = None,
    temperature: float = 0.1,
    eta: float = 1.0,
    previous: Mapping[str, float] | None = None,
    labelled_counts: Mapping[str, int] | None = None,
    candidate_counts: Mapping[str, int] | None = None,
) -> dict[str, float]:
    """Weight of each group by a rule of its performance D_g, normalised to mean 1 over the groups.

    - uniform: 1.
    - error_proportional: 1 - D_g. It never relaxes for a small structure, which scores lower at an
      equal boundary error: see the reference.
    - reducible_error: attainable_g - D_g, floored at 0.
    - inverse_performance: 1 / D_g; where a D_g is 0, its limit: such groups share all the weight.
    - softmax: exp((1 - D_g) / temperature).
    - exponentiated: previous_g exp(eta (1 - D_g)), once for each published model.
    - inverse_frequency: 1 / max(labelled_g, 1).
    - worst_group: 1 for the worst group that still has candidates, 0 elsewhere; equal ones share.

    Args:
        performance: D_g in [0, 1] of every group, `unknown` included; NaN for a group without
            cases, which then counts as the worst observed one.
        rule: one of `RULES`.
        attainable: for reducible_error: the best D_g within reach, in [0, 1]; a group that is
            missing or NaN gets the best of the others.
        temperature: for softmax, above 0; lower is sharper.
        eta: for exponentiated, 0 or more.
        previous: for exponentiated: the last weights; None for equal ones. A group that is missing
            gets their mean.
        labelled_counts: for inverse_frequency: labelled cases of each group; missing means 0.
        candidate_counts: for worst_group: cases still to be served of each group, missing means 0;
            None if all have some.
    Returns:
        A weight a group, 0 or more, with mean 1, sorted by name; all 1 where the rule gives only
        zeros or no performance is known.
    Raises:
        ValueError: for another rule, no group, a value outside its range, or an input that the rule
            needs and did not get.
    References:
        docs/method.md#weight-rules. exponentiated: Sagawa et al. 2020, arXiv:1911.08731, there on
        losses.
    """
    names = sorted(performance)
    d = _performances(performance, names)
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, got {rule!r}")
    if rule == "inverse_frequency":
        raw = _inverse_frequency(_needed(labelled_counts, "labelled_counts", rule), names)
    elif rule == "uniform" or np.isnan(d).all():
        raw = np.ones(len(names))
    elif rule == "error_proportional":
        raw = 1.0 - d
    elif rule == "reducible_error":
        raw = np.maximum(_reachable(_needed(attainable, "attainable", rule), names) - d, 0.0)
    elif rule == "inverse_performance":
        raw = _inverse(d)
    elif rule == "softmax":
        raw = _softmax(d, temperature)
    elif rule == "exponentiated":
        raw = _exponentiated(d, eta, previous, names)
    else:
        raw = _worst(d, candidate_counts, names)
    return dict(zip(names, _mean_one(raw).tolist(), strict=True))


def _performances(performance: Mapping[str, float], names: list[str]) -> NDArray[np.float64]:
    if not names:
        raise ValueError("performance names no group; give each group's, NaN if not known")
    d = np.array([performance[name] for name in names], dtype=np.float64)
    for name, value in zip(names, d, strict=True):
        if not np.isnan(value) and not 0 <= value <= 1:
            raise ValueError(f"performance of {name!r} must lie in [0, 1] or be NaN, got {value!r}")
    if np.isnan(d).all():
        return d
    return np.where(np.isnan(d), np.nanmin(d), d)


def _needed(values: Mapping[str, float] | None, name: str, rule: str) -> Mapping[str, float]:
    if values is None:
        raise ValueError(f"rule {rule!r} needs {name}, got None")
    return values


def _mean_one(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    total = raw.sum()
    return raw * (raw.size / total) if total > 0 else np.ones(raw.size)


def _reachable(attainable: Mapping[str, float], names: list[str]) -> NDArray[np.float64]:
    best = np.array([attainable.get(name, np.nan) for name in names], dtype=np.float64)
    if ((best < 0) | (best > 1)).any():
        raise ValueError(f"attainable must lie in [0, 1], got {dict(attainable)!r}")
    if np.isnan(best).all():
        raise ValueError(f"attainable must name one of {names} at least, got {dict(attainable)!r}")
    return np.where(np.isnan(best), np.nanmax(best), best)


def _inverse(d: NDArray[np.float64]) -> NDArray[np.float64]:
    # lowest / d is proportional to 1 / d, and its limit as the lowest goes to 0 is an indicator.
    lowest = d.min()
    return np.divide(lowest, d, out=np.ones_like(d), where=d > lowest)


def _softmax(d: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    if not np.isfinite(temperature) or temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature!r}")
    # The shift cancels in the normalisation; a tiny temperature is the limit worst_group.
    with np.errstate(over="ignore"):
        return np.exp((d.min() - d) / temperature)


def _exponentiated(
    d: NDArray[np.float64], eta: float, previous: Mapping[str, float] | None, names: list[str]
) -> NDArray[np.float64]:
    if not np.isfinite(eta) or eta < 0:
        raise ValueError(f"eta must be 0 or more, got {eta!r}")
    before = np.ones(len(names)) if not previous else _previous(previous, names)
    if not before.any():
        return before
    # The shift cancels in the normalisation, and keeps one group at least from underflow.
    return before * np.exp(np.minimum(eta * (d[before > 0].min() - d), 0.0))


def _previous(previous: Mapping[str, float], names: list[str]) -> NDArray[np.float64]:
    known = np.array(list(previous.values()), dtype=np.float64)
    if not np.isfinite(known).all() or (known < 0).any():
        raise ValueError(f"previous must hold weights of 0 or more, got {dict(previous)!r}")
    return np.array([previous.get(name, known.mean()) for name in names], dtype=np.float64)


def _inverse_frequency(counts: Mapping[str, float], names: list[str]) -> NDArray[np.float64]:
    return 1.0 / np.maximum(_counts(counts, "labelled_counts", names), 1)


def _worst(
    d: NDArray[np.float64], counts: Mapping[str, int] | None, names: list[str]
) -> NDArray[np.float64]:
    has_candidates = np.ones(d.size, dtype=np.bool_)
    if counts is not None:
        has_candidates = _counts(counts, "candidate_counts", names) > 0
    if not has_candidates.any():
        return np.zeros(d.size)
    return np.where(has_candidates & (d == d[has_candidates].min()), 1.0, 0.0)


def _counts(counts: Mapping[str, float], name: str, names: list[str]) -> NDArray[np.float64]:
    numbers = np.array([counts.get(group, 0) for group in names], dtype=np.float64)
    if not np.isfinite(numbers).all() or (numbers < 0).any():
        raise ValueError(f"{name} must hold counts of 0 or more, got {dict(counts)!r}")
    return numbers
