"""How long a reader waits for Next Sample and Submit at many scans, beside a stock server.

    python benchmarks/next_sample.py [--sizes 100 1000 5000 20000] [--work DIR] [--out PAGE]

For each size a study of tiny scans, all scored by a stand-in for the networks and planned, and a
flat folder of as many for a stock application. All servers run at once and are asked in turns, so
that what else the machine does weighs on all alike; each request goes over HTTP and a connection
of its own, as the stock client sends it. The cheapest route of each server, ``GET /``, is asked
beside, and an upload as large as Submit's under a tag that ours refuses when it has received it;
and the least library calls that a Submit is made of (`submit_floor.py`), in this process.
--work keeps the studies for a next run; --out replaces the tables in a page.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from pools import AFFINE, SIDE, pool_study, stand_in, write_scans
from servers import (
    Server,
    check_page,
    flush_ms,
    multipart,
    our_server,
    percentile,
    replace_measured,
    stock_server,
    table,
    timed,
)
from submit_floor import least_submit_ms

from fair_strategy.workflows.planning import make_plans
from fair_strategy.workflows.scoring import score_study

SIZES = [100, 1000, 5000, 20000]
IN_A_ROW = 20
TRIVIAL, INFO, NEXT, SUBMIT = "`GET /`", "`GET /info/`", "Next Sample", "Submit"
UPLOAD = "Submit's upload, refused"
CALM = "`GET /`, after a pause"
PAUSE_S, AFTER_SUBMIT_S = 0.6, 2.5
"""What a Submit gives the background to do is over by the next request."""
OURS, STOCK = "ours", "stock"
STRATEGIES = {OURS: "weighted_entropy", STOCK: "random"}
# A click gives back what this reader holds, with no pause: the pool is as large at the last click
# as at the first. Training would be another load.
CONF = {"skip_minutes": "0", "train_every": "0"}


class Key(NamedTuple):
    """Which request to which server."""

    server: str
    request: str
    size: int


Asked = tuple[str, list[float], float]
"""Which request, milliseconds of each by the clock, CPU milliseconds of one."""


class Found(NamedTuple):
    """Milliseconds of each request by the clock, and CPU milliseconds of the server for all."""

    taken: list[float]
    cpu: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--rounds", type=int, default=6, help=f"of {IN_A_ROW} requests of a kind")
    parser.add_argument("--work", type=Path, help="folder of the studies; kept for a next run")
    parser.add_argument("--stock-up-to", type=int, default=20000, help="scans; 0 for none")
    parser.add_argument("--out", type=Path, help="page whose tables are replaced")
    given = parser.parse_args()
    check_page(given.out, "next sample")
    sizes = {OURS: given.sizes, STOCK: [n for n in given.sizes if n <= given.stock_up_to]}
    with tempfile.TemporaryDirectory() as passing, ExitStack() as running:
        work = given.work or Path(passing)
        work.mkdir(parents=True, exist_ok=True)
        servers = {}
        for size in given.sizes:
            for kind in (kind for kind in sizes if size in sizes[kind]):
                servers[kind, size] = running.enter_context(started(kind, work, size))
                print(f"{kind}, {size} scans: {servers[kind, size].started_s:.1f} s to start")
        found = measure(servers, given.rounds)
        waited, least = flush_ms(work), least_submit(work / f"{OURS}-{given.sizes[0]}")
    text = report(found, given.sizes, waited) + "\n\n" + floor_table(least)
    print(text)
    if given.out:
        replace_measured(given.out, text, "next sample")


def started(kind: str, work: Path, size: int) -> AbstractContextManager[Server]:
    """A server on a study, which is made if it is not there."""
    root = work / f"{kind}-{size}"
    if kind == STOCK:
        if not (root / "studies").exists():
            write_scans(root / "studies", size, bids=False)
        return stock_server(root, root / "studies")
    if not (root / "state").exists():
        planned(root, size)
    return our_server(root, root / "studies", **CONF)


def planned(root: Path, size: int) -> None:
    """A study of so many scans, scored and planned, in a folder."""
    study = pool_study(root, size, skip_minutes=0, train_every=0)
    score_study(study, workers=stand_in())
    make_plans(study)


def measure(servers: dict[tuple[str, int], Server], rounds: int) -> dict[Key, Found]:
    """All requests to all servers, in turns; the first round does not count.

    Submit comes last: it gives the background work to do, which would weigh on all the rest.
    """
    found: dict[Key, Found] = defaultdict(lambda: Found([], []))
    for ask in (in_a_row, one_by_one):
        for turn in range(rounds + 1):
            for (kind, size), server in servers.items():
                for request, taken, cpu in ask(server, kind):
                    if turn:
                        into = found[Key(kind, request, size)]
                        into.taken.extend(taken)
                        into.cpu.append(cpu)
    return found


def in_a_row(server: Server, kind: str) -> Iterator[Asked]:
    """Rows of requests without a pause, each row of one kind."""
    calls: dict[str, Callable[[], object]] = {
        TRIVIAL: partial(server.ask, "GET", "/"),
        INFO: partial(server.ask, "GET", "/info/"),
        NEXT: partial(server.next_sample, STRATEGIES[kind], "reader"),
    }
    for request, call in calls.items():
        cpu, taken = server.cpu_s(), [timed(call) for _ in range(IN_A_ROW)]
        yield request, taken, 1000 * (server.cpu_s() - cpu) / len(taken)


def one_by_one(server: Server, kind: str) -> Iterator[Asked]:
    """Submits, each with what it is compared with, and a pause after each request.

    A reader does not submit twice in a row. CPU time is that of the pause, too: what a Submit gives
    the server's own process to do comes after the answer.
    """
    for number, submit in enumerate(submits(server, STRATEGIES[kind])):
        calls: dict[str, Callable[[], object]] = {
            CALM: partial(server.ask, "GET", "/"),
            UPLOAD: partial(refused_upload, server, tiny_mask(number)),
            SUBMIT: submit,
        }
        if kind == STOCK:  # it takes a label under any tag
            del calls[UPLOAD]
        for request, call in calls.items():
            cpu, taken = server.cpu_s(), timed(call)
            time.sleep(AFTER_SUBMIT_S if request == SUBMIT else PAUSE_S)
            yield request, [taken], 1000 * (server.cpu_s() - cpu)


def submits(server: Server, strategy: str, count: int = 3) -> list[Callable[[], object]]:
    """Calls that submit a tiny mask each, for scans handed out to readers of their own."""
    calls: list[Callable[[], object]] = []
    for number in range(count):
        reader = f"reader-{number}"
        image = server.next_sample(strategy, reader)["id"]
        calls.append(partial(server.submit, image, tiny_mask(number), reader))
    return calls


def tiny_mask(number: int) -> bytes:
    """A file with one voxel set, another for each number."""
    array = np.zeros((SIDE, SIDE, SIDE), dtype=np.uint8)
    array.flat[number] = 1
    content: bytes = nib.Nifti1Image(array, AFFINE).to_bytes()
    return content


def refused_upload(server: Server, mask: bytes) -> None:
    """A mask sent as by Submit, but under a tag of the model's: received, looked at no further."""
    body, kind = multipart({"params": json.dumps({"client_id": "reader"})}, {"label": mask})
    path = "/datastore/label?image=sub-00000_T1w&tag=original"
    try:
        server.ask("PUT", path, body, **{"Content-Type": kind})
    except ValueError as error:
        if "belongs to the model" in str(error):
            return
        raise
    raise ValueError(f"PUT {path}: expected a refusal, it was taken")


def least_submit(root: Path) -> dict[str, list[float]]:
    """The least calls of a Submit, on a scan of a served study and its prediction."""
    shown = next((root / "state" / "predictions").rglob("sub-*"))
    scan = next((root / "studies").rglob(f"{shown.name.split('.')[0]}.nii"))
    return least_submit_ms(scan, shown, tiny_mask(0), root)


def floor_table(least: dict[str, list[float]]) -> str:
    """Markdown of the least calls and their sum."""
    rows = [[name, *(f"{value:.2f}" for value in values)] for name, values in least.items()]
    total = [f"**{sum(values):.2f}**" for values in zip(*least.values(), strict=True)]
    return table(["least call of a Submit", "ms", "CPU-ms"], [*rows, ["**together**", *total]])


def report(found: dict[Key, Found], sizes: list[int], waited: float) -> str:
    """Markdown: milliseconds, CPU milliseconds, and the ratios that have targets."""
    asked = list(dict.fromkeys(key[:2] for key in sorted(found)))
    names = ["server", "request", *(f"{size} scans" for size in sizes)]

    def row(cell: Callable[[Found], str], kind: str, request: str) -> list[str]:
        keys = [Key(kind, request, size) for size in sizes]
        return [kind, request, *(cell(found[key]) if key in found else "" for key in keys)]

    few = min(sizes)
    times = len(found[Key(OURS, NEXT, few)].taken), len(found[Key(OURS, SUBMIT, few)].taken)
    return "\n\n".join(
        [
            f"{times[0]} requests of a kind, {times[1]} of Submit. One flush of 4 KiB to this disk "
            f"takes {waited:.1f} ms. {os.cpu_count()} cores, average load over five minutes "
            f"{os.getloadavg()[1]:.1f}. By the clock, ms: median (95th percentile).",
            table(names, [row(_clock, *a) for a in asked]),
            "CPU time of the server, ms a request:",
            table(names, [row(_cpu, *a) for a in asked]),
            table(["ratio of medians, CPU time", *names[2:]], ratios(found, sizes)),
            table(["largest / smallest pool", "scans", "median", "CPU time"], growth(found)),
        ]
    )


def ratios(found: dict[Key, Found], sizes: list[int]) -> list[list[str]]:
    """Our requests against the trivial route, and stock against ours; by the clock and in CPU."""

    def row(name: str, over: tuple[str, str], under: tuple[str, str], less: str = "") -> list[str]:
        def ratio(size: int, of: Callable[[Found], float]) -> str:
            taken_off = of(found[Key(over[0], less, size)]) if less else 0.0
            value = (of(found[Key(*over, size)]) - taken_off) / of(found[Key(*under, size)])
            return f"{value:.2f}"

        # CPU time of what comes one by one is that of the pause, too.
        kinds = [_middle] if less else [_middle, _mean]
        cells = [
            ", ".join(ratio(size, of) for of in kinds) if Key(*over, size) in found else ""
            for size in sizes
        ]
        return [name, *cells]

    submit = "(Submit - its upload, refused)"
    return [
        row("Next Sample / `GET /`, ours", (OURS, NEXT), (OURS, TRIVIAL)),
        row(f"{submit} / `GET /`, ours", (OURS, SUBMIT), (OURS, TRIVIAL), UPLOAD),
        row(f"{submit} / {CALM}, ours", (OURS, SUBMIT), (OURS, CALM), UPLOAD),
        *(row(f"{name}, stock / ours", (STOCK, name), (OURS, name)) for name in (NEXT, SUBMIT)),
    ]


def growth(found: dict[Key, Found]) -> list[list[str]]:
    """How much dearer a request is in the largest pool than in the smallest."""
    rows = []
    for kind, name in [(OURS, NEXT), (OURS, SUBMIT), (STOCK, NEXT), (STOCK, SUBMIT)]:
        keys = sorted(key for key in found if key[:2] == (kind, name))
        if keys:
            few, many = found[keys[0]], found[keys[-1]]
            grown = [f"{_middle(many) / _middle(few):.2f}", f"{_mean(many) / _mean(few):.2f}"]
            rows.append([f"{name}, {kind}", f"{keys[0].size}, {keys[-1].size}", *grown])
    return rows


def _middle(found: Found) -> float:
    return statistics.median(found.taken)


def _mean(found: Found) -> float:
    return statistics.mean(found.cpu)


def _clock(found: Found) -> str:
    return f"{_middle(found):.1f} ({percentile(found.taken, 0.95):.1f})"


def _cpu(found: Found) -> str:
    return f"{_mean(found):.1f}"


if __name__ == "__main__":
    main()
