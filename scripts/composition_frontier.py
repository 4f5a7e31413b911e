"""What the composition of the labelled set alone decides: Dice of each group by what is labelled.

Trains the network of a simulation from random weights on labelled sets of the same size and of
different composition, drawn at random from its pool, and tests it on its test set. Every query
strategy ends at one of these compositions, so they show what selection between the groups can
reach at that budget, and at what price for the group that is served better already.

    python scripts/composition_frontier.py experiments/small.yaml --out studies/small \
        --bias strong --seeds 4 --page docs/results/composition-strong

writes PAGE.tsv (a row a model), PAGE.svg and PAGE.png. Cohorts are taken from OUT, or made there. A
second call goes on where the first one stopped.
"""

import argparse
import csv
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch

from fair_strategy.learning.checkpoint import load_model
from fair_strategy.learning.training import TrainingCase, TrainingSettings, recipe, train
from fair_strategy.workflows.reporting.figures import panels, save, style
from fair_strategy.workflows.simulation.cohorts import POOL, TEST, known_cohort, make_cohort
from fair_strategy.workflows.simulation.evaluation import by_subgroup, tested
from fair_strategy.workflows.simulation.first_models import save_untrained
from fair_strategy.workflows.simulation.settings import SimulationSettings, read_simulation

VIEW = "caudate"


@dataclass(frozen=True)
class Model:
    """One model: labelled scans of A and B, and mean Dice and surface distance of each."""

    bias: str
    seed: int
    steps: int
    labelled_a: int
    labelled_b: int
    dice_a: float
    dice_b: float
    surface_mm_a: float
    surface_mm_b: float


def measured(
    simulation: SimulationSettings, out: Path, bias: str, seed: int, sizes: tuple[int, int]
) -> Model:
    """Train on so many scans of A and B, drawn by the seed, and test."""
    torch.set_num_threads(1)
    pool = known_cohort(out, POOL, bias=bias, field_of_view=VIEW)
    test = known_cohort(out, TEST, bias=bias, field_of_view=VIEW)
    cases = []
    for number, (group, size) in enumerate(zip("AB", sizes, strict=True)):
        order = np.random.default_rng([seed, 1, number]).permutation(pool.of_group(group))
        drawn = [pool.cases[case_id] for case_id in order[:size]]
        cases += [TrainingCase(c.image, c.truth, group, c.case_id) for c in drawn]
    with TemporaryDirectory() as folder:
        untrained = Path(folder) / "untrained.pt"
        save_untrained(simulation.training, untrained, seed=seed)
        settings = TrainingSettings(
            steps=simulation.training.steps,
            seed=seed,
            device="cpu",
            **recipe(load_model(untrained)),
        )
        result = train(
            cases, [], settings=settings, start_from=untrained, out_dir=Path(folder) / "models"
        )
        groups = by_subgroup(tested(load_model(result.path), test))
    a, b = groups["A"], groups["B"]
    return Model(
        bias,
        seed,
        settings.steps,
        *sizes,
        *(a["dice"], b["dice"], a["surface_distance_mm"], b["surface_distance_mm"]),
    )


def main() -> None:
    """Measure what is missing, then draw."""
    given = _arguments()
    simulation = read_simulation(given.config)
    for part in (POOL, TEST):
        make_cohort(given.out, simulation.cohort, part, bias=given.bias, field_of_view=VIEW)
    table = given.page.with_suffix(".tsv")
    done = _read(table)
    known = {(row["seed"], row["labelled_a"], row["labelled_b"]) for row in done}
    wanted = [
        (seed, sizes)
        for seed, sizes in product(range(given.seeds), _compositions(simulation, given.size))
        if (seed, *sizes) not in known
    ]
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(measured, simulation, given.out, given.bias, *w) for w in wanted]
        for number, future in enumerate(running, start=1):
            _append(table, asdict(future.result()))
            print(f"{number} of {len(running)}", file=sys.stderr)
    _draw(pd.DataFrame(_read(table)), given.size, given.page)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the simulation")
    parser.add_argument("--bias", default="strong")
    parser.add_argument("--size", type=int, default=30, help="scans of a labelled set")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--page", type=Path, required=True, help="results, without suffix")
    return parser.parse_args()


def _compositions(simulation: SimulationSettings, size: int) -> list[tuple[int, int]]:
    """From one group alone to the other's share of four fifths, and the whole pool."""
    share = [0, size // 30, size // 6, size // 3, size // 2, 2 * size // 3, 4 * size // 5]
    mixed = [(size - b, b) for b in dict.fromkeys(share)]
    return [*mixed, (simulation.cohort.pool["A"], simulation.cohort.pool["B"])]


def _read(table: Path) -> list[dict[str, float | str]]:
    if not table.exists():
        return []
    rows = pd.read_csv(table, sep="\t").to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def _append(table: Path, row: dict[str, float | str]) -> None:
    new = not table.exists()
    table.parent.mkdir(parents=True, exist_ok=True)
    with open(table, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), delimiter="\t", lineterminator="\n")
        if new:
            writer.writeheader()
        told = {k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()}
        writer.writerow(told)


def _draw(rows: pd.DataFrame, size: int, page: Path) -> None:
    means = rows.groupby(["labelled_a", "labelled_b"], as_index=False).mean(numeric_only=True)
    own = means[means.labelled_a + means.labelled_b == size].sort_values("labelled_b")
    whole = means[means.labelled_a + means.labelled_b > size].iloc[0]
    spread = rows[rows.labelled_a + rows.labelled_b == size]
    with style():
        figure, ((axes,),) = panels(1, height=4.2)
        for group, colour in (("a", "#0072B2"), ("b", "#D55E00")):
            name, dice = group.upper(), f"dice_{group}"
            axes.plot(spread.labelled_b, spread[dice], "o", ms=3, alpha=0.35, color=colour)
            axes.plot(own.labelled_b, own[dice], "-", color=colour, label=f"group {name}")
            told = f"{name}, trained on the whole pool"
            axes.axhline(whole[dice], ls=":", color=colour, label=told)
        axes.set_xlabel(f"scans of B among {size} labelled ones")
        axes.set_ylabel("mean Dice on the test set")
        axes.legend(frameon=False)
        save(figure, page.parent, page.name)


if __name__ == "__main__":
    main()
