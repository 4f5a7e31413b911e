"""Draws docs/images/next-sample.png: the first scans that the sample study would hand out.

Run from the repository's root, with the extra `report` installed.
"""

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from fair_strategy.acquisition.performance import group_performance
from fair_strategy.acquisition.selection import Candidate, percentiles, rank
from fair_strategy.acquisition.weights import group_weights
from fair_strategy.config import StudySettings
from fair_strategy.data import bids
from fair_strategy.data.cohort import load_cohort
from fair_strategy.data.volumes import read_image, read_mask, to_ras
from fair_strategy.learning.checkpoint import load_model
from fair_strategy.learning.inference import predict
from fair_strategy.learning.prediction import Prediction
from fair_strategy.metrics.overlap import dice
from fair_strategy.workflows.assessment import assess

COHORT = Path("sample-data/cohort")
MODEL = Path("apps/fair_caudate/model/pretrained.pt")
PICTURE = Path("docs/images/next-sample.png")
SHOWN = 3
HALF_WIDTH_MM = 33.0


def main() -> int:
    """Exit status: 0."""
    settings = StudySettings()
    cohort = load_cohort(bids.participants_file(COHORT))
    scans = bids.walk(COHORT)
    labels = bids.find_existing_masks(COHORT, scans)
    model = load_model(MODEL)
    predictions, candidates, agreement = {}, [], {}
    for scan in scans:
        prediction = predict(model, read_image(scan.path))
        group = cohort.subgroup(scan.subject_id)
        if scan.case_id in labels:
            reference = read_mask(labels[scan.case_id]).array != 0
            agreement[scan.case_id] = (dice(whole(prediction) >= 0.5, reference), group)
            continue
        found = assess(prediction, settings)
        entropy = found.entropies["masked_mean"]
        candidates.append(Candidate(scan.case_id, group, entropy, found.flags))
        predictions[scan.case_id] = (scan.path, prediction)
    performance = group_performance(
        [score for score, _ in agreement.values()],
        [group for _, group in agreement.values()],
        known_groups={c.subgroup for c in candidates},
    )
    weights = group_weights({name: p.shrunk for name, p in performance.items()}, rule=settings.rule)
    order = rank(candidates, weights, rng=np.random.default_rng(0), quota_batch=10)
    shown = percentiles([c.case_entropy for c in candidates])
    percentile = dict(zip((c.case_id for c in candidates), shown, strict=True))
    draw([(c.case_id, *predictions[c.case_id], percentile[c.case_id]) for c in order[:SHOWN]])
    print(PICTURE)
    return 0


def whole(prediction: Prediction, values: NDArray | None = None) -> NDArray[np.float32]:
    """A map of the prediction's box, by default the probability, in the scan's own grid."""
    array = np.zeros(prediction.shape, np.float32)
    array[prediction.box] = prediction.probability if values is None else values
    return array


def draw(rows: list[tuple[str, Path, Prediction, float]]) -> None:
    """One column a scan: the head with the pre-segmentation, below it the uncertainty."""
    figure, axes = plt.subplots(
        2, len(rows), figsize=(2.9 * len(rows), 5.6), facecolor="black", layout="constrained"
    )
    for column, (case_id, path, prediction, percentile) in enumerate(rows):
        volume = read_image(path)
        image, affine, _ = to_ras(volume.array, volume.affine)
        mask = to_ras(whole(prediction), volume.affine)[0]
        entropy = to_ras(whole(prediction, prediction.entropy), volume.affine)[0]
        window = around(entropy, np.abs(np.diag(affine)[:3]))
        for row, axis in enumerate(axes[:, column]):
            axis.imshow(image[window].T, cmap="gray", origin="lower", interpolation="bicubic")
            for place, letter in ((0.03, "L"), (0.93, "R")):
                axis.text(place, 0.48, letter, transform=axis.transAxes, color="white", fontsize=8)
            if row:
                seen = np.ma.masked_less(entropy[window].T, 0.05)
                heat = axis.imshow(
                    seen, cmap="inferno", origin="lower", vmin=0, vmax=np.log(2), alpha=0.8
                )
            axis.contour(mask[window].T, levels=[0.5], colors="#35d0ba", linewidths=1.2)
            axis.set_axis_off()
        name = case_id.removesuffix("_T1w")
        title = f"{column + 1}.  {name}\nuncertainty: percentile {percentile:.0f}"
        axes[0, column].set_title(title, color="white", fontsize=9)
    for axis, text in zip(
        axes[:, 0], ("pre-segmentation", "and where it is uncertain"), strict=True
    ):
        axis.text(
            -0.06, 0.5, text, rotation=90, color="white", fontsize=9,
            va="center", ha="center", transform=axis.transAxes,
        )  # fmt: skip
    bar = figure.colorbar(heat, ax=axes, fraction=0.015, pad=0.01, shrink=0.5)
    bar.set_label("entropy, nats", color="white", fontsize=8)
    bar.ax.tick_params(colors="white", labelsize=7)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=130, facecolor="black")


def around(
    entropy: NDArray[np.float32], spacing_mm: NDArray[np.float64]
) -> tuple[slice, int, slice]:
    """Coronal slice and window about the uncertainty's centre of mass."""
    others = ((1, 2), (0, 2), (0, 1))
    profiles = [entropy.sum(axis=axes) for axes in others]
    centre = [np.average(np.arange(profile.size), weights=profile) for profile in profiles]
    half = np.round(HALF_WIDTH_MM / spacing_mm).astype(int)
    i, j, k = np.round(centre).astype(int)
    low = np.maximum([i - half[0], 0, k - half[2]], 0)
    return slice(low[0], i + half[0]), int(j), slice(low[2], k + half[2])


if __name__ == "__main__":
    sys.exit(main())
