"""Look-alike of ISIC-2019: spots of eight kinds, harder to tell apart in the older subgroup."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
_SHARES = (0.18, 0.3, 0.13, 0.09, 0.1, 0.06, 0.06, 0.08)
_COLOURS = np.array(
    [
        (55, 35, 40), (120, 75, 50), (190, 120, 130), (200, 110, 90),
        (150, 120, 70), (165, 95, 80), (170, 30, 60), (185, 150, 140),
    ],
    np.float64,
)  # fmt: skip
_LOBES = (5, 0, 0, 7, 3, 0, 2, 4)
"""How often the outline of each kind swings out in a turn."""
_SITES = ("anterior torso", "head/neck", "lower extremity", "upper extremity", "")
_SIZE = 64
_OLDER_BLEND = 0.5
"""Largest share of another kind's colour in the older subgroup; in the other a fifth of it."""


def write_isic(folder: Path, *, cases: int, seed: int) -> Path:
    """Write both tables and the photographs; two of five persons are 60 or older.

    The effect: from 60 on the colour of a spot is drawn towards another kind's by up to a half, and
    the skin is blotched. A fifth of the lesions has two photographs, one of 50 rows no age.
    """
    rng = np.random.default_rng([seed, 1])
    images = folder / "ISIC_2019_Training_Input"
    images.mkdir()
    truth: list[list[object]] = []
    metadata: list[list[object]] = []
    classes = _classes(cases, rng)
    number = 0
    while number < cases:
        kind, older = classes[number]
        age = int(rng.integers(12, 18) if older else rng.integers(3, 12)) * 5
        lesion = f"LOOK_{number:07d}"
        views = min(2 if rng.random() < 0.2 else 1, cases - number)
        for view in range(views):
            name = f"ISIC_{seed % 100:02d}{number:05d}"
            picture = _photograph(kind, older=older, rng=np.random.default_rng([seed, number, 2]))
            Image.fromarray(picture).save(images / f"{name}.jpg", quality=92)
            truth.append([name, *(float(kind == k) for k in range(len(CLASSES))), 0.0])
            told = "" if number % 50 == 49 and not view else str(age)
            site = _SITES[int(rng.integers(len(_SITES)))]
            sex = "male" if rng.random() < 0.5 else "female"
            metadata.append([name, told, site, lesion, sex if not view else metadata[-1][4]])
            number += 1
    _write(folder / "ISIC_2019_Training_GroundTruth.csv", ["image", *CLASSES, "UNK"], truth)
    columns = ["image", "age_approx", "anatom_site_general", "lesion_id", "sex"]
    _write(folder / "ISIC_2019_Training_Metadata.csv", columns, metadata)
    return folder


def _classes(cases: int, rng: np.random.Generator) -> list[tuple[int, bool]]:
    """Kind and subgroup of each case, both by their shares, shuffled."""
    counts = np.maximum(2, np.round(np.array(_SHARES) * cases)).astype(int)
    dealt = [(kind, place % 5 in (0, 3)) for kind, n in enumerate(counts) for place in range(n)]
    while len(dealt) < cases:
        dealt.append((1, False))
    return [dealt[int(i)] for i in rng.permutation(len(dealt))]


def _photograph(kind: int, *, older: bool, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(64, 64, 3)."""
    x, y = np.meshgrid(*2 * [np.linspace(-1, 1, _SIZE)], indexing="ij")
    x, y = x - rng.uniform(-0.15, 0.15), y - rng.uniform(-0.15, 0.15)
    angle = np.arctan2(y, x) + rng.uniform(0, 2 * np.pi)
    outline = rng.uniform(0.4, 0.6) * (1 + 0.18 * np.sin(_LOBES[kind] * angle))
    inside = 1 / (1 + np.exp((np.hypot(x, y) - outline) / 0.04))
    blend = rng.uniform(0, _OLDER_BLEND if older else _OLDER_BLEND / 5)
    other = (kind + int(rng.integers(1, len(CLASSES)))) % len(CLASSES)
    colour = (1 - blend) * _COLOURS[kind] + blend * _COLOURS[other] + rng.normal(0, 6, 3)
    skin = np.array((225, 185, 165)) + rng.normal(0, 8, 3)
    picture = inside[..., None] * colour + (1 - inside[..., None]) * skin
    for _ in range(int(rng.integers(3, 7)) if older else 0):
        u, v = rng.uniform(-0.9, 0.9, 2)
        blotch = np.exp(-((x - u) ** 2 + (y - v) ** 2) / rng.uniform(0.005, 0.03))
        picture -= 45 * blotch[..., None]
    picture += rng.normal(0, 7, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _write(path: Path, columns: list[str], rows: list[list[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
