"""What finding and scoring the structure in a whole head costs, by localising and by sliding.

    python benchmarks/segmentation_cost.py [--work DIR] [--heads 4] [--out PAGE]

Synthetic heads of 256 x 256 x 176 voxels of 1 mm, kept in --work as a scanner's .nii.gz (whole
numbers): rendering one takes half a minute. On one thread and on two, in turns, with the bare
passes of the two networks on the very inputs that `predict` gives them: as they run, and with
torch's own kernel for every layer. And the least that the rest could cost, call by call. --out
replaces the tables in a page between its two marks.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from segmentation_floor import least_calls
from servers import check_page, replace_measured
from torch import nn

from fair_strategy.config import StudySettings
from fair_strategy.data.synthetic.head import HeadParameters, draw_head, render_head
from fair_strategy.data.volumes import Volume, read_image, read_mask, write_image, write_mask
from fair_strategy.learning.checkpoint import Model, load_model
from fair_strategy.learning.inference import predict
from fair_strategy.learning.prediction import Prediction, half
from fair_strategy.metrics.overlap import dice
from fair_strategy.store.prediction_format import pack
from fair_strategy.workflows.assessment import assess
from fair_strategy.workflows.threads import keep_numpy_to_one_thread

SHIPPED = Path("apps/fair_caudate/model/pretrained.pt")
SEED = 9300
# Storage order and extent along R, A, S, mm, and the field's middle: sagittal and axial scans.
FIELDS = (
    ("PIR", (176, 256, 256), (0.0, -12.0, -10.0)),
    ("LPS", (256, 256, 176), (0.0, -12.0, 8.0)),
)
SHAPE = (256, 256, 176)
READ, TORCH, BARE, LEAST, SCORE, PACK, SLIDE = (
    "read and decode",
    "bare passes, torch's kernels",
    "bare passes",
    "least calls beside the passes",
    "infer and score",
    "compress for the disk",
    "infer and score by sliding",
)
PARTS = (READ, TORCH, BARE, LEAST, SCORE, PACK, SLIDE)
RATIOS = ((SCORE, TORCH), (SCORE, BARE), (LEAST, BARE), (SLIDE, SCORE))
ROUTES = (SCORE, SLIDE)


class Seconds(NamedTuple):
    """CPU time of all threads, and time on the clock."""

    cpu: float
    wall: float


@dataclass
class Measured:
    """One head on one number of threads: seconds of each run of each part, Dice of each route.

    And of each of the least calls, under its name.
    """

    seconds: dict[str, list[Seconds]] = field(default_factory=lambda: defaultdict(list))
    least: list[str] = field(default_factory=list)
    dice: dict[str, float] = field(default_factory=dict)

    def median(self, part: str, kind: str) -> float:
        """Median seconds ("cpu" or "wall") of a part."""
        return statistics.median(getattr(run, kind) for run in self.seconds[part])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--work", type=Path, help="folder of rendered heads; kept for a next run")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--without-sliding", action="store_true")
    parser.add_argument("--out", type=Path, help="page whose table is replaced")
    given = parser.parse_args()
    check_page(given.out)
    keep_numpy_to_one_thread()  # as wherever the application loads a model
    model = load_model(given.model)
    with tempfile.TemporaryDirectory() as passing:
        work = given.work or Path(passing)
        scans = [kept_head(work, index) for index in range(given.heads)]
        found = {}
        for threads in given.threads:
            torch.set_num_threads(threads)
            found[threads] = [
                measure(model, *scan, given.repeats, slide=not given.without_sliding)
                for scan in scans
            ]
    text = report(found, model, given.repeats)
    print(text)
    if given.out:
        replace_measured(given.out, text)


def kept_head(work: Path, index: int) -> tuple[Path, Path]:
    """Files of one head's image and mask, rendered if they are not there."""
    image, mask = work / f"head-{index}.nii.gz", work / f"head-{index}-mask.nii.gz"
    if not image.exists():
        head = render_head(parameters(index))
        if head.image.shape != SHAPE:
            raise ValueError(f"head {index}: expected {SHAPE} voxels, got {head.image.shape}")
        write_mask(mask, head.label, head.affine)
        write_image(image, head.image, head.affine, dtype=np.int16)
    return image, mask


def parameters(index: int) -> HeadParameters:
    """A head as drawn, but for the field of view, the voxels and the storage order."""
    head = draw_head(SEED, index)
    order, extent, middle = FIELDS[index % len(FIELDS)]
    size = head.person.size  # the field is given in mm of the template
    limits = [(m - e / 2, m + e / 2) for m, e in zip(middle, extent, strict=True)]
    x, y, z = ((low / size, high / size) for low, high in limits)
    scan = replace(head.scan, spacing_mm=(1.0, 1.0, 1.0), orientation=order, field_mm=(x, y, z))
    return replace(head, scan=scan)


def measure(model: Model, image: Path, mask: Path, repeats: int, *, slide: bool) -> Measured:
    """Time the parts in turns; the first turn warms up and does not count. Sliding: once."""
    found = Measured()
    truth = read_mask(mask).array > 0
    volume = timed(found, READ, lambda: read_image(image))
    inputs = passes_inputs(model, volume)
    calls = least_calls(volume, *(given for _, given in inputs), predict(model, volume))
    found.least = list(calls)
    for turn in range(repeats + 1):
        into = found if turn else Measured()
        timed(into, TORCH, partial(bare_passes, inputs, by_torch=True))
        timed(into, BARE, partial(bare_passes, inputs))
        prediction, stored = timed(into, SCORE, lambda: infer_and_score(model, volume))
        timed(into, PACK, partial(pack, stored))
        timed(into, LEAST, lambda into=into: [timed(into, name, calls[name]) for name in calls])
    if prediction.route != "localised":
        raise ValueError(f"{image.name}: the localiser is not trusted ({prediction.trust:.2f})")
    found.dice[SCORE] = dice(prediction.whole_mask(), truth)
    if slide:
        without = replace(model, localiser=None)
        slid, _ = timed(found, SLIDE, lambda: infer_and_score(without, volume))
        found.dice[SLIDE] = dice(slid.whole_mask(), truth)
    return found


def infer_and_score(model: Model, volume: Volume) -> tuple[Prediction, dict[str, Any]]:
    """What scoring a case does between reading and the disk; and the arrays that are stored."""
    settings = StudySettings()
    prediction = predict(model, volume)
    assess(prediction, settings)
    stored = {"mask": prediction.probability >= 0.5, "entropy": half(prediction.entropy)}
    return prediction, stored


def passes_inputs(model: Model, volume: Volume) -> list[tuple[nn.Module, torch.Tensor]]:
    """Both networks, each with the input that it gets for this volume."""
    inputs: list[tuple[nn.Module, torch.Tensor]] = []
    with recorded(model, inputs):
        predict(model, volume)
    return inputs


def bare_passes(
    inputs: list[tuple[nn.Module, torch.Tensor]], *, by_torch: bool = False
) -> list[torch.Tensor]:
    """The forward passes of both networks alone.

    Where gradients are enabled, torch's own kernel runs in the last layer too; there are none to
    compute, since the weights ask for none.
    """
    with torch.inference_mode(), torch.set_grad_enabled(by_torch):
        return [network(given) for network, given in inputs]


@contextmanager
def recorded(model: Model, inputs: list[tuple[nn.Module, torch.Tensor]]) -> Iterator[None]:
    """Note the input of each forward pass."""

    def note(network: nn.Module, given: tuple[Any, ...]) -> None:
        inputs.append((network, given[0].clone()))

    networks = [n for n in (model.localiser, model.network) if n is not None]
    handles = [network.register_forward_pre_hook(note) for network in networks]
    yield
    for handle in handles:
        handle.remove()


def timed(found: Measured, part: str, run: Callable[[], Any]) -> Any:
    """What `run` returns; its seconds are noted."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = run()
    found.seconds[part].append(Seconds(time.process_time() - cpu, time.perf_counter() - wall))
    return result


def report(found: dict[int, list[Measured]], model: Model, repeats: int) -> str:
    """Markdown: seconds a head, ratios, Dice."""
    first = next(iter(found.values()))
    lines = [
        f"Model `{model.checksum[:12]}`, {len(first)} heads of seed {SEED}; mean over heads of the "
        f"median of {repeats} runs of the bare passes and of infer and score, in turns.",
        "",
        "| part | " + " | ".join(f"CPU-s, {n} thr. | s, {n} thr." for n in found) + " |",
        "|---|" + "---|---|" * len(found),
    ]
    for part in PARTS:
        if part in first[0].seconds:
            lines.append(row(part, [f"{mean(*column, part):.3f}" for column in columns(found)]))
    for over, under in RATIOS:
        if over in first[0].seconds:
            ratios = [mean(*c, over) / mean(*c, under) for c in columns(found)]
            lines.append(row(f"**{over} / {under}**", [f"{ratio:.2f}" for ratio in ratios]))
    return "\n".join([*lines, "", *dice_lines(first), "", *least_lines(first)])


def columns(found: dict[int, list[Measured]]) -> list[tuple[list[Measured], str]]:
    """For each number of threads CPU time and time on the clock."""
    return [(measured, kind) for measured in found.values() for kind in ("cpu", "wall")]


def row(name: str, cells: list[str]) -> str:
    """A line of a table."""
    return f"| {name} | " + " | ".join(cells) + " |"


def mean(found: list[Measured], kind: str, part: str) -> float:
    """Over heads, of the median over runs."""
    return statistics.mean(one.median(part, kind) for one in found)


def dice_lines(found: list[Measured]) -> list[str]:
    """A line a head: its cost against the bare passes, and the Dice of the routes measured."""
    routes = [route for route in ROUTES if route in found[0].dice]
    names = [f"{part} / {BARE}" for part in (SCORE, LEAST)]
    names = ["head", f"{SCORE} / {TORCH}", *names, *(f"Dice, {route}" for route in routes)]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for number, one in enumerate(found):
        ratios = [one.median(a, "cpu") / one.median(b, "cpu") for a, b in RATIOS[:3]]
        cells = [f"{r:.2f}" for r in ratios] + [f"{one.dice[route]:.4f}" for route in routes]
        lines.append(row(str(number), cells))
    means = [statistics.mean(one.dice[route] for one in found) for route in routes]
    return [*lines, row("mean", [*[""] * 3, *(f"{value:.4f}" for value in means)])]


def least_lines(found: list[Measured]) -> list[str]:
    """A line a call: its CPU time, mean over the heads that need it of the median over runs."""
    lines = ["| least call | CPU-ms |", "|---|---|"]
    for name in dict.fromkeys(name for one in found for name in one.least):
        needing = [one for one in found if name in one.least]
        lines.append(row(name, [f"{1e3 * mean(needing, 'cpu', name):.2f}"]))
    return lines


if __name__ == "__main__":
    main()
