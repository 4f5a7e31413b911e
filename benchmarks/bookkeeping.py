"""What a service does besides networks and requests: a scoring round's rows, start, new files.

    python benchmarks/bookkeeping.py [--parts round start files] [--size 5000] [--out PAGE]

*round*: `score_study` and `make_plans` with a stand-in for the networks, beside the stock way, one
`update_image_info` an image, at sizes that end in minutes. *start*: from the command to the first
answer, on a new study and on a known one, at 100 scans and at many; here and of a stock server on a
flat folder. *files*: files dropped one by one into a folder that is watched, here and by the stock
datastore. --out replaces the tables in a page.
"""

import argparse
import os
import statistics
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from pools import pool_study, stand_in, write_pool, write_scans
from servers import Server, flush_ms, measure_parts, our_server, stock_server, table

from fair_strategy.host.watcher import Watcher
from fair_strategy.host.worker import spare_collector
from fair_strategy.store import cases, predictions
from fair_strategy.workflows.desk import next_case
from fair_strategy.workflows.intake import refresh
from fair_strategy.workflows.planning import make_plans, offered
from fair_strategy.workflows.scoring import score_study

SMALL = 100
STOCK_SIZES = (250, 500, 1000)
LOOK_S = 0.5
"""How often the server's loop looks while a worker runs; else every five seconds."""


@dataclass
class Spent:
    """Of a block: seconds by the clock, and CPU seconds of this process."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def spent() -> Iterator[Spent]:
    """Filled when the block ends."""
    found = Spent()
    wall, cpu = time.perf_counter(), time.process_time()
    yield found
    found.wall, found.cpu = time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--size", type=int, default=5000)
    parser.add_argument("--work", type=Path, help="folder to work in; its disk is measured")
    parser.add_argument("--out", type=Path, help="page whose tables are replaced")
    given = parser.parse_args()
    measure_parts(given, lambda part, root: PARTS[part](root, given.size))


def scoring_round(root: Path, size: int) -> str:
    """Rows, commits and plans of a whole round; prediction files apart."""
    study = pool_study(root / "ours", size)
    spare_collector()  # as the process does that scores and plans for a server
    files = Spent()
    real = predictions.write_prediction

    def counted(*given: object) -> Path:
        wall, cpu = time.perf_counter(), time.thread_time()
        path = real(*given)  # type: ignore[arg-type]
        files.wall += time.perf_counter() - wall
        files.cpu += time.thread_time() - cpu
        return path

    with mock.patch.object(predictions, "write_prediction", counted), spent() as scoring:
        workers = stand_in()
        report = score_study(study, workers=workers)
    if report.scored != size:
        raise ValueError(f"expected {size} scores, got {report.scored}")
    with spent() as planning:
        plans = make_plans(study)
    clicks: dict[str, Spent] = {}
    for name in offered(study.settings):
        with spent() as clicks[name]:
            next_case(study, name, f"reader of {name}")
    with spent() as all_of_them:
        make_plans(study)
    stood_in = workers.executor.cpu_s  # type: ignore[attr-defined]
    rows = Spent(scoring.wall - files.wall, scoring.cpu - files.cpu - stood_in)
    ours = [
        ("scores: find, order, commit", rows),
        (f"{len(plans)} plans", planning),
        ("**together**", Spent(rows.wall + planning.wall, rows.cpu + planning.cpu)),
        ("beside: one prediction file each", files),
        *((f"beside: the first click on `{name}`", click) for name, click in clicks.items()),
        (f"beside: the plans, with all {len(clicks)} strategies in use", all_of_them),
    ]
    stock = {n: _stock_round(root / f"stock-{n}", n) for n in STOCK_SIZES}
    return "\n\n".join(
        [
            f"{size} scans. One flush of 4 KiB to this disk: {flush_ms(root):.2f} ms.",
            table(["ours", "s", "CPU-s"], [[n, f"{s.wall:.3f}", f"{s.cpu:.3f}"] for n, s in ours]),
            table(
                ["stock, `update_image_info` of each", "s", "CPU-s"],
                [[f"{n} images", f"{s.wall:.2f}", f"{s.cpu:.2f}"] for n, s in stock.items()],
            ),
            _compared(stock, ours[2][1], size),
        ]
    )


def _stock_round(folder: Path, count: int) -> Spent:
    """One score an image, as a stock scoring method keeps it."""
    write_scans(folder, count, bids=False)
    store = _stock_datastore(folder)
    with spent() as found:
        for image in store.list_images():
            store.update_image_info(image, {"epistemic_entropy": 0.5, "epistemic_ts": 1})
    return found


def _compared(stock: dict[int, Spent], ours: Spent, size: int) -> str:
    most = max(stock)
    each = [f"{1000 * s.cpu / n:.2f} ms at {n}" for n, s in stock.items()]
    # A line through the cost an image: each update writes all of them.
    slope, base = statistics.linear_regression(list(stock), [s.cpu / n for n, s in stock.items()])
    expected = size * (base + slope * size)
    return (
        f"Stock, CPU time an image: {', '.join(each)}; along the line through these, {size} images "
        f"take {expected:.0f} CPU-s. Ours for {size} against stock for {most}: "
        f"{stock[most].cpu / ours.cpu:.1f} x; for as many, by that line: "
        f"{expected / ours.cpu:.0f} x."
    )


def starts(root: Path, size: int) -> str:
    """Seconds from the command to the first answer; nobody's loop starts work meanwhile."""
    kinds: dict[str, tuple[Callable[..., None], Callable[..., AbstractContextManager[Server]]]] = {
        "ours": (write_pool, partial(our_server, enable_background="false")),
        "stock": (partial(write_scans, bids=False), stock_server),
    }
    places = {(kind, n): root / f"{kind}-{n}" for n in (SMALL, size) for kind in kinds}
    for (kind, count), place in places.items():
        kinds[kind][0](place / "studies", count)
    found: dict[tuple[str, str], list[Spent]] = defaultdict(list)
    for what in ("a new study", "a known study"):
        for (kind, _), place in places.items():
            with kinds[kind][1](place, place / "studies") as server:
                found[kind, what].append(Spent(server.started_s, server.cpu_s()))
    rows = [
        [*which, *(f"{s.wall:.2f} ({s.cpu:.2f})" for s in (few, many)), _ratio(many, few)]
        for which, (few, many) in found.items()
    ]
    names = ["server", "start, s (CPU-s)", f"{SMALL} scans", f"{size} scans", "ratio"]
    load = f"{os.cpu_count()} cores, average load over five minutes {os.getloadavg()[1]:.1f}."
    return f"{load}\n\n{table(names, rows)}"


def _ratio(over: Spent, under: Spent) -> str:
    return f"{over.wall / under.wall:.2f} ({over.cpu / under.cpu:.2f})"


def new_files(root: Path, size: int, *, dropped: int = 200, every_s: float = 0.05) -> str:
    """Scans of the folder, looks at directories, CPU time for files dropped into it one by one."""
    study = pool_study(root / "ours", size)
    walks: list[object] = []
    watcher = Watcher(study.images_dir, lambda: walks.append(refresh(study)))
    drop = _dropping(study.images_dir, size, dropped, every_s, bids=True)
    with _counted(os, "stat") as stats, spent() as ours, drop as going:
        while going() or cases.count_present(study.store) < size + dropped:
            watcher.look()
            time.sleep(LOOK_S)
    rows = [["ours", str(len(walks)), f"{len(walks) / dropped:.2f}", f"{ours.cpu:.2f}"]]
    folder = root / "stock"
    write_scans(folder, size, bids=False)
    store = _stock_datastore(folder, watching=True)
    drop = _dropping(folder, size, dropped, every_s, bids=False)
    with _counted(type(store), "_reconcile_datastore") as scans, spent() as stock, drop as going:
        while going() or len(store.list_images()) < size + dropped:
            time.sleep(LOOK_S)
    store._observer.stop()  # a stock datastore cannot be closed
    store._observer.join()
    rows.append(["stock", str(len(scans)), f"{len(scans) / dropped:.2f}", f"{stock.cpu:.2f}"])
    return "\n\n".join(
        [
            f"{dropped} files, one each {1000 * every_s:.0f} ms, into {size} scans; ours looked "
            f"every {LOOK_S} s and asked for the time of {len(stats)} files and directories.",
            table(["", "scans of the whole folder", "a file", "CPU-s"], rows),
        ]
    )


@contextmanager
def _counted(owner: object, name: str) -> Iterator[list[None]]:
    """How often a function is called meanwhile."""
    calls: list[None] = []
    real = getattr(owner, name)

    def counted(*given: object, **named: object) -> object:
        calls.append(None)
        return real(*given, **named)

    with mock.patch.object(owner, name, counted):
        yield calls


@contextmanager
def _dropping(
    folder: Path, first: int, count: int, every_s: float, *, bids: bool
) -> Iterator[Callable[[], bool]]:
    """Files come one by one meanwhile; asked, it tells whether more are to come."""

    def drop() -> None:
        for number in range(first, first + count):
            write_scans(folder, 1, bids=bids, first=number)
            time.sleep(every_s)

    thread = threading.Thread(target=drop)
    thread.start()
    yield thread.is_alive
    thread.join()


def _stock_datastore(folder: Path, *, watching: bool = False) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monailabel.datastore.local import LocalDatastore
    return LocalDatastore(str(folder), auto_reload=watching)


PARTS = {"round": scoring_round, "start": starts, "files": new_files}


if __name__ == "__main__":
    main()
