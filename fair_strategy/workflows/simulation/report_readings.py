"""What was found, in plain words: a reading for each setting."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fair_strategy.workflows.reporting.text import (
    NBSP,
    interval,
    listed,
    p_value,
    percent,
    signed,
    spoken,
    three,
)
from fair_strategy.workflows.simulation.analysis import LEVELLED_DOWN, Analysis
from fair_strategy.workflows.simulation.analysis_tables import WHOLE_POOL
from fair_strategy.workflows.simulation.report_values import (
    interval_of,
    paired_test,
    rows_of,
    setting_name,
    with_interval,
)


@dataclass(frozen=True)
class Reading:
    """What was found in one setting, in plain words.

    Attributes:
        title: the setting.
        figure: the reduction of the gap, as text; a dash where it is not known.
        under: what that figure is.
        sentences: the reading.
        warning: whether a subgroup was levelled down under the headline arm.
    """

    title: str
    figure: str
    under: str
    sentences: tuple[str, ...]
    warning: bool


def readings(analysis: Analysis) -> list[Reading]:
    """A reading for every setting that has a finished headline arm and entropy."""
    found = []
    for bias, start in analysis.settings():
        roles = analysis.roles[bias, start]
        rows = rows_of(analysis, bias, start)
        if {roles.get("headline"), roles.get("entropy")} <= set(rows):
            found.append(_reading(analysis, bias, start, roles, rows))
    return found


def _reading(
    analysis: Analysis, bias: str, start: str, roles: dict[str, str], rows: dict[str, Any]
) -> Reading:
    own, entropy = rows[roles["headline"]], rows[roles["entropy"]]
    levelling, down = _levelling(analysis, own)
    return Reading(
        title=setting_name(bias, start),
        figure=percent(own.gap_reduction),
        under="reduction of the gap against entropy" + interval_of(own, "gap_reduction", percent),
        sentences=(
            f"At {own.n_labelled:.0f} annotated scans the gap in Dice between the subgroups was "
            f"{three(own.gap)} under {spoken(own.arm)} and {three(entropy.gap)} under entropy: "
            f"{_change(own, 'gap_reduction')}, "
            f"{_seeds(own.gap_reduction_seeds)}, {_p(analysis, own, roles['entropy'])}.",
            _above_floor(rows, own, entropy),
            *_against_balanced(analysis, own, roles, rows),
            levelling,
        ),
        warning=down,
    )


def _change(row: Any, name: str) -> str:
    reduction = row[name]
    if np.isnan(reduction):
        return "a reduction that cannot be told"
    told = with_interval(row, name, percent)
    if reduction < 0:
        return f"an increase by {percent(-reduction)} (as a reduction: {told})"
    return f"a reduction of {told}"


def _above_floor(rows: dict[str, Any], own: Any, entropy: Any) -> str:
    if WHOLE_POOL not in rows or np.isnan(own.excess):
        return "No model was trained on the whole pool, so the gap above its floor is not known."
    text = (
        "The same network trained on the whole pool still has a gap of "
        f"{three(rows[WHOLE_POOL].gap)}, the floor. Above it {spoken(own.arm)} left "
        f"{signed(own.excess)}"
    )
    if np.isnan(own.excess_reduction):
        return f"{text}; entropy's own excess may be 0, so no reduction is told."
    return f"{text} and entropy {signed(entropy.excess)}: {_change(own, 'excess_reduction')}."


def _against_balanced(
    analysis: Analysis, own: Any, roles: dict[str, str], rows: dict[str, Any]
) -> Iterator[str]:
    other = rows.get(roles.get("balanced_random", ""))
    if other is None or other.arm == own.arm:
        return
    test = paired_test(analysis, own, other.arm, "gap")
    yield (
        f"Drawing at random, the subgroups in turn, ended at a gap of {three(other.gap)}; the "
        f"difference to {spoken(own.arm)} is {signed(test.difference)} "
        f"({interval(test.low, test.high, signed)}), {_p(analysis, own, other.arm)}."
    )


def _levelling(analysis: Analysis, own: Any) -> tuple[str, bool]:
    groups = analysis.groups
    groups = groups[(groups.bias == own.bias) & (groups.start == own.start)]
    groups = groups[groups.arm == own.arm]
    lower = [
        f"{three(-row[key])} below its value under {spoken(name)} (subgroup {row.subgroup}; "
        f"interval of the difference: {interval(row[f'{key}_low'], row[f'{key}_high'], signed)})"
        for _, row in groups.iterrows()
        for name in ("entropy", "balanced_random")
        if row[key := f"to_{name}"] < -LEVELLED_DOWN
    ]
    if lower:
        return f"Levelling down: a subgroup ended {listed(lower)}.", True
    return (
        f"No levelling down: no subgroup ended more than {LEVELLED_DOWN} Dice below its own "
        "value under entropy or balanced random.",
        False,
    )


def _p(analysis: Analysis, own: Any, reference: str) -> str:
    if own.arm == reference:
        return "the same arm"
    test = paired_test(analysis, own, reference, "gap")
    p = test.p
    return "no test" if test.seeds < 2 else f"p{NBSP}={NBSP}{p_value(p)}"


def _seeds(number: int) -> str:
    return f"{number} seed{'' if number == 1 else 's'}"
