"""Every measure of every subgroup with n, interval and shrunk value; every gap with its null."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fair_strategy.acquisition.performance import FALLBACK_SD, group_performance
from fair_strategy.metrics.fairness import (
    EQUITY_VARIANTS,
    equity_of_means,
    gap_of_means,
    root_mean,
    skewed_error_ratio,
    worst_group,
)
from fair_strategy.workflows.audit.evidence import Evidence, Target
from fair_strategy.workflows.audit.grouping import Grouping
from fair_strategy.workflows.audit.measures import HIGHER, NEITHER, ZERO, Measure, Measured
from fair_strategy.workflows.audit.resampling import (
    Resamples,
    draw_resamples,
    gap_null_of,
    interval,
    replicates,
)
from fair_strategy.workflows.audit.settings import FLAGGED_BELOW, AuditSettings

Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Estimate:
    """One number with what it rests on.

    Attributes:
        value: NaN where undefined.
        interval: percentile bootstrap over persons within subgroup.
        n: cases that have a value.
        persons: of these cases.
        missing: cases without a value.
        replicates: (B,), of the bootstrap.
        shrunk: the value drawn towards the other subgroups' as far as n is small; NaN where the
            measure is no mean.
        ranked: whether the subgroup is compared.
    """

    value: float
    interval: Interval
    n: int
    persons: int
    missing: int
    replicates: NDArray[np.float64]
    shrunk: float = float("nan")
    ranked: bool = False

    @property
    def small(self) -> bool:
        """Whether the cell holds so few persons that the text shows no number."""
        return self.persons < FLAGGED_BELOW


@dataclass(frozen=True, eq=False)
class Gap:
    """Largest minus smallest value of the ranked subgroups, beside what chance gives.

    Attributes:
        value: 0 upwards.
        interval: percentile bootstrap of the difference between the two subgroups that are the
            highest and the lowest here. (The gap drawn anew would lie above 0 always.)
        best: subgroup; of measures whose ideal is 0, the one nearest to it.
        worst: subgroup.
        null_95: (1 - alpha) quantile of the gaps under labels dealt anew.
        p: of the permutation test, for this gap alone.
        p_holm: corrected over the family; NaN where the gap is not tested.
        draws: dealings behind p.
        replicates: (B,).
    """

    value: float
    interval: Interval
    best: str
    worst: str
    null_95: float
    p: float
    p_holm: float
    draws: int
    replicates: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MeasureResult:
    """One measure of one target by one grouping.

    Attributes:
        feature: of the grouping.
        target: name of the region or quantity.
        measure: what it is.
        overall: over all cases, of every subgroup and of 'unknown'.
        by_group: subgroup -> estimate; n = 0 and NaN for one without cases.
        gap: None where fewer than two subgroups are ranked.
        ratios: skewed error ratio, equity-scaled scores and standard deviation of the ranked
            subgroups; only of scores in [0, 1].
    """

    feature: str
    target: str
    measure: Measure
    overall: Estimate
    by_group: Mapping[str, Estimate]
    gap: Gap | None
    ratios: Mapping[str, Estimate]


def estimate_all(
    evidence: Evidence, groupings: list[Grouping], settings: AuditSettings
) -> list[MeasureResult]:
    """Every measure by every grouping, with p values corrected over the whole family.

    The family is every gap that is tested: features x targets x tested measures.
    """
    jobs = [
        (grouping, target, measured)
        for grouping in groupings
        for target in evidence.targets
        for measured in target.measured
    ]
    family = sum(measured.measure.tested for _, _, measured in jobs)
    # The smallest p is 1 / (1 + draws): after Holm's factor it must be able to pass alpha.
    dealings = max(settings.draws, int(np.ceil(2 * family / settings.alpha)))
    draws = {
        grouping.feature: draw_resamples(
            grouping.labels, evidence.subjects, draws=settings.draws, seed=settings.seed
        )
        for grouping in groupings
    }
    results = [
        _result(
            evidence, grouping, target, measured, draws[grouping.feature],
            settings, np.random.default_rng([settings.seed, 1, number]), dealings,
        )
        for number, (grouping, target, measured) in enumerate(jobs)
    ]  # fmt: skip
    return _corrected(results)


def holm(p: Mapping[int, float]) -> dict[int, float]:
    """Holm's step-down correction: p values that keep the family-wise error rate.

    NaN (an undefined statistic) counts in the family and stays NaN.

    References:
        Holm 1979, Scandinavian Journal of Statistics 6:65-70.
    """
    order = sorted(p, key=lambda key: (np.isnan(p[key]), p[key]))
    corrected, largest = {}, 0.0
    for rank, key in enumerate(order):
        if np.isnan(p[key]):
            corrected[key] = float("nan")
            continue
        largest = max(largest, min(1.0, (len(order) - rank) * p[key]))
        corrected[key] = largest
    return corrected


def _corrected(results: list[MeasureResult]) -> list[MeasureResult]:
    family = {
        place: result.gap.p
        for place, result in enumerate(results)
        if result.measure.tested and result.gap is not None
    }
    corrected = holm(family)
    return [
        replace(result, gap=replace(result.gap, p_holm=corrected[place]))
        if result.gap is not None and place in corrected
        else result
        for place, result in enumerate(results)
    ]


def _result(
    evidence: Evidence,
    grouping: Grouping,
    target: Target,
    measured: Measured,
    resamples: Resamples,
    settings: AuditSettings,
    rng: np.random.Generator,
    dealings: int,
) -> MeasureResult:
    subjects, level = evidence.subjects, settings.level
    shrunk = _shrunk(measured, grouping)
    by_group = {
        name: replace(
            _estimate(measured, grouping.members(name), subjects, resamples, level),
            shrunk=shrunk.get(name, float("nan")),
            ranked=name in grouping.ranked,
        )
        for name in grouping.names
    }
    everyone = np.ones(evidence.n, bool)
    gap, ratios = None, {}
    compared = {name: by_group[name] for name in grouping.ranked if by_group[name].n}
    if len(compared) > 1 and measured.measure.better != NEITHER:
        null = gap_null_of(measured, grouping, subjects, rng=rng, draws=dealings)
        gap = _gap(measured.measure, compared, null.p, null.null, settings)
        if measured.measure.bounded:
            among = _estimate(measured, grouping.in_ranked, subjects, resamples, level)
            ratios = _ratios(measured.measure, compared, among, level)
    overall = _estimate(measured, everyone, subjects, resamples, level)
    return MeasureResult(
        grouping.feature, target.name, measured.measure, overall, by_group, gap, ratios
    )


def _estimate(
    measured: Measured,
    members: NDArray[np.bool_],
    subjects: NDArray[np.intp],
    resamples: Resamples,
    level: float,
) -> Estimate:
    own = members & measured.there
    n, persons = int(own.sum()), len(np.unique(subjects[own]))
    value = float(measured.measure.metric(measured.rows[own])) if n else float("nan")
    drawn = replicates(measured, members, resamples)
    around = interval(drawn, level) if persons > 1 else (float("nan"), float("nan"))
    return Estimate(value, around, n, persons, int(members.sum()) - n, drawn)


def _gap(
    measure: Measure,
    groups: Mapping[str, Estimate],
    p: float,
    null: NDArray[np.float64],
    settings: AuditSettings,
) -> Gap:
    values = {name: estimate.value for name, estimate in groups.items()}
    drawn = signed_gap(list(values.values()), [each.replicates for each in groups.values()])
    known = not np.isnan(list(values.values())).any()
    worst = _worst(measure, values) if known else ""
    best = _worst(measure, values, best=True) if known else ""
    return Gap(
        float(gap_of_means(list(values.values()))),
        interval(drawn, settings.level),
        best,
        worst,
        float(np.quantile(null, settings.level)) if null.size else float("nan"),
        p,
        float("nan"),
        null.size,
        drawn,
    )


def signed_gap(values: Sequence[float], drawn: Sequence[NDArray]) -> NDArray[np.float64]:
    """Replicates of the highest group here minus those of the lowest here; may be below 0."""
    order = np.argsort(values, kind="stable")
    return drawn[int(order[-1])] - drawn[int(order[0])]


def _worst(measure: Measure, values: Mapping[str, float], *, best: bool = False) -> str:
    scores = [abs(v) if measure.better == ZERO else v for v in values.values()]
    higher = measure.better == HIGHER
    return worst_group(scores, list(values), higher_is_better=higher != best)


def _ratios(
    measure: Measure, groups: Mapping[str, Estimate], among: Estimate, level: float
) -> dict[str, Estimate]:
    higher = measure.better == HIGHER
    names = list(groups)
    means = np.array([groups[name].value for name in names])
    drawn = np.stack([groups[name].replicates for name in names], axis=-1)
    towards = (lambda x: x) if higher else (lambda x: 1 - x)

    def skewed(values: NDArray[np.float64]) -> float:
        if np.isnan(values).any():
            return float("nan")
        return skewed_error_ratio(np.clip(values, 0, 1), names, higher_is_better=higher)

    found = {
        "skewed_error_ratio": (skewed(means), np.array([skewed(row) for row in drawn])),
        "standard_deviation": (float(means.std()), drawn.std(axis=-1)),
    }
    for variant in EQUITY_VARIANTS:
        found[f"equity_scaled_{variant}"] = (
            float(towards(equity_of_means(towards(means), towards(among.value), variant=variant))),
            towards(equity_of_means(towards(drawn), towards(among.replicates), variant=variant)),
        )
    return {
        name: replace(among, value=value, interval=interval(values, level), replicates=values)
        for name, (value, values) in found.items()
    }


def _shrunk(measured: Measured, grouping: Grouping) -> dict[str, float]:
    """Posterior means of the subgroups, in the measure's own unit.

    The prior of `group_performance` is in units of Dice, whose case-to-case SD is about 0.1: other
    scores are brought to that SD first.
    """
    if not measured.measure.averaged:
        return {}
    own = measured.there
    values, labels = measured.rows[own], grouping.labels[own]
    if values.size < 2:
        return {}
    within = [values[labels == name] - values[labels == name].mean() for name in set(labels)]
    spread = float(np.concatenate(within).std())
    scale = 1.0 if measured.measure.bounded or spread == 0 else FALLBACK_SD / spread
    found = group_performance(values * scale, labels.tolist(), known_groups=())
    back = np.sqrt if measured.measure.metric is root_mean else float
    return {name: float(back(each.shrunk / scale)) for name, each in found.items()}
