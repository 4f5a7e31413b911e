"""Median and quartiles by subgroup, and which of them are hidden."""

from collections.abc import Mapping, Sequence

import numpy as np

from fair_strategy.metrics.suppression import suppressed
from fair_strategy.workflows.overview.figures import Spread


def values_by_group(
    names: Sequence[str], values: Mapping[str, float | None], subgroups: Mapping[str, str]
) -> dict[str, list[float]]:
    """The known values of each subgroup's cases, one a case."""
    known = {case_id: value for case_id, value in values.items() if value is not None}
    return {
        name: [value for case_id, value in known.items() if subgroups.get(case_id) == name]
        for name in names
    }


def hidden_groups(values: Mapping[str, Sequence[float]], *, min_cell: int) -> dict[str, bool]:
    """Of each subgroup, whether its figure is hidden; see `suppressed`."""
    numbers = [len(own) for own in values.values()]
    hidden = suppressed(numbers, minimum=min_cell).tolist() if numbers else []
    return dict(zip(values, hidden, strict=True))


def spread(values: Sequence[float]) -> Spread | None:
    """Median and quartiles; None of nothing."""
    if not values:
        return None
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return Spread(median=median, low=low, high=high)
