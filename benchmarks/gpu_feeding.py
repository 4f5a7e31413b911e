"""From what time a pass on this machine's cores would keep a GPU at work, measured without one.

    python benchmarks/gpu_feeding.py [--pass-ms 10 20 40 80] [--cohort sample-data/cohort]
        [--out docs/results/performance.md]

The service at its GPU's pace, but with networks that wait instead of computing: as long as is asked
for a scan, one batch or overview at a time, the cores being free meanwhile. Then they answer what
the real networks did. The *bare* rate is that of such passes alone, in batches; beside it
`score_study` with the same networks, from files to committed scores, and the share of its time in
which a pass was under way. The time is divided among localiser and segmenter by their
floating-point operations, which are counted. What a GPU adds, copies to and fro and kernels that
are launched, is not in it. --out replaces the table in a page.
"""

import argparse
import os
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from gpu_scoring import bare_rate, copied
from scoring_parts import SHIPPED, new_study, per_scan, scored
from segmentation_cost import passes_inputs
from servers import check_page, replace_measured, table
from torch.utils.flop_counter import FlopCounterMode

from fair_strategy.config import StudySettings
from fair_strategy.data.volumes import read_image
from fair_strategy.learning.checkpoint import Model, load_model
from fair_strategy.workflows import scoring
from fair_strategy.workflows.models import current_model
from fair_strategy.workflows.pace import pace_on

GPU = pace_on(torch.device("cuda"), StudySettings())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pass-ms", type=float, nargs="+", default=[10, 20, 40, 80])
    parser.add_argument("--cohort", type=Path, default=Path("sample-data/cohort"))
    parser.add_argument("--copies", type=int, default=8, help="of each scan, as scans of their own")
    parser.add_argument("--work", type=Path, help="folder to work in; its disk is measured")
    parser.add_argument("--out", type=Path, help="page whose table is replaced")
    given = parser.parse_args()
    check_page(given.out, "feeding")
    if given.work:
        given.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        text = measured(Path(folder), given.cohort, given.copies, given.pass_ms)
    print(text)
    if given.out:
        replace_measured(given.out, text, "feeding")


def measured(root: Path, cohort: Path, copies: int, pass_ms: Sequence[float]) -> str:
    """Markdown: scans a second, bare and scored, for each time of a pass."""
    paths = copied(cohort, root / "studies", copies)
    once = paths[::copies]
    waiting = Waiting(load_model(SHIPPED), once)
    rows = [row_of(root, paths, once, waiting, each / 1000) for each in pass_ms]
    counted = " and ".join(
        f"{name} {flops / 1e9:.1f}" for name, flops in zip(NAMES, waiting.flops, strict=True)
    )
    names = [
        "a pass, ms a scan", "bare, scans a second", "`score_study`, scans a second",
        "**`score_study` / bare**", "passes under way", "CPU-ms a scan",
    ]  # fmt: skip
    return "\n\n".join(
        [
            f"{len(paths)} scans; {os.cpu_count()} cores; average load over five minutes "
            f"{os.getloadavg()[1]:.1f}; batches of {GPU.batch}, {GPU.threads} threads that "
            "read and as many that cut and finish. 10^9 floating-point operations a scan: "
            f"{counted}.",
            table(names, rows),
        ]
    )


NAMES = ("localiser", "segmenter")


class Waiting:
    """What both networks answer to the inputs of some scans, and what it costs them.

    Attributes:
        flops: of a scan, on the mean: of the localiser, and of the segmenter.
    """

    def __init__(self, model: Model, paths: Sequence[Path]) -> None:
        self._answers: dict[tuple[int, ...], torch.Tensor] = {}
        self._device = ThreadPoolExecutor(1)  # one pass at a time, in the order they were asked for
        spent = [0.0, 0.0]
        for path in paths:
            for network, given in passes_inputs(model, read_image(path)):
                with FlopCounterMode(display=False) as counter, torch.inference_mode():
                    self._answers[_key(given[0])] = network(given)[0]
                spent[network is model.network] += counter.get_total_flops() / len(paths)
        self.flops = spent

    @contextmanager
    def of(self, model: Model, pass_s: float) -> Iterator[None]:
        """In the block the model's networks wait, together so long for a scan."""
        networks = (model.localiser, model.network)
        shares = [pass_s * flops / sum(self.flops) for flops in self.flops]
        for network, share in zip(networks, shares, strict=True):
            network.forward = lambda given, share=share: self._answer(given, share)
        try:
            yield
        finally:
            for network in networks:
                del network.forward

    def _answer(self, given: torch.Tensor, share: float) -> torch.Tensor:
        self._device.submit(time.sleep, share * len(given)).result()
        return torch.stack([self._answers[_key(one)] for one in given])


def _key(one: torch.Tensor) -> tuple[int, ...]:
    return (*one.shape, zlib.crc32(one.contiguous().numpy()))


def row_of(
    root: Path, paths: list[Path], once: list[Path], waiting: Waiting, pass_s: float
) -> list[str]:
    """A row of the table."""
    study = new_study(root, f"state-{pass_s}")
    model = current_model(study)
    with patch.object(scoring, "pace_on", lambda *_: GPU), waiting.of(model, pass_s):
        bare = bare_rate(model, once, GPU, 1)
        with per_scan(len(paths)) as spent:
            scored(study, len(paths))
    rate = 1 / spent.wall
    return [
        f"{pass_s * 1000:g}", f"{bare:.1f}", f"{rate:.1f}",
        f"{rate / bare:.0%}", f"{rate * pass_s:.0%}", f"{spent.cpu * 1000:.0f}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
