"""Measures models on synthetic heads they have not seen, and on heads without the structure.

    python scripts/evaluate_heads.py MODEL.pt [MODEL.pt ...] --heads 8

A line a model and kind of head: Dice, trust and route of whole heads through the whole path; then
the localiser's trust where the structure is out of view, which should be low.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pretraining_cases import CUTS, without_structure

from fair_strategy.data.synthetic.head import Head, HeadParameters, draw_head, render_head
from fair_strategy.data.volumes import Mask, Volume
from fair_strategy.learning.checkpoint import Model, load_model
from fair_strategy.learning.inference import predict
from fair_strategy.learning.localisation import locate, overview, overview_multiple
from fair_strategy.metrics.overlap import dice

SEED = 90310
PLACES = ("right of it", "below it", "behind it", "above it")


def kinds(index: int) -> Iterator[tuple[str, HeadParameters]]:
    """Heads as drawn: T1-like, of random contrast, and T1-like without skull."""
    head = draw_head(SEED, index)
    yield "t1", head
    yield "random", draw_head(SEED, index, contrast="random")
    yield "no skull", replace(head, skull=False)


def measured(model: Model, head: Head) -> tuple[float, float, bool, bool]:
    """Dice, trust, whether localised, whether nearer to the right side than to the truth."""
    prediction = predict(model, Volume(head.image, head.affine))
    mask = prediction.whole_mask()
    wrong = False
    if mask.any():
        found, true = (
            (head.affine[:3, :3] @ np.argwhere(m).mean(0))[0] for m in (mask, head.label > 0)
        )
        wrong = bool(found - true > 13.0)
    return dice(mask, head.label > 0), prediction.trust, prediction.route == "localised", wrong


def trust_elsewhere(model: Model, head: Head, turn: int) -> float:
    """The localiser's trust in a part of the head that does not hold the structure."""
    part, _ = without_structure(
        Volume(head.image, head.affine), Mask(head.label, head.affine), turn
    )
    multiple = overview_multiple(model.localiser_arguments)
    with torch.inference_mode():
        seen = overview(
            part.array, part.affine, spacing_mm=model.localiser_spacing_mm, multiple=multiple
        )
        assert model.localiser is not None
        return locate(seen, model.localiser).trust


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--heads", type=int, default=8)
    arguments = parser.parse_args()
    models = [load_model(path) for path in arguments.models]
    found: dict[tuple[int, str], list[tuple[float, float, bool, bool]]] = {}
    trust: dict[tuple[int, str], list[float]] = {}
    for index in range(arguments.heads):
        for kind, parameters in kinds(index):
            head = render_head(parameters, voxel_mm=1.5)
            for number, model in enumerate(models):
                found.setdefault((number, kind), []).append(measured(model, head))
                for turn in range(len(CUTS) if kind == "t1" else 0):
                    place = trust_elsewhere(model, head, turn)
                    trust.setdefault((number, PLACES[turn]), []).append(place)
    for (number, kind), rows in sorted(found.items()):
        scores, sure, localised, wrong = np.array(rows, float).T
        print(
            f"{models[number].checksum[:8]} {kind}: n {len(rows)}, Dice mean {scores.mean():.3f}, "
            f"median {np.median(scores):.3f}, lowest {scores.min():.3f}; trust mean "
            f"{sure.mean():.2f}, lowest {sure.min():.2f}; localised {int(localised.sum())}; "
            f"wrong side {int(wrong.sum())}"
        )
    for (number, name), values in sorted(trust.items()):
        print(
            f"{models[number].checksum[:8]} {name}: trust mean {np.mean(values):.2f}, "
            f"highest {max(values):.2f}, at least 0.5 in {sum(v >= 0.5 for v in values)}"
        )


if __name__ == "__main__":
    main()
