"""From numbers to sentences, by stated rules: a gap is named only if its test passes Holm."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fair_strategy.workflows.audit.estimates import Estimate, MeasureResult
from fair_strategy.workflows.audit.measures import Measure
from fair_strategy.workflows.audit.segmentation import VOLUME
from fair_strategy.workflows.audit.settings import FLAGGED_BELOW
from fair_strategy.workflows.reporting.text import NBSP, interval, p_value, spoken

SERVED, CONFIDENT, UNSURE = "served", "confident", "unsure"
QUESTIONS = {
    SERVED: "Who is served worse, and by how much?",
    CONFIDENT: "Does the model claim what comes true?",
    UNSURE: "Is it unsure when it is wrong?",
}
_QUESTION = {"overconfidence": CONFIDENT, "e_aurc": UNSURE, "qu_brats": UNSURE}


@dataclass(frozen=True)
class Finding:
    """One tested gap, in words.

    Attributes:
        question: key of `QUESTIONS`.
        feature: of the grouping.
        target: region or quantity.
        measure: name of the measure.
        group: the subgroup that is worst off.
        named: whether the test was passed: only then it is a finding.
        p_holm: of the family.
        text: sentence for readers.
    """

    question: str
    feature: str
    target: str
    measure: str
    group: str
    named: bool
    p_holm: float
    text: str


def find(results: Sequence[MeasureResult], alpha: float) -> list[Finding]:
    """A sentence for every tested gap; `named` where p after Holm's correction is below alpha."""
    tested = [r for r in results if r.measure.tested and r.gap is not None]
    named = {id(r): r.gap is not None and r.gap.p_holm < alpha for r in tested}
    return [
        Finding(
            _QUESTION.get(result.measure.name, SERVED),
            result.feature,
            result.target,
            result.measure.name,
            result.gap.worst if result.gap else "",
            named[id(result)],
            result.gap.p_holm if result.gap else float("nan"),
            _named(result, results, named, len(tested))
            if named[id(result)]
            else _not_shown(result),
        )
        for result in tested
    ]


def shown(measure: Measure) -> Callable[[float], str]:
    """How numbers of a measure are written: three digits that count, its unit after them."""
    unit = f"{NBSP}{measure.unit}" if measure.unit else ""
    return lambda value: f"{plain_number(value)}{unit}"


def feature_words(feature: str) -> str:
    """A feature, or an intersection of several, as people say it."""
    return spoken(feature.replace(" x ", " × "))


def plain_number(value: float) -> str:
    """Three decimals below 10, fewer above."""
    if value != value:
        return "–"
    size = abs(value)
    if size == float("inf"):
        return "∞"
    text = f"{value:.3f}" if size < 10 else f"{value:.1f}" if size < 1000 else f"{value:,.0f}"
    return text.replace("-", "−").replace(",", NBSP)


def cell(estimate: Estimate, measure: Measure) -> str:
    """Value with interval and number of cases; below 5 persons only that they are few."""
    if estimate.small:
        return f"n{NBSP}<{NBSP}{FLAGGED_BELOW}"
    form = plain_number
    unit = f"{NBSP}{measure.unit}" if measure.unit else ""
    return (
        f"{form(estimate.value)}{unit} (95{NBSP}% {interval(*estimate.interval, form)}, "
        f"n{NBSP}={NBSP}{estimate.n})"
    )


def _named(
    result: MeasureResult, results: Sequence[MeasureResult], named: dict[int, bool], family: int
) -> str:
    gap = result.gap
    assert gap is not None
    worst, best = result.by_group[gap.worst], result.by_group[gap.best]
    form = shown(result.measure)
    opening = _OPENINGS.get(result.measure.name, _served)(result, gap.worst)
    sentence = (
        f"{opening}: {cell(worst, result.measure)} against {cell(best, result.measure)} in "
        f"subgroup {gap.best}. Gap {form(gap.value)} "
        f"({interval(*gap.interval, plain_number)}); by chance up to {form(gap.null_95)}; "
        f"p{NBSP}={NBSP}{p_value(gap.p_holm)} (Holm, {family} tests)."
    )
    if result.measure.name == "dice":
        sentence += _size(result, results, named)
    return sentence


def _served(result: MeasureResult, worst: str) -> str:
    return f"Subgroup {worst} is served worse in {_of(result)}"


def _confidence(result: MeasureResult, worst: str) -> str:
    over = result.by_group[worst].value > 0
    what = "over-confident: it claims more than comes true" if over else (
        "under-confident: it claims less than comes true"
    )  # fmt: skip
    return f"In subgroup {worst} the model is {what}, in {_of(result)}"


def _size_error(result: MeasureResult, worst: str) -> str:
    small = result.by_group[worst].value < 0
    side = "small" if small else "large"
    return f"In subgroup {worst} the structure is drawn too {side}, in {_of(result)}"


def _mean_error(result: MeasureResult, worst: str) -> str:
    side = "low" if result.by_group[worst].value < 0 else "high"
    return f"In subgroup {worst} the prediction is too {side}, in {_of(result)}"


def _unsure(result: MeasureResult, worst: str) -> str:
    return (
        f"In subgroup {worst} the model knows its errors less well: uncertainty does not follow "
        f"the errors as it does elsewhere, in {_of(result)}"
    )


_OPENINGS: dict[str, Callable[[MeasureResult, str], str]] = {
    "overconfidence": _confidence,
    "volume_error": _size_error,
    "mean_error": _mean_error,
    "e_aurc": _unsure,
    "qu_brats": _unsure,
}


def _of(result: MeasureResult) -> str:
    title = result.measure.title
    title = title if title[:2].isupper() or title == "Dice" else title[0].lower() + title[1:]
    return f"{title} of {result.target}" if result.target else title


def _size(result: MeasureResult, results: Sequence[MeasureResult], named: dict[int, bool]) -> str:
    """Dice favours large structures: say what the surface distance and the sizes are."""
    same = [r for r in results if (r.feature, r.target) == (result.feature, result.target)]
    by_name = {r.measure.name: r for r in same}
    distance, volume = by_name.get("surface_distance_mm"), by_name.get(VOLUME)
    gap = result.gap
    if distance is None or distance.gap is None or gap is None:
        return ""
    if named.get(id(distance)):
        return " The surface distance shows a gap too."
    words = (
        f" The surface distance shows no such gap (p{NBSP}={NBSP}{p_value(distance.gap.p_holm)})"
    )
    if volume is None:
        return words + "."
    small, large = volume.by_group[gap.worst], volume.by_group[gap.best]
    if not small.value < large.value:
        return words + "."
    return (
        f"{words}, and the structure is smaller in subgroup {gap.worst}: "
        f"{cell(small, volume.measure)} against {cell(large, volume.measure)}. At the same error "
        "of the contour a small structure has a lower Dice, so this gap may be one of size."
    )


def _not_shown(result: MeasureResult) -> str:
    gap = result.gap
    assert gap is not None
    form = shown(result.measure)
    title = _of(result)
    title = title[0].upper() + title[1:]
    if gap.p != gap.p:
        return f"{title}: no gap can be told, since a subgroup has no value."
    return (
        f"{title}: no gap was shown ({form(gap.value)}; by chance up to {form(gap.null_95)}; "
        f"p{NBSP}={NBSP}{p_value(gap.p_holm)})."
    )
