"""The page that puts objectives side by side: tables and figures between two marks of a page."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fair_strategy.data.cohort import CohortError
from fair_strategy.workflows.audit.comparison import Change
from fair_strategy.workflows.reporting.figures import Drawn
from fair_strategy.workflows.reporting.markdown import figure_markdown, table_markdown
from fair_strategy.workflows.tasks.results import TaskRun, paired_changes, read_runs
from fair_strategy.workflows.tasks.results_figures import draw_filtered
from fair_strategy.workflows.tasks.results_tables import (
    changes_table,
    doubt_table,
    gaps_table,
    paper_table,
    training_table,
)

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
_TITLE = "# Fairness and uncertainty"
_HOW_TO_READ = (
    "From left to right more is set aside: what has an uncertainty, 0 to 100 over the test set, "
    "above τ. For brats these are voxels, else cases. Wanted: FG falls and EM gets no worse. A gap "
    "also closes where one subgroup's part is nearly all set aside: so the lowest row. Bands are "
    "95 % bootstrap intervals; a curve ends where fewer than 5 cases are kept."
)


def write_page(folders: Sequence[Path], page: Path) -> list[Path]:
    """Put tables and figures of the runs into a page; the files that were written.

    What stands between the two marks of the page is replaced; a page that is not there is made.
    Figures and tables of numbers go into a folder beside it, which has the page's name.

    Args:
        folders: of `fair-strategy task`, several tasks and objectives.
        page: Markdown.
    Raises:
        CohortError: see `read_runs`; or the page lacks the marks.
    """
    before, after = _around(page)
    runs = read_runs(folders)
    folder = page.with_suffix("")
    changes = {task: paired_changes(own) for task, own in runs.items()}
    figures = {task: draw_filtered(own, folder) for task, own in runs.items()}
    lines = _lines(runs, changes, figures, folder.name)
    page.write_text("\n".join([before, BEGIN, "", *lines, END]) + after, encoding="utf-8")
    drawn = [path for own in figures.values() for f in own for path in (f.png, f.svg)]
    return [page, *drawn, *_write_numbers(runs, folder)]


def _lines(
    runs: Mapping[str, Sequence[TaskRun]],
    changes: Mapping[str, Mapping[str, Sequence[Change]]],
    figures: Mapping[str, Sequence[Drawn]],
    folder: str,
) -> Iterator[str]:
    yield from ("## The table", "")
    for own in runs.values():
        yield from table_markdown(paper_table(own), level=3)
    yield from ("## As the uncertain part is set aside", "", _HOW_TO_READ, "")
    for drawn in figures.values():
        for figure in drawn:
            yield from figure_markdown(figure, level=3, folder=folder)
    yield from ("## Tests, doubt and differences", "")
    for task, own in runs.items():
        yield from table_markdown(gaps_table(own), level=3)
        yield from table_markdown(doubt_table(own), level=3)
        if changes[task]:
            yield from table_markdown(changes_table(own, changes[task]), level=3)
    yield from table_markdown(training_table(runs), level=2)


def _around(page: Path) -> tuple[str, str]:
    """What stands before and after the two marks of a page."""
    if not page.exists():
        return f"{_TITLE}\n", "\n"
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise CohortError(f"{page}: expected the lines {BEGIN} and {END}; write them where")
    return before.removesuffix("\n"), after


def _write_numbers(runs: Mapping[str, Sequence[TaskRun]], folder: Path) -> list[Path]:
    """groups.csv and gaps.csv of all audits, with task and objective in front."""
    paths = []
    for name in ("groups", "gaps"):
        rows: list[dict[str, Any]] = []
        for task, own in runs.items():
            for run in own:
                table = run.folder / "audit" / "tables" / f"{name}.csv"
                with table.open(encoding="utf-8", newline="") as handle:
                    first = {"task": task, "objective": run.objective}
                    rows += [{**first, **row} for row in csv.DictReader(handle)]
        for row in rows:
            row.pop("model")
        paths.append(folder / f"{name}.csv")
        with paths[-1].open("w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, list(dict.fromkeys(k for r in rows for k in r)),
                                    lineterminator="\n")  # fmt: skip
            writer.writeheader()
            writer.writerows(rows)
    return paths
