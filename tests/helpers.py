"""Small cohorts and models that tests share: blobs on a dark ground, a U-Net of a few weights."""

import csv
from pathlib import Path

import numpy as np
import torch

from fair_strategy.data.volumes import write_image, write_mask
from fair_strategy.learning.checkpoint import Model, save_model
from fair_strategy.learning.network import NetworkArguments, build_network

SHAPE = (24, 28, 24)
AFFINE = np.array([[2.0, 0, 0, -40], [0, 2, 0, -20], [0, 0, 2, -20], [0, 0, 0, 1]])


def blob(seed: int, shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """A bright ellipsoid in noise, and its mask."""
    rng = np.random.default_rng(seed)
    centre = np.array(shape) / 2 + rng.uniform(-2, 2, 3)
    radius = rng.uniform(4, 7, 3)
    axes = np.meshgrid(*map(np.arange, shape), indexing="ij")
    inside = sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radius, strict=True)) <= 1
    image = 100 + 60 * inside + rng.normal(0, 8, shape)
    return image.astype(np.float32), inside.astype(np.uint8)


def write_cohort(
    folder: Path, groups: str, *, labelled: int = 0, suffix: str = ".nii.gz", first: int = 1
) -> Path:
    """A BIDS folder with one blob a letter of `groups`; the first `labelled` ones have a mask."""
    rows = []
    for number, group in enumerate(groups, start=first):
        subject = f"sub-{number:02d}"
        image, mask = blob(number)
        write_image(folder / subject / "anat" / f"{subject}_T1w{suffix}", image, AFFINE)
        rows.append({"participant_id": subject, "group": group})
        if number - first < labelled:
            name = f"{subject}_hemi-L_label-caudate_desc-manual_mask.nii.gz"
            write_mask(folder / "derivatives" / "labels" / subject / "anat" / name, mask, AFFINE)
    with (folder / "participants.tsv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["participant_id", "group"], delimiter="\t")
        table.writeheader()
        table.writerows(rows)
    return folder


def write_model(path: Path, *, seed: int = 0) -> Path:
    """A checkpoint of random weights: big enough to run, too small to be good."""
    torch.manual_seed(seed)
    arguments = NetworkArguments(channels=(4, 8), strides=(2,), dropout=0.2)
    model = Model(
        checksum="",
        labels={"left_caudate": 1},
        spacing_mm=2.0,
        window=(24, 28, 24),
        network=build_network(arguments),
        network_arguments=arguments,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(model, path)
    return path
