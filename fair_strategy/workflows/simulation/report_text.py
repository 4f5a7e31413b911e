"""Facts, method and limits of a simulation's report, the same for HTML and Markdown."""

from collections.abc import Mapping
from typing import Any

from fair_strategy.workflows.reporting.text import (
    listed,
    spoken,
)
from fair_strategy.workflows.simulation.analysis_settings import in_order
from fair_strategy.workflows.simulation.analysis_tables import WHOLE_POOL, Tables

COMMAND = "fair-strategy simulate CONFIG.yaml --out OUT"


def facts(given: Tables) -> list[tuple[str, str]]:
    """Seeds, number of scans, hardware, time, versions, settings of all arms, command."""
    rounds, run = given.rounds, given.run
    runs = rounds[rounds.arm != WHOLE_POOL]
    seeds = sorted(int(seed) for seed in runs.seed.unique())
    tested = rounds.groupby("subgroup").n_test.max()
    found = [
        ("Seeds", f"{len(seeds)}: {', '.join(map(str, seeds))}"),
        ("Test scans", ", ".join(f"{n} of {group}" for group, n in tested.items())),
        ("Arms", listed(spoken(arm) for arm in in_order(runs.arm.unique()))),
        ("Hardware", _flat(run.get("hardware", {})) or "not stated"),
    ]
    if time := _time(run):
        found.append(("Time", time))
    found.append(("Versions", _flat(run.get("versions", {})) or "not stated"))
    configuration = run.get("configuration", {})
    for name in ("settings", "training"):
        found.append((name.capitalize(), _flat(configuration.get(name, {})) or "not stated"))
    return [*found, ("Command", COMMAND)]


METHOD = (
    "Gap: mean Dice of the best served subgroup minus that of the worst, per run; for two "
    "subgroups the absolute difference. Excess gap: minus the gap of the model of the same seed "
    "that was trained on the whole pool; it may be negative.",
    "Reduction: 1 − (mean over seeds of the gap) / (mean over seeds of entropy's gap), a ratio of "
    "means, over the seeds that both have.",
    "Bootstrap: seeds, and test scans within each subgroup, drawn with replacement; a draw takes "
    "the same test scans in every run, because the runs share one test set. Intervals are expanded "
    "percentiles (Hesterberg 2015), since plain ones are too narrow for few seeds: in a trial with "
    "8 seeds 95 % intervals of a difference held the truth in 88 % (plain) and 95 % (expanded).",
    "Tests: exact sign-flip permutation of the paired differences over seeds.",
    "AUBC: trapezoids between the first model and the final budget, divided by the range of the "
    "budget: the level that the measure had on average while scans were being annotated.",
)
LIMITS = (
    "Synthetic scans with one planted effect on one structure. Nothing here says how large such a "
    "gap is in patients.",
    "The weight rules are a documented family, written from an abstract; this is no reproduction "
    "of the published method.",
    "A group's Dice depends on its structure's size: small structures score lower at the same "
    "boundary error. Hence the floor, and the surface distance beside Dice.",
    "Bootstrap intervals tell about other seeds and other test scans of this kind; t intervals and "
    "p values about other seeds on this pool and test set. Neither is about another cohort, "
    "network or budget.",
    "Levelling down is flagged by the point estimate alone; look at the interval beside it.",
    "Only the gap under the headline arm against entropy is the stated main comparison. All other "
    "tests are shown unadjusted, as description.",
)


def _time(run: Mapping[str, Any]) -> str:
    """Of the calls that ended, and of the rounds that are there, whoever played them."""
    told = []
    if "wall_seconds" in run:
        told.append(f"{float(run['wall_seconds']) / 3600:.1f} h")
    if "process_hours" in run:
        hours = float(run["process_hours"])
        told.append(f"{hours:.1f} h of training and scoring, summed over processes")
    return "; ".join(told)


def _flat(given: Any) -> str:
    """A mapping in one line."""
    if not isinstance(given, dict):
        return str(given)
    return ", ".join(f"{spoken(str(name))} {value}" for name, value in given.items())
