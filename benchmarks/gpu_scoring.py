"""Whether scoring keeps a GPU at work: scans a second, beside the networks' bare rate on it.

    python benchmarks/gpu_scoring.py [--device cpu] [--cohort sample-data/cohort] [--out PAGE]

On the same scans, in copies so that the start does not count: *reading* alone in as many threads as
the service has; the *bare* passes of the networks, on the very inputs that these scans give them,
in batches, the segmenter's in half precision, as the service computes them; and `score_study`, from
files to committed scores. Without a GPU nothing is measured, unless --device cpu asks for the same
on the processor. --out replaces the table in a page.
"""

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from scoring_parts import SHIPPED, scored
from segmentation_cost import passes_inputs
from servers import check_page, replace_measured, table
from torch import nn

from fair_strategy.config import StudySettings
from fair_strategy.data import bids
from fair_strategy.data.volumes import read_image
from fair_strategy.learning.checkpoint import Model
from fair_strategy.workflows.intake import prepare
from fair_strategy.workflows.models import current_model
from fair_strategy.workflows.pace import Pace, pace_on
from fair_strategy.workflows.study import open_study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cuda, if there is one"
    )
    parser.add_argument("--cohort", type=Path, default=Path("sample-data/cohort"))
    parser.add_argument(
        "--copies", type=int, default=20, help="of each scan, as scans of their own"
    )
    parser.add_argument("--work", type=Path, help="folder to work in; its disk is measured")
    parser.add_argument("--out", type=Path, help="page whose table is replaced")
    given = parser.parse_args()
    check_page(given.out, "gpu")
    if given.device == "cuda" and not torch.cuda.is_available():
        print("Not measured: there is no GPU here; --device cpu measures the same without one.")
        return
    if given.work:
        given.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        text = measured(Path(folder), given.cohort, given.copies, given.device)
    print(text)
    if given.out:
        replace_measured(given.out, text, "gpu")


def measured(root: Path, cohort: Path, copies: int, device: str) -> str:
    """Markdown: scans a second of each part, and ratios."""
    paths = copied(cohort, root / "studies", copies)
    study = open_study(
        root / "studies",
        StudySettings(),
        state_dir=root / "state",
        shipped_model=SHIPPED,
        device=device,
    )
    prepare(study)
    model = current_model(study)
    pace = pace_on(model.device, study.settings)
    reading = len(paths) / seconds(lambda: read_all(paths, pace))
    bare = bare_rate(model, paths[::copies], pace, copies)
    scoring = len(paths) / seconds(lambda: scored(study, len(paths)))
    rows = [
        ["reading alone", reading],
        ["bare passes", bare],
        ["`score_study`", scoring],
        ["**`score_study` / bare passes**", scoring / bare],
        ["**`score_study` / the slower of the two**", scoring / min(reading, bare)],
    ]
    named = torch.cuda.get_device_name() if device == "cuda" else "no GPU, a CPU"
    return "\n\n".join(
        [
            f"{len(paths)} scans; {named}; {os.cpu_count()} cores; batches of {pace.batch}, "
            f"{readers(pace)} reading.",
            table(["part", "scans a second"], [[name, f"{rate:.2f}"] for name, rate in rows]),
        ]
    )


def copied(cohort: Path, target: Path, copies: int) -> list[Path]:
    """Links to a cohort's scans, each `copies` times under names of its own, side by side."""
    found = []
    for scan in bids.walk(cohort.absolute()):
        for copy in range(copies):
            subject = f"{scan.subject_id}x{copy}"
            place = target / subject / "anat" / scan.path.name.replace(scan.subject_id, subject)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(scan.path)
            found.append(place)
    return found


def read_all(paths: list[Path], pace: Pace) -> None:
    """Read and decode, in the service's number of threads."""
    with ThreadPoolExecutor(readers(pace)) as pool:
        for _ in pool.map(read_image, paths):
            pass


def readers(pace: Pace) -> int:
    """In how many threads the service reads."""
    return max(pace.lanes, pace.threads)


def bare_rate(model: Model, paths: list[Path], pace: Pace, times: int) -> float:
    """Scans a second through the networks alone, inputs lying on the device."""
    alike: defaultdict[tuple[int, ...], list[tuple[nn.Module, torch.Tensor]]] = defaultdict(list)
    for path in paths:
        for network, given in passes_inputs(model, read_image(path)):
            alike[id(network), *given.shape[1:]].append((network, given))
    batches = [
        (group[0][0], torch.cat([given for _, given in group[first : first + pace.batch]]))
        for group in alike.values()
        for first in range(0, len(group), pace.batch)
    ]

    def once() -> None:
        kind = model.device.type
        for network, given in batches:
            half = kind == "cuda" and network is model.network
            with torch.inference_mode(), torch.autocast(kind, torch.float16, enabled=half):
                network(given)

    def all_times() -> None:
        for _ in range(times):
            once()

    seconds(once)  # kernels are chosen and memory is taken at first
    return times * len(paths) / seconds(all_times)


def seconds(run: Callable[[], object]) -> float:
    """By the clock, until the device is done."""
    started = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
