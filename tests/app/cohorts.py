"""A tiny study for the tests of the host: eight scans of noise and blobs, a tiny random model."""

from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from fair_strategy.learning.checkpoint import Model, save_model
from fair_strategy.learning.network import NetworkArguments, build_network

SHAPE = (36, 40, 32)
AFFINE = np.array([[-2.0, 0, 0, 30], [0, 2.0, 0, -20], [0, 0, 2.0, -30], [0, 0, 0, 1]])


def write_cohort(root: Path, *, per_group: int = 4, labelled: int = 1) -> Path:
    """A BIDS folder of subjects in groups A and B, the first few of each already labelled."""
    rows = ["participant_id\tgroup\tsex\tage"]
    for number in range(1, 2 * per_group + 1):
        subject, group = f"sub-{number:02d}", "AB"[number > per_group]
        rows.append(f"{subject}\t{group}\t{'FM'[number % 2]}\t{40 + number}")
        image, mask = scan(number)
        save(root / subject / "anat" / f"{subject}_T1w.nii.gz", image)
        if (number - 1) % per_group < labelled:
            name = f"{subject}_hemi-L_label-caudate_desc-manual_mask.nii.gz"
            save(root / "derivatives" / "manual" / subject / "anat" / name, mask)
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")
    return root


def scan(number: int) -> tuple[np.ndarray, np.ndarray]:
    """One image (float32) and its mask (uint8)."""
    rng = np.random.default_rng([7, number])
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"))
    centre = np.array([18, 20, 16]) + rng.normal(0, 2, 3)
    distance = np.sqrt(((grid - centre[:, None, None, None]) ** 2).sum(axis=0))
    mask = distance < 6
    image = 300 + 200 * np.exp(-distance / 8) + rng.normal(0, 20, SHAPE)
    return image.astype(np.float32), mask.astype(np.uint8)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(array, affine).to_filename(path)
    return path


def write_model(path: Path, seed: int = 0) -> str:
    """A tiny random model; its checksum."""
    arguments = NetworkArguments(channels=(4, 8), strides=(2,), dropout=0.1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_network(arguments)
    model = Model(
        checksum="",
        labels={"left_caudate": 1},
        spacing_mm=2.0,
        window=(32, 32, 32),
        network=network,
        network_arguments=arguments,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_model(model, path)
