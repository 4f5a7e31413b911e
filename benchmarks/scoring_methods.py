"""What scoring a scan costs, by ours and by stock scoring, and how far their rankings agree.

    python benchmarks/scoring_methods.py [--cohort sample-data/cohort] [--scans 12] [--out PAGE]

On the same scans and the same network, CPU seconds of all threads: reading and decoding, the bare
passes of the networks, and `score_study` as the service runs it, prediction files and database
included, on one thread, on two, and by two processes of one thread; then stock `epistemic_v2` with
five passes of the segmenter over the whole scan, and our MC dropout of 5 and of 20 passes. Each
ranking is compared with that of one deterministic pass by Spearman's correlation. --out replaces
the tables in a page.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import psutil
import torch
from scipy.stats import bootstrap, spearmanr
from segmentation_cost import bare_passes, passes_inputs
from servers import check_page, flush_ms, replace_measured, table
from stock_scoring import stock_scores

from fair_strategy.config import StudySettings
from fair_strategy.data import bids
from fair_strategy.data.volumes import read_image
from fair_strategy.learning.checkpoint import load_model
from fair_strategy.store import scores
from fair_strategy.workflows.executors import Workers, workers
from fair_strategy.workflows.intake import prepare
from fair_strategy.workflows.models import current_model
from fair_strategy.workflows.scoring import score_study
from fair_strategy.workflows.study import Study, masked_score, open_study

SHIPPED = Path("apps/fair_caudate/model/pretrained.pt")
PASSES = (5, 20)
READ, BARE, WHOLE = "read and decode", "bare passes", "score_study"
RAN = ("1 thr.", "2 thr.", "2 proc.")


@dataclass
class Spent:
    """Seconds a scan: CPU time of all threads, and by the clock."""

    cpu: float
    wall: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohort", type=Path, default=Path("sample-data/cohort"))
    parser.add_argument("--scans", type=int, default=12)
    parser.add_argument("--work", type=Path, help="folder to work in; its disk is measured")
    parser.add_argument("--without-stock", action="store_true")
    parser.add_argument("--out", type=Path, help="page whose tables are replaced")
    given = parser.parse_args()
    check_page(given.out, "scoring")
    if given.work:
        given.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        root = Path(folder)
        paths = link_scans(given.cohort, root / "studies", given.scans)
        parts = [measure_parts(root, paths, threads) for threads in (1, 2)]
        processes = measure_processes(root, paths)
        torch.set_num_threads(1)
        methods, rankings = measure_methods(root, paths, stock=not given.without_stock)
        waited = flush_ms(root)
    text = report([*parts, processes], methods, rankings, len(paths), waited)
    print(text)
    if given.out:
        replace_measured(given.out, text, "scoring")


def link_scans(cohort: Path, target: Path, count: int) -> list[Path]:
    """The first scans of a cohort in a folder of their own, without its masks."""
    found = []
    for scan in bids.walk(cohort.absolute())[:count]:
        place = target / scan.path.relative_to(cohort.absolute())
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(scan.path)
        found.append(place)
    return found


@contextmanager
def per_scan(count: int, helpers: Sequence[psutil.Process] = ()) -> Iterator[Spent]:
    """Filled when the block ends; the CPU time with that of other processes."""
    spent = Spent(0.0, 0.0)
    cpu, wall = cpu_s(helpers), time.perf_counter()
    yield spent
    spent.wall = (time.perf_counter() - wall) / count
    spent.cpu = (cpu_s(helpers) - cpu) / count


def cpu_s(helpers: Sequence[psutil.Process]) -> float:
    """CPU seconds so far of this process and of others."""
    spent = [helper.cpu_times() for helper in helpers]
    return time.process_time() + sum(times.user + times.system for times in spent)


def measure_parts(root: Path, paths: list[Path], threads: int) -> dict[str, Spent]:
    """Reading, bare passes, and the whole of scoring, on so many threads."""
    torch.set_num_threads(threads)
    study = new_study(root, f"parts-{threads}")
    model = current_model(study)
    inputs = [passes_inputs(model, read_image(path)) for path in paths]  # the first warms up
    with per_scan(len(paths)) as reading:
        for path in paths:
            read_image(path)  # and not kept: scoring reads into memory used before, too
    bare_passes(inputs[0])
    with per_scan(len(paths)) as passing:
        for given in inputs:
            bare_passes(given)
    del inputs
    with per_scan(len(paths)) as scoring:
        scored(study, len(paths))
    return {READ: reading, BARE: passing, WHOLE: scoring}


def measure_processes(root: Path, paths: list[Path]) -> dict[str, Spent]:
    """The whole of scoring by two processes of one thread, which are at work already."""
    with workers("processes:2") as made:
        scored(new_study(root, "processes-warm"), len(paths), made)
        study = new_study(root, "processes")
        current_model(study)
        helpers = [psutil.Process(child.pid) for child in active_children()]
        with per_scan(len(paths), helpers) as scoring:
            scored(study, len(paths), made)
    return {WHOLE: scoring}


def measure_methods(
    root: Path, paths: list[Path], *, stock: bool
) -> tuple[dict[str, Spent], dict[str, list[float]]]:
    """Cost and scores, by scan, of each method on one thread."""
    spent: dict[str, Spent] = {}
    rankings: dict[str, list[float]] = {}
    for passes in (1, *PASSES):
        name = "one pass" if passes == 1 else f"MC dropout x {passes}"
        study = new_study(root, f"passes-{passes}", passes=passes)
        current_model(study)
        with per_scan(len(paths)) as spent[name]:
            scored(study, len(paths))
        found = scores.scores(study.store, current_model(study).checksum, study.settings_hash)
        records = [found[case_id] for case_id in sorted(found)]
        wanted = masked_score(study.settings)
        rankings[f"{name}, entropy in the ROI"] = [r.entropies[wanted] for r in records]
        rankings[f"{name}, entropy of the whole"] = [r.entropies["entropy"] for r in records]
        if passes > 1:
            rankings[f"{name}, mutual information"] = [
                r.entropies["mutual_information"] for r in records
            ]
    if stock:
        model = load_model(SHIPPED)
        with per_scan(len(paths)) as spent["stock `epistemic_v2` x 5"]:
            rankings["stock `epistemic_v2` x 5"] = stock_scores(model, paths, root / "stock")
    return spent, rankings


def new_study(root: Path, name: str, **settings: Any) -> Study:
    """A study of the scans, none scored, with a state of its own."""
    study = open_study(
        root / "studies",
        StudySettings(**settings),
        state_dir=root / name,
        shipped_model=SHIPPED,
    )
    prepare(study)
    return study


def scored(study: Study, count: int, made: Workers | None = None) -> None:
    """Score all; ValueError if some cannot be."""
    done = score_study(study, workers=made).scored
    if done != count:
        raise ValueError(f"expected {count} scores, got {done}")


def report(
    parts: list[dict[str, Spent]],
    methods: Mapping[str, Spent],
    rankings: Mapping[str, list[float]],
    count: int,
    waited: float,
) -> str:
    """Markdown: seconds a scan, ratios, correlations."""
    names = ["part", *(f"{kind}, {ran}" for ran in RAN for kind in ("CPU-s", "s"))]
    base = methods["one pass"].cpu
    first = rankings["one pass, entropy in the ROI"]
    return "\n\n".join(
        [
            f"{count} scans of the sample cohort. One flush of 4 KiB to this disk takes "
            f"{waited:.1f} ms. {os.cpu_count()} cores; average load over five minutes "
            f"{os.getloadavg()[1]:.1f}. Threads that wait for others: "
            f"{os.environ.get('OMP_WAIT_POLICY', 'as OpenMP does by itself')}.",
            table(names, part_rows(parts)),
            table(
                ["method, one thread", "CPU-s a scan", "x one pass"],
                [[n, f"{s.cpu:.3f}", f"{s.cpu / base:.1f}"] for n, s in methods.items()],
            ),
            f"Spearman's correlation with one pass, entropy in the ROI, over {count} scans:",
            table(
                ["ranking", "correlation", "95 % interval, bootstrap over scans"],
                [[n, *_correlation(first, found)] for n, found in rankings.items()],
            ),
        ]
    )


def part_rows(parts: list[dict[str, Spent]]) -> list[list[str]]:
    """Seconds and ratios, as run in each of `RAN`; of two processes only the whole is measured."""
    one, two = parts[:2]
    rows = [
        [name, *(c for p in parts for c in (_cells(p[name]) if name in p else ("", "")))]
        for name in one
    ]
    # Processes of one thread do what one thread does, on as many cores as two threads.
    known = [part[READ].cpu + part[BARE].cpu for part in (one, two, one)]
    rest = [(p[WHOLE].cpu - sum_) / sum_ for p, sum_ in zip(parts, known, strict=True)]
    rows.append(
        ["**besides reading and passes / their sum**", *(c for r in rest for c in (f"{r:.0%}", ""))]
    )
    for which, yardsticks in (("", (one, two, two)), (" on one thread", (one, one, one))):
        clock = [
            p[WHOLE].wall / max(y[READ].wall, y[BARE].wall)
            for p, y in zip(parts, yardsticks, strict=True)
        ]
        name = f"**the whole / the larger of the two{which}**"
        rows.append([name, *(c for r in clock for c in ("", f"{r:.2f}"))])
    return [*rows, _least_row(one, two)]


def _least_row(one: Mapping[str, Spent], two: Mapping[str, Spent]) -> list[str]:
    """The least that these reads and passes alone take of two cores' time, were they shared out.

    The passes as two threads of one process compute them, and as two processes of one thread do.
    """
    larger = max(two[READ].wall, two[BARE].wall)
    least = [(one[READ].cpu + passes.cpu) / 2 / larger for passes in (two[BARE], one[BARE])]
    name = "**reading and passes on two cores, no pause / the larger of the two**"
    return [name, "", "", *(c for r in least for c in ("", f"{r:.2f}"))]


def _correlation(first: Sequence[float], found: Sequence[float]) -> tuple[str, str]:
    if list(first) == list(found):
        return "1", ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a draw of one scan alone has no correlation
        drawn = bootstrap(
            (first, found),
            lambda one, other: spearmanr(one, other).statistic,
            paired=True,
            vectorized=False,
            method="percentile",
            n_resamples=2000,
            rng=0,
        ).confidence_interval
    return f"{spearmanr(first, found).statistic:.2f}", f"{drawn.low:.2f} to {drawn.high:.2f}"


def _cells(spent: Spent) -> tuple[str, str]:
    return f"{spent.cpu:.3f}", f"{spent.wall:.3f}"


if __name__ == "__main__":
    main()
