"""What scoring a scan takes: reading it, the bare passes of the networks, and the whole.

On one thread, on two, and by two processes of one thread; in turns, and the median of the turns.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import psutil
import torch
from segmentation_cost import bare_passes, kept_head, passes_inputs
from servers import table
from torch import nn

from fair_strategy.config import StudySettings
from fair_strategy.data import bids
from fair_strategy.data.volumes import read_image
from fair_strategy.workflows.executors import Workers, workers
from fair_strategy.workflows.intake import prepare
from fair_strategy.workflows.models import current_model
from fair_strategy.workflows.scoring import score_study
from fair_strategy.workflows.study import Study, open_study
from fair_strategy.workflows.threads import one_thread

SHIPPED = Path("apps/fair_caudate/model/pretrained.pt")
ONE, TWO, PROCESSES = RAN = ("1 thr.", "2 thr.", "2 proc.")
READ, BARE, BOTH, WHOLE = (
    "read and decode", "bare passes", "both, each of another scan at once", "score_study",
)  # fmt: skip
PARTS = (READ, BARE, BOTH, WHOLE)


@dataclass
class Spent:
    """Seconds a scan: CPU time of all threads, and by the clock."""

    cpu: float
    wall: float


Inputs = list[tuple[nn.Module, torch.Tensor]]
"""Both networks, each with what it is given for a scan."""
Measured = Mapping[str, Mapping[str, Spent]]
"""How it ran -> part -> seconds."""


def link_scans(cohort: Path, target: Path, count: int) -> list[Path]:
    """The first scans of a cohort in a folder of their own, without its masks."""
    found = []
    for scan in bids.walk(cohort.absolute())[:count]:
        found.append(_linked(scan.path, target / scan.path.relative_to(cohort.absolute())))
    return found


def link_heads(work: Path, target: Path, count: int) -> list[Path]:
    """Whole heads of 1 mm as scans of a folder; rendered into `work` if they are not there."""
    return [
        _linked(
            kept_head(work, number)[0].absolute(),
            target / f"sub-{number:02}" / "anat" / f"sub-{number:02}_T1w.nii.gz",
        )
        for number in range(count)
    ]


def _linked(path: Path, place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(path)
    return place


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


def new_study(root: Path, name: str, **settings: Any) -> Study:
    """A study of the scans in `root`/studies, none scored, with a state of its own."""
    study = open_study(
        root / "studies",
        StudySettings(**settings),
        state_dir=root / name,
        shipped_model=SHIPPED,
    )
    prepare(study)
    current_model(study)
    return study


def scored(study: Study, count: int, made: Workers | None = None) -> None:
    """Score all; ValueError if some cannot be."""
    done = score_study(study, workers=made).scored
    if done != count:
        raise ValueError(f"expected {count} scores, got {done}")


def measure_parts(root: Path, paths: list[Path], turns: int) -> Measured:
    """Medians over so many turns, after one that warms up and does not count."""
    found: dict[str, dict[str, list[Spent]]] = {ran: defaultdict(list) for ran in RAN}
    with workers("processes:2") as made:
        helpers: list[psutil.Process] = []
        for turn in range(turns + 1):
            here = {
                ran: _on_threads(root, f"{ran}-{turn}", paths, threads)
                for threads, ran in ((1, ONE), (2, TWO))
            }
            torch.set_num_threads(1)
            study = new_study(root, f"{PROCESSES}-{turn}")
            with per_scan(len(paths), helpers) as spent:
                scored(study, len(paths), made)
            helpers = [psutil.Process(child.pid) for child in active_children()]
            for ran, parts in {**here, PROCESSES: {WHOLE: spent}}.items():
                for part, one in parts.items() if turn else ():
                    found[ran][part].append(one)
    return {
        ran: {part: _median(several) for part, several in parts.items()}
        for ran, parts in found.items()
    }


def _on_threads(root: Path, name: str, paths: list[Path], threads: int) -> dict[str, Spent]:
    torch.set_num_threads(threads)
    study = new_study(root, name)
    inputs = [passes_inputs(current_model(study), read_image(path)) for path in paths]
    with per_scan(len(paths)) as reading:
        for path in paths:
            read_image(path)  # and not kept: scoring reads into memory used before, too
    with per_scan(len(paths)) as passing:
        for given in inputs:
            bare_passes(given)
    with per_scan(len(paths)) as both:
        _read_and_pass(paths, inputs, threads)
    del inputs
    with per_scan(len(paths)) as scoring:
        scored(study, len(paths))
    return {READ: reading, BARE: passing, BOTH: both, WHOLE: scoring}


def _read_and_pass(paths: list[Path], inputs: list[Inputs], threads: int) -> None:
    """What scoring cannot do without, at once as scoring does it.

    Cores that share caches, memory and clock take longer for each of two things than for one.
    """
    if threads == 1:
        with ThreadPoolExecutor(1) as pool:
            for path, given in zip(paths, inputs, strict=True):
                reading = pool.submit(read_image, path)
                bare_passes(given)
                reading.result()
        return
    with one_thread(), ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda path, given: (read_image(path), bare_passes(given)), paths, inputs))


def _median(several: Sequence[Spent]) -> Spent:
    cpu, wall = ([getattr(one, kind) for one in several] for kind in ("cpu", "wall"))
    return Spent(statistics.median(cpu), statistics.median(wall))


def parts_table(found: Measured) -> str:
    """Markdown: seconds and ratios, as run in each way; of two processes the whole alone."""
    rows = [
        [part, *(cell for ran in RAN for cell in _cells(found[ran].get(part)))] for part in PARTS
    ]
    names = ["part", *(f"{kind}, {ran}" for ran in RAN for kind in ("CPU-s", "s"))]
    return table(names, [*rows, *_besides_rows(found), *_clock_rows(found)])


def _besides_rows(found: Measured) -> Iterator[list[str]]:
    # However it runs, a scan's own passes are computed on one thread.
    known = found[ONE][READ].cpu + found[ONE][BARE].cpu
    at_once = {
        ONE: found[ONE][BOTH].cpu,
        TWO: found[TWO][BOTH].cpu,
        PROCESSES: found[TWO][BOTH].cpu,
    }
    for name, least in (
        ("**besides reading and passes / their sum, one thread**", dict.fromkeys(RAN, known)),
        ("besides both at once / both at once", at_once),
    ):
        shares = [found[ran][WHOLE].cpu / least[ran] - 1 for ran in RAN]
        yield [name, *(cell for share in shares for cell in (f"{share:.0%}", ""))]


def _clock_rows(found: Measured) -> Iterator[list[str]]:
    larger = _larger(found[TWO])
    for name, part in (("the whole", WHOLE), ("both at once", BOTH)):
        cells = [
            f"{found[ran][part].wall / (_larger(found[ONE]) if ran == ONE else larger):.2f}"
            if part in found[ran]
            else ""
            for ran in RAN
        ]
        told = f"{name} / the larger of the two"
        yield [f"**{told}**" if part == WHOLE else told, *(c for cell in cells for c in ("", cell))]


def _larger(parts: Mapping[str, Spent]) -> float:
    return max(parts[READ].wall, parts[BARE].wall)


def _cells(spent: Spent | None) -> tuple[str, str]:
    return ("", "") if spent is None else (f"{spent.cpu:.3f}", f"{spent.wall:.3f}")
