"""How long a reader waits for Next Sample and Submit at many scans, beside a stock server.

    python benchmarks/next_sample.py [--sizes 100 1000 5000 20000] [--work DIR] [--out PAGE]

For each size a study of tiny scans, all scored by a stand-in for the networks and planned, and a
flat folder of as many for a stock application. Each request goes over HTTP and a connection of its
own, as the stock client sends it, in turns with the cheapest route of the same server, ``GET /``.
--work keeps the studies for a next run; --out replaces the table in a page.
"""

import argparse
import os
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from pools import AFFINE, SIDE, pool_study, stand_in, write_scans
from servers import (
    Server,
    flush_ms,
    our_server,
    percentile,
    replace_measured,
    stock_server,
    table,
    timed,
)

from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.scoring import score_study

SIZES = [100, 1000, 5000, 20000]
WARM_UP = 20
OURS, STOCK = "ours", "stock"
TRIVIAL, INFO, NEXT, RANDOM, FIRST, SUBMIT = (
    "`GET /`",
    "`GET /info/`",
    "Next Sample",
    "Next Sample, `random`",
    "Next Sample, `first`",
    "Submit",
)
# A click gives back what this reader holds, with no pause: the pool is as large at the last click
# as at the first. Training would be another load.
CONF = {"skip_minutes": "0", "train_every": "0"}

Milliseconds = dict[tuple[str, str], list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--clicks", type=int, default=200)
    parser.add_argument("--submits", type=int, default=30)
    parser.add_argument("--work", type=Path, help="folder of the studies; kept for a next run")
    parser.add_argument("--without-stock", action="store_true")
    parser.add_argument("--out", type=Path, help="page whose table is replaced")
    given = parser.parse_args()
    found: dict[int, Milliseconds] = {}
    with tempfile.TemporaryDirectory() as passing:
        work = given.work or Path(passing)
        work.mkdir(parents=True, exist_ok=True)
        waited = flush_ms(work)
        for size in given.sizes:
            found[size] = ours(work / f"ours-{size}", size, given.clicks, given.submits)
            if not given.without_stock:
                root = work / f"stock-{size}"
                found[size] |= stock(root, size, given.clicks, given.submits)
    text = report(found, waited, given.clicks, given.submits)
    print(text)
    if given.out:
        replace_measured(given.out, text, "next sample")


def planned(root: Path, size: int) -> None:
    """A study of so many scans, scored and planned, in a folder."""
    study = pool_study(root, size, skip_minutes=0, train_every=0)
    score_study(study, workers=stand_in())
    make_plans(study)


def ours(root: Path, size: int, clicks: int, submits: int) -> Milliseconds:
    """Milliseconds of each request to our server."""
    if not (root / "state").exists():
        planned(root, size)
    with our_server(root, root / "studies", **CONF) as server:
        found = measure(
            server,
            {
                TRIVIAL: lambda: server.ask("GET", "/"),
                INFO: lambda: server.ask("GET", "/info/"),
                NEXT: lambda: server.next_sample("weighted_entropy", "reader"),
            },
            clicks,
        )
        found[SUBMIT] = submitted(server, "weighted_entropy", submits)
    return {(OURS, what): taken for what, taken in found.items()}


def stock(root: Path, size: int, clicks: int, submits: int) -> Milliseconds:
    """Milliseconds of each request to a stock server."""
    if not (root / "studies").exists():
        write_scans(root / "studies", size, bids=False)
    with stock_server(root, root / "studies") as server:
        found = measure(
            server,
            {
                TRIVIAL: lambda: server.ask("GET", "/"),
                INFO: lambda: server.ask("GET", "/info/"),
                RANDOM: lambda: server.next_sample("random", "reader"),
                FIRST: lambda: server.next_sample("first", "reader"),
            },
            clicks,
        )
        found[SUBMIT] = submitted(server, "first", submits)
    return {(STOCK, what): taken for what, taken in found.items()}


def measure(
    server: Server, requests: Mapping[str, Callable[[], object]], times: int
) -> dict[str, list[float]]:
    """Milliseconds of each request, in turns; the first turns do not count."""
    found: dict[str, list[float]] = defaultdict(list)
    for turn in range(WARM_UP + times):
        for what, request in requests.items():
            taken = timed(request)
            if turn >= WARM_UP:
                found[what].append(taken)
    return found


def submitted(server: Server, strategy: str, times: int) -> list[float]:
    """Milliseconds of each Submit of a tiny mask, each after a Next Sample; the first warms up."""
    array = np.zeros((SIDE, SIDE, SIDE), dtype=np.uint8)
    taken = []
    for number in range(times + 1):
        array[number % SIDE, number // SIDE % SIDE] = 1
        mask = nib.Nifti1Image(array, AFFINE).to_bytes()
        image = server.next_sample(strategy, "reader")["id"]
        taken.append(timed(partial(server.submit, image, mask, "reader")))
    return taken[1:]


def report(found: dict[int, Milliseconds], waited: float, clicks: int, submits: int) -> str:
    """Markdown: milliseconds, and the ratios that have targets."""
    keys = list(dict.fromkeys(key for each in found.values() for key in each))
    names = ["server", "request", *(f"{size} scans" for size in found)]
    rows = [[*key, *(cell(found[size][key]) for size in found)] for key in keys]
    middle = {key: {size: statistics.median(found[size][key]) for size in found} for key in keys}
    ratios = [("Next Sample / `GET /`, ours", (OURS, NEXT), (OURS, TRIVIAL))]
    if (STOCK, RANDOM) in keys:
        ratios += [
            ("Next Sample, stock `random` / ours", (STOCK, RANDOM), (OURS, NEXT)),
            ("Submit, stock / ours", (STOCK, SUBMIT), (OURS, SUBMIT)),
        ]
    compared = [
        [name, *(f"{middle[over][size] / middle[under][size]:.2f}" for size in found)]
        for name, over, under in ratios
    ]
    first, last = min(found), max(found)
    grown = [
        [" ".join(key), f"{middle[key][last] / middle[key][first]:.2f}"]
        for key in keys
        if key[1] not in (TRIVIAL, INFO)
    ]
    return "\n\n".join(
        [
            f"Milliseconds, median (95th percentile), of {clicks} requests and of {submits} of "
            f"Submit. One flush of 4 KiB to this disk: {waited:.2f} ms. {os.cpu_count()} cores, "
            f"average load over five minutes {os.getloadavg()[1]:.1f}.",
            table(names, rows),
            table(["ratio of medians", *(f"{size} scans" for size in found)], compared),
            table([f"median at {last} / median at {first} scans", ""], grown),
        ]
    )


def cell(taken: list[float]) -> str:
    """Median and 95th percentile."""
    return f"{statistics.median(taken):.1f} ({percentile(taken, 0.95):.1f})"


if __name__ == "__main__":
    main()
