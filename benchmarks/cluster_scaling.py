"""How scoring grows from one worker process to two, and what a volume costs the parent.

    python benchmarks/cluster_scaling.py [--cohort sample-data/cohort] [--volumes 8] [--out PAGE]

One worker and two, each a Dask cluster of this machine with one thread a process, score the same
volumes in turns; both are warm. The parent's CPU time is that of the whole parent process: loop,
table row, client, and the scheduler, which lives in it. The ratio depends on what else runs. --out
replaces the table in a page.
"""

import argparse
import os
import statistics
import time
from itertools import cycle, islice
from pathlib import Path

from servers import check_page, replace_measured, table

from fair_strategy.config import StudySettings
from fair_strategy.data import bids
from fair_strategy.workflows.executors import Workers, as_finished, workers
from fair_strategy.workflows.folder import measure
from fair_strategy.workflows.models import model_file
from fair_strategy.workflows.work import Work

SHIPPED = Path("apps/fair_caudate/model/pretrained.pt")
EMPTY = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohort", type=Path, default=Path("sample-data/cohort"))
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--volumes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="page whose table is replaced")
    given = parser.parse_args()
    check_page(given.out)
    works = some_work(given.cohort, given.model, given.volumes)
    with workers("local:1") as one, workers("local:2") as two:
        clusters = {1: one, 2: two}
        for made in clusters.values():
            spent(made, works[:4])  # models are loaded, code is imported
        runs: dict[int, list[tuple[float, float]]] = {n: [] for n in clusters}
        for _ in range(given.rounds):
            for n, made in clusters.items():
                runs[n].append(spent(made, works))
        nothing = overhead(two)
    text = report(runs, len(works), nothing)
    print(text)
    if given.out:
        replace_measured(given.out, text)


def some_work(cohort: Path, model: Path, count: int) -> list[Work]:
    """So many volumes of a cohort, again from the first where it has fewer."""
    file, scans = model_file(model), bids.walk(cohort.absolute())
    key = ("case_id", "path", "fingerprint")
    return [
        Work(*(getattr(scan, name) for name in key), file, StudySettings(), threads=1)
        for scan in islice(cycle(scans), count)
    ]


def spent(made: Workers, works: list[Work]) -> tuple[float, float]:
    """Seconds by the clock, and CPU seconds of this process, for some volumes."""
    clock, cpu = time.perf_counter(), time.process_time()
    failed = [found for _, found in as_finished(made, measure, works) if isinstance(found, str)]
    if failed:
        raise SystemExit(f"volumes could not be scored: {failed[0]}")
    return time.perf_counter() - clock, time.process_time() - cpu


def overhead(made: Workers) -> float:
    """CPU seconds of this process for an item that does nothing."""
    cpu = time.process_time()
    for _ in as_finished(made, abs, range(EMPTY)):
        pass
    return (time.process_time() - cpu) / EMPTY


def report(runs: dict[int, list[tuple[float, float]]], volumes: int, nothing: float) -> str:
    """Markdown: seconds a volume, and the ratio."""
    clock = {n: statistics.median(run[0] for run in found) / volumes for n, found in runs.items()}
    parent = {n: statistics.median(run[1] for run in found) / volumes for n, found in runs.items()}
    return "\n\n".join(
        [
            f"{volumes} scans, {len(runs[1])} rounds in turns, the median of them. "
            f"{os.cpu_count()} cores; average load over five minutes {os.getloadavg()[1]:.1f}.",
            table(
                ["workers", "s a volume", "parent: CPU-s a volume"],
                [[str(n), f"{clock[n]:.3f}", f"{parent[n]:.4f}"] for n in runs],
            ),
            f"1 -> 2 workers: {clock[1] / clock[2]:.2f} x. An item that does nothing costs the "
            f"parent {1000 * nothing:.1f} CPU-ms ({EMPTY} items).",
        ]
    )


if __name__ == "__main__":
    main()
