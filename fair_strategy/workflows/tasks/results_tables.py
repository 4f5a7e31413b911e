"""The tables of several runs of a task: the paper's own, the tests, the doubt, the differences."""

from collections.abc import Mapping, Sequence
from typing import Any

from fair_strategy.workflows.audit.comparison import Change
from fair_strategy.workflows.audit.curves import WITHIN
from fair_strategy.workflows.audit.findings import plain_number
from fair_strategy.workflows.reporting.text import NOTHING, Table, interval, number, p_value
from fair_strategy.workflows.tasks.results import (
    COLUMNS,
    NAMES,
    TITLES,
    Column,
    TaskRun,
    numbers,
)

_KEPT = 0.8


def paper_table(runs: Sequence[TaskRun]) -> Table:
    """Group 0 / group 1 / FG of every column, a row an objective."""
    first = runs[0]
    columns = COLUMNS[first.task]
    scale = "in percent" if columns[0].percent else "in points of the score"
    better = "lower" if columns[0].measure == "rmse" else "higher"
    return Table(
        f"{TITLES[first.task]}: group 0 / group 1 / FG",
        f"At τ = 100, so of all test cases; {scale}, {better} is better. {_groups(first)}. A star: "
        "the gap passed its test.",
        ("model", *(column.title for column in columns)),
        tuple((NAMES[run.objective], *(_cell(run, column) for column in columns)) for run in runs),
    )


def gaps_table(runs: Sequence[TaskRun]) -> Table:
    """Every gap of the paper's table with its interval, its null and its p."""
    rows = []
    for column in COLUMNS[runs[0].task]:
        form = _form(column)
        for run in runs:
            gap = run.measure(column.measure, column.target)["gap"]
            value, low, high, null = numbers(
                [gap[each] for each in ("value", "low", "high", "null_95")]
            )
            tested = gap["p_holm"] is not None
            rows.append(
                (
                    column.title,
                    NAMES[run.objective],
                    f"{form(value)} ({interval(low, high, form)})",
                    form(null),
                    p_value(gap["p_holm"]) if tested else "not tested",
                )
            )
    return Table(
        f"{TITLES[runs[0].task]}: the gaps and their tests",
        "FG with its 95 % bootstrap interval; “by chance”: 95 of 100 gaps lie below it where the "
        "subgroup makes no difference; p of the permutation test after Holm's correction over all "
        "tested gaps of the audit.",
        ("measure", "model", "FG", "by chance up to", "p"),
        tuple(rows),
        words=2,
    )


def doubt_table(runs: Sequence[TaskRun]) -> Table:
    """Is the model unsure when it is wrong: by subgroup, as group 0 / group 1 / FG."""
    primary = _primary(runs[0])
    rows = []
    for target in runs[0].targets:
        for run in runs:
            aurc, claims = run.measure("e_aurc", target), run.measure("overconfidence", target)
            rows.append(
                (
                    target or primary["title"].lower(),
                    NAMES[run.objective],
                    _triple(run, aurc, plain_number),
                    _triple(run, claims, plain_number),
                    _kept(run, primary["name"], target),
                )
            )
    claimed = runs[0].measure("overconfidence", runs[0].targets[0])["title"].lower()
    return Table(
        f"{TITLES[runs[0].task]}: is it unsure when it is wrong?",
        "Group 0 / group 1 / FG; a star: the gap passed its test. Excess area under risk-coverage: "
        "0 where the most uncertain cases are the worst ones. The last column is the primary "
        "measure of the certain four fifths of each subgroup's cases.",
        ("of", "model", "excess AURC", claimed, f"{primary['title']}, four fifths kept"),
        tuple(rows),
        words=2,
    )


def changes_table(runs: Sequence[TaskRun], changes: Mapping[str, Sequence[Change]]) -> Table:
    """Paired differences from the first run: of both subgroups, and of the gap.

    Args:
        runs: of one task.
        changes: objective -> differences from the first run.
    """
    groups = runs[0].groups
    rows = []
    for objective, own in changes.items():
        for name, target in dict.fromkeys((c.measure.name, c.target) for c in own):
            parts = {c.group or c.part: c for c in own if (c.measure.name, c.target) ==
                     (name, target)}  # fmt: skip
            if not parts["gap"].measure.tested:
                continue
            title = parts["gap"].measure.title
            cells = (_change(parts[part]) for part in (*groups, "gap"))
            rows.append((f"{title} of {target}" if target else title, NAMES[objective], *cells))
    return Table(
        f"{TITLES[runs[0].task]}: paired differences from {NAMES[runs[0].objective]}",
        "On the same test cases, persons drawn together for both models, with 95 % intervals. A "
        "star: the interval leaves 0 out at a level corrected for all differences of the pair "
        "(Bonferroni). A gap below 0 is smaller than the first model's.",
        ("measure", "model", *(f"in {group}" for group in groups), "of the gap"),
        tuple(rows),
        words=2,
    )


def training_table(runs: Mapping[str, Sequence[TaskRun]]) -> Table:
    """What was trained on, and what it cost."""
    rows = []
    for task, own in runs.items():
        for run in own:
            networks = run.run["networks"]
            rows.append(
                (
                    TITLES[task],
                    NAMES[run.objective],
                    " / ".join(str(networks[0]["cases"].get(group, 0)) for group in run.groups),
                    str(networks[0]["steps"]),
                    _weights(run),
                    number(run.run["result"].get("cpu_seconds", float("nan")), 0),
                )
            )
    return Table(
        "What was trained",
        "Training cases of group 0 / group 1 (of the first fold); steps of each network; q of "
        "group 1 when its training ended, lowest to highest of the networks; CPU seconds of the "
        "whole command on one core, audit included.",
        ("task", "model", "training cases", "steps", "q of group 1", "CPU s"),
        tuple(rows),
        words=2,
    )


def _weights(run: TaskRun) -> str:
    found = [network["history"][-1].get("q") for network in run.run["networks"]]
    q = sorted(each[run.groups[1]] for each in found if each and len(run.groups) > 1)
    return f"{q[0]:.2f} to {q[-1]:.2f}" if q else NOTHING


def _groups(run: TaskRun) -> str:
    (own,) = (f for f in run.audit["features"] if f["feature"] == run.feature)
    return "; ".join(
        f"group {place}: {name} (n = {own['subgroups'][name]['cases']})"
        for place, name in enumerate(run.groups)
    )


def _cell(run: TaskRun, column: Column) -> str:
    return _triple(run, run.measure(column.measure, column.target), _form(column))


def _triple(run: TaskRun, measure: Mapping[str, Any], form: Any) -> str:
    values = [measure["subgroups"][group]["value"] for group in run.groups]
    gap = measure["gap"] or {"value": None, "p_holm": None}
    alpha = run.audit["settings"]["alpha"]
    star = "*" if gap["p_holm"] is not None and gap["p_holm"] < alpha else ""
    return " / ".join(form(float(v)) for v in numbers([*values, gap["value"]])) + star


def _kept(run: TaskRun, measure: str, target: str) -> str:
    curve = run.curve(measure, target, WITHIN)
    if curve is None:
        return NOTHING
    place = int(abs(numbers(curve["levels"]) - _KEPT).argmin())
    values = [*(curve["em"][group][place] for group in run.groups), curve["fg"][place]]
    return " / ".join(plain_number(float(value)) for value in numbers(values))


def _primary(run: TaskRun) -> Mapping[str, Any]:
    names = {"isic": "accuracy", "brats": "dice", "adni": "rmse"}
    return run.measure(names[run.task], run.targets[0])


def _form(column: Column) -> Any:
    factor = 100 if column.percent else 1
    return lambda value: number(factor * value, 1 if column.percent else 2)


def _change(change: Change) -> str:
    around = interval(*change.interval, plain_number)
    return f"{plain_number(change.difference)} ({around}){'*' if change.named else ''}"
