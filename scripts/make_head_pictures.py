"""Draws docs/images/synthetic-heads.png: six synthetic heads in three planes each.

Run from the repository's root, with the extras `synthetic` and `report` installed.
"""

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from fair_strategy.data.synthetic import Head, generate_head

PICTURE = Path("docs/images/synthetic-heads.png")
SEED = 20
CONTRASTS = ("t1", "t1", "t1", "t1", "random", "random")
VOXEL_MM = 1.5


def main() -> int:
    """Exit status: 0."""
    figure, axes = plt.subplots(
        3, len(CONTRASTS), figsize=(2.2 * len(CONTRASTS), 7.0), facecolor="black"
    )
    for index, contrast in enumerate(CONTRASTS):
        draw(axes[:, index], generate_head(SEED, index, contrast=contrast, voxel_mm=VOXEL_MM))
        axes[0, index].set_title(contrast, color="white", fontsize=9)
    figure.tight_layout(pad=0.4)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=80, facecolor="black")
    print(PICTURE)
    return 0


def draw(axes: NDArray[np.object_], head: Head) -> None:
    """Sagittal, coronal and axial plane through the left caudate, outlined."""
    middle = np.rint(np.argwhere(head.label).mean(axis=0)).astype(int)
    # The head's own middle shows more of it than the caudate's sagittal plane.
    right = head.image.shape[0] // 2
    _plane(axes[0], head.image[right], head.label[right], head)
    _plane(axes[1], head.image[:, middle[1]], head.label[:, middle[1]], head)
    _plane(axes[2], head.image[:, :, middle[2]], head.label[:, :, middle[2]], head)


def _plane(axis: Axes, image: NDArray, label: NDArray, head: Head) -> None:
    top = float(np.percentile(head.image[head.image > 0], 99))
    extent = (0.0, image.shape[0] * VOXEL_MM, 0.0, image.shape[1] * VOXEL_MM)
    axis.imshow(image.T, origin="lower", cmap="gray", vmin=0, vmax=top, extent=extent)
    if label.any():
        axis.contour(label.T, [0.5], colors="red", linewidths=0.8, extent=extent)
    axis.set_xlim(0, 260)
    axis.set_ylim(0, 290)
    axis.axis("off")


if __name__ == "__main__":
    sys.exit(main())
