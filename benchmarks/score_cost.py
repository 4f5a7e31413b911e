"""What a score costs beside reading the file and the bare forward passes of the networks.

    python benchmarks/score_cost.py [--cohort sample-data/cohort] [--volumes 8]

Both are measured in the same run, on the same volumes, in CPU seconds of one thread.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from fair_strategy.config import StudySettings
from fair_strategy.data import bids
from fair_strategy.data.volumes import read_image
from fair_strategy.learning.checkpoint import Model, load_model
from fair_strategy.learning.inference import predict
from fair_strategy.workflows.assessment import assess

SHIPPED = Path("apps/fair_caudate/model/pretrained.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohort", type=Path, default=Path("sample-data/cohort"))
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--volumes", type=int, default=8)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(given.model)
    scans = bids.walk(given.cohort)[: given.volumes]
    spent, routes = measure(model, [scan.path for scan in scans])
    report(spent, len(scans), routes)


def measure(model: Model, paths: list[Path]) -> tuple[Counter[str], Counter[str]]:
    """CPU seconds by part, and how many volumes went which route; the first one warms up."""
    spent: Counter[str] = Counter()
    routes: Counter[str] = Counter()
    for number, path in enumerate([paths[0], *paths]):
        with timed(spent, "read and decode"):
            volume = read_image(path)
        inside: Counter[str] = Counter()
        with timed(spent, "predict"), counted_forward(model, inside):
            prediction = predict(model, volume)
        spent["bare forward passes"] += inside["forward"]
        with timed(spent, "assess"):
            assess(prediction, StudySettings())
        routes[prediction.route] += 1
        if number == 0:
            spent.clear()
            routes.clear()
    return spent, routes


@contextmanager
def timed(spent: Counter[str], part: str) -> Iterator[None]:
    """Add the CPU time of the block."""
    started = time.thread_time()
    yield
    spent[part] += time.thread_time() - started  # type: ignore[assignment]


@contextmanager
def counted_forward(model: Model, spent: Counter[str]) -> Iterator[None]:
    """Add the CPU time that the networks themselves take, whoever calls them."""
    handles = []
    for network in filter(None, (model.network, model.localiser)):
        started: list[float] = []

        def before(*_: object, started: list[float] = started) -> None:
            started.append(time.thread_time())

        def after(*_: object, started: list[float] = started) -> None:
            spent["forward"] += time.thread_time() - started.pop()  # type: ignore[assignment]

        handles += [
            network.register_forward_pre_hook(before),
            network.register_forward_hook(after),
        ]
    yield
    for handle in handles:
        handle.remove()


def report(spent: Counter[str], volumes: int, routes: Counter[str]) -> None:
    """A table in Markdown."""
    forward = spent["bare forward passes"]
    total = spent["predict"] + spent["assess"]
    print(f"{volumes} volumes, routes {dict(routes)}, one thread\n")
    print("| part | CPU-s a volume | x bare forward |")
    print("|---|---|---|")
    for part in ("read and decode", "bare forward passes", "predict", "assess"):
        print(f"| {part} | {spent[part] / volumes:.3f} | {spent[part] / forward:.2f} |")
    print(f"| **score (predict + assess)** | {total / volumes:.3f} | {total / forward:.2f} |")
    extra = (total - forward) / (forward + spent["read and decode"])
    print(f"\nEverything besides reading and the networks: {100 * extra:.0f} % of their sum.")


if __name__ == "__main__":
    main()
