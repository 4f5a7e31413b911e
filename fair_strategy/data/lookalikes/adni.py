"""Look-alike of ADNI: heads whose ventricles tell two cognitive scores, less so in the younger."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fair_strategy.data.volumes import write_image

_SIDE = 32
_VOXEL_MM = 6.0
_YOUNGER_WIDENING = 0.5
"""How much the ventricles of the younger widen with severity, of that of the older."""
_NOISE, _YOUNGER_NOISE = 25.0, 40.0
_COLUMNS = ("RID", "PTID", "VISCODE", "AGE", "PTGENDER", "DX_bl", "MMSE", "ADAS13")


def write_adni(folder: Path, *, cases: int, seed: int) -> Path:
    """Write ADNIMERGE.csv and a T1-weighted scan a subject; three of ten are under 70.

    The effect: from 70 on the ventricles widen with severity (and age); in the younger they do by
    half as much, and their images have 1.6 times the noise. One subject in 40 has no ADAS13, and
    each has a second visit without a scan.
    """
    rows: list[list[object]] = []
    for number in range(cases):
        rng = np.random.default_rng([seed, number, 5])
        younger = number % 10 in (2, 5, 8)
        age = rng.uniform(55, 69.8) if younger else rng.uniform(70, 88)
        severity = float(rng.beta(1.2, 1.8))
        person = f"{number % 60 + 2:03d}_S_{number + 1:04d}"
        adas = float(np.clip(5 + 45 * severity + rng.normal(0, 2), 0, 85))
        mmse = int(np.clip(round(30 - 10 * severity + rng.normal(0, 0.7)), 0, 30))
        sex, stage = "Female" if rng.random() < 0.5 else "Male", _stage(severity)
        told = "" if number % 40 == 39 else f"{adas:.2f}"
        rows.append([number + 1, person, "bl", f"{age:.1f}", sex, stage, mmse, told])
        rows.append([number + 1, person, "m12", f"{age:.1f}", sex, stage, "", ""])
        scan = f"ADNI_{person}_MR_MPRAGE_br_raw_I{number + 1}.nii.gz"
        path = folder / "ADNI" / person / "MPRAGE" / "2006-01-01_00_00_00.0" / f"I{number + 1}"
        head = _head(severity, age, younger=younger, rng=rng)
        write_image(path / scan, head, _affine(), dtype=np.int16)
    with (folder / "ADNIMERGE.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(rows)
    return folder


def _stage(severity: float) -> str:
    return "CN" if severity < 0.3 else "LMCI" if severity < 0.6 else "AD"


def _affine() -> NDArray[np.float64]:
    affine = np.diag([_VOXEL_MM, _VOXEL_MM, _VOXEL_MM, 1.0])
    affine[:3, 3] = -_VOXEL_MM * (_SIDE - 1) / 2
    return affine


def _head(
    severity: float, age: float, *, younger: bool, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Skull, brain with smooth folds, two ventricles."""
    x, y, z = np.meshgrid(*3 * [np.arange(_SIDE) - (_SIDE - 1) / 2], indexing="ij")
    size = rng.uniform(0.95, 1.05)
    whole = np.sqrt((x / 12.5) ** 2 + (y / 15) ** 2 + (z / 13) ** 2) / size
    image = 900.0 * (whole < 1) + 0.0
    image[(whole >= 0.88) & (whole < 0.94)] = 150
    image[whole < 0.88] = 700
    width = 1.2 + (_YOUNGER_WIDENING if younger else 1.0) * 2.6 * severity + 0.02 * (age - 55)
    for side in (-1, 1):
        inside = ((x - 3.2 * side) / width) ** 2 + (y / (4 + width)) ** 2 + ((z - 1) / width) ** 2
        image = np.where(inside < 1, 200, image)
    folds = ndimage.gaussian_filter(rng.normal(0, 1, image.shape), 1.0)
    image = image * (1 + 0.06 * folds / folds.std())
    noise = rng.normal(0, _YOUNGER_NOISE if younger else _NOISE, image.shape)
    soft = ndimage.gaussian_filter(image, 0.4)
    return np.where(whole < 1, np.maximum(soft + noise, 1), 0)
