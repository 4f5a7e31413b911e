"""EM and FG as the uncertain part is set aside, with what is retained and the bands."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from fair_strategy.metrics.fairness import gap_of_means, root_mean
from fair_strategy.metrics.selective import (
    MetricCurve,
    coverage_metric_curve,
    filtered_metric_curve,
    filtered_volume_curve,
)
from fair_strategy.metrics.uncertainty import RiskCoverage, risk_coverage_by_group
from fair_strategy.metrics.voxelwise import rescale_uncertainty
from fair_strategy.workflows.audit.estimates import signed_gap
from fair_strategy.workflows.audit.evidence import Evidence, Target
from fair_strategy.workflows.audit.grouping import Grouping
from fair_strategy.workflows.audit.measures import Floats, Measure, Measured
from fair_strategy.workflows.audit.resampling import draw_resamples, weighted_means
from fair_strategy.workflows.audit.settings import AuditSettings

RETAINED_FROM = 5
TAU, COVERAGE, WITHIN, VOXELS = "tau", "coverage", "coverage_within", "voxels"
KINDS: Mapping[str, str] = {
    TAU: "cases whose uncertainty (0 to 100 over the data set) is at most tau",
    COVERAGE: "the most certain share of all cases, one threshold for all subgroups",
    WITHIN: "the most certain share of each subgroup's own cases",
    VOXELS: "all cases, of each the voxels whose uncertainty (0 to 100) is at most tau",
}
_CURVED = ("dice", "accuracy", "balanced_accuracy", "macro_auroc", "rmse")
_BAND_DRAWS = 400


@dataclass(frozen=True, eq=False)
class Curve:
    """EM of each subgroup and FG of the ranked ones, at each of K levels.

    Attributes:
        feature: of the grouping.
        target: region or quantity.
        measure: EM.
        kind: one of `KINDS`.
        metric: EM, retained numbers and their share; its own gap is not used, since it takes in
            subgroups that are not ranked.
        gap: (K,), FG of the ranked subgroups; NaN where one of them has too few cases left.
        bands: subgroup -> (2, K), percentile bootstrap; only of means.
        gap_band: (2, K), of FG.
    """

    feature: str
    target: str
    measure: Measure
    kind: str
    metric: MetricCurve
    gap: Floats
    bands: Mapping[str, Floats]
    gap_band: Floats | None


def draw_curves(
    evidence: Evidence, groupings: list[Grouping], settings: AuditSettings
) -> list[Curve]:
    """The curves of every target with uncertainties; none where these are all equal."""
    return [
        curve
        for grouping in groupings
        for target in evidence.targets
        for curve in _of_target(evidence, grouping, target, settings)
    ]


def risk_curves(grouping: Grouping, target: Target) -> dict[str, RiskCoverage]:
    """Risk-coverage curve of each ranked subgroup; empty without uncertainties."""
    if target.uncertainty is None:
        return {}
    own = grouping.in_ranked & ~np.isnan(target.uncertainty)
    if not own.any():
        return {}
    return risk_coverage_by_group(
        target.risk[own], target.uncertainty[own], grouping.labels[own].tolist()
    )


def _of_target(
    evidence: Evidence, grouping: Grouping, target: Target, settings: AuditSettings
) -> list[Curve]:
    curves = []
    for name in _CURVED:
        measured = target.named(name)
        if measured is not None:
            curves += _of_cases(evidence, grouping, target, measured, settings)
    if target.volumes is not None:
        curves.append(_of_voxels(evidence, grouping, target, settings))
    return curves


def _of_cases(
    evidence: Evidence,
    grouping: Grouping,
    target: Target,
    measured: Measured,
    settings: AuditSettings,
) -> list[Curve]:
    if target.uncertainty is None:
        return []
    own = np.flatnonzero(measured.there & ~np.isnan(target.uncertainty))
    doubts = target.uncertainty[own]
    if own.size == 0 or np.ptp(doubts) == 0:
        return []
    scaled = rescale_uncertainty(doubts, low=float(doubts.min()), high=float(doubts.max()))
    rows, labels = measured.rows[own], grouping.labels[own]
    shared: dict[str, Any] = {
        "metric": measured.measure.metric,
        "minimum": RETAINED_FROM,
        "known_groups": grouping.names,
    }
    found = {
        TAU: filtered_metric_curve(rows, scaled, labels, **shared),
        COVERAGE: coverage_metric_curve(rows, scaled, labels, within="all", **shared),
        WITHIN: coverage_metric_curve(rows, scaled, labels, within="group", **shared),
    }
    counts = None
    if measured.measure.averaged:
        draws = min(settings.draws, _BAND_DRAWS)
        counts = draw_resamples(
            labels, evidence.subjects[own], draws=draws, seed=settings.seed
        ).counts
    curves = []
    for kind, curve in found.items():
        values = {
            name: None
            if counts is None
            else _replicates(rows, counts, _kept(curve, kind, scaled, labels, name), measured)
            for name in grouping.ranked
        }
        curves.append(_curve(grouping, target, measured.measure, kind, curve, values, settings))
    return curves


def _kept(
    curve: MetricCurve, kind: str, doubts: Floats, labels: NDArray[np.str_], name: str
) -> NDArray[np.float64]:
    """(N, K), 1 for the group's cases that are retained at each level, else 0."""
    own = labels == name
    if kind == TAU:
        kept = doubts[:, None] <= curve.levels
    elif kind == COVERAGE:  # the most certain ones, ties together
        kept = rankdata(doubts, method="max")[:, None] <= curve.retained_overall
    else:
        ranks = np.full(doubts.size, np.inf)
        ranks[own] = rankdata(doubts[own], method="max")
        kept = ranks[:, None] <= curve.retained[name]
    return (kept & own[:, None]).astype(np.float64)


def _replicates(rows: Floats, counts: Floats, kept: Floats, measured: Measured) -> Floats:
    """(B, K), the mean of the retained cases in each resample."""
    with np.errstate(invalid="ignore", divide="ignore"):  # none of the drawn is retained: NaN
        means = (counts @ (kept * rows[:, None])) / (counts @ kept)
    return np.sqrt(means) if measured.measure.metric is root_mean else means


def _of_voxels(
    evidence: Evidence, grouping: Grouping, target: Target, settings: AuditSettings
) -> Curve:
    volumes = list(target.volumes or ())
    curve = filtered_volume_curve(
        volumes, grouping.labels, minimum=RETAINED_FROM, known_groups=grouping.names
    )
    dice = np.stack([volume.dice for volume in volumes])
    counts = draw_resamples(
        grouping.labels, evidence.subjects, draws=min(settings.draws, _BAND_DRAWS),
        seed=settings.seed,
    ).counts  # fmt: skip
    values = {
        name: weighted_means(
            dice[grouping.members(name)], counts[:, grouping.members(name)],
            target.primary.measure.metric,
        )
        for name in grouping.ranked
    }  # fmt: skip
    return _curve(grouping, target, target.primary.measure, VOXELS, curve, values, settings)


def _curve(
    grouping: Grouping,
    target: Target,
    measure: Measure,
    kind: str,
    curve: MetricCurve,
    values: Mapping[str, Floats | None],
    settings: AuditSettings,
) -> Curve:
    ranked = grouping.ranked
    undefined = np.full(curve.levels.size, np.nan)
    gap = undefined
    if len(ranked) > 1:
        gap = gap_of_means(np.stack([curve.by_group[name] for name in ranked], axis=-1))
    drawn = {name: found for name, found in values.items() if found is not None}
    bands = {
        name: _band(found, curve.by_group[name], settings.level) for name, found in drawn.items()
    }
    gap_band = None
    if len(drawn) > 1:
        gap_band = _band(_gap_replicates(curve, drawn), gap, settings.level)
    return Curve(grouping.feature, target.name, measure, kind, curve, gap, bands, gap_band)


def _gap_replicates(curve: MetricCurve, drawn: Mapping[str, Floats]) -> Floats:
    """(B, K): at each level the highest group there minus the lowest there."""
    columns = [
        signed_gap([curve.by_group[name][k] for name in drawn], [d[:, k] for d in drawn.values()])
        for k in range(curve.levels.size)
    ]
    return np.stack(columns, axis=1)


def _band(drawn: Floats, centre: Floats, level: float) -> Floats:
    """(2, K); NaN where the curve is, or where a resample may retain no case."""
    band = np.full((2, centre.size), np.nan)
    known = ~np.isnan(centre)
    if known.any():
        limits = [(1 - level) / 2, (1 + level) / 2]
        columns = np.flatnonzero(known)
        kept = [drawn[~np.isnan(drawn[:, column]), column] for column in columns]
        band[:, columns] = np.array([np.quantile(column, limits) for column in kept]).T
    return band
