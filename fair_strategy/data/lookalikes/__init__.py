"""Made-up data sets in the file layout of published ones, with a known effect on a subgroup."""

from collections.abc import Callable
from pathlib import Path

from fair_strategy.data.lookalikes.adni import write_adni
from fair_strategy.data.lookalikes.brats import write_brats
from fair_strategy.data.lookalikes.isic import write_isic

LOOKALIKES: dict[str, tuple[Callable[..., Path], int]] = {
    "isic": (write_isic, 400),
    "brats": (write_brats, 160),
    "adni": (write_adni, 240),
}
"""Task -> (writer of folder, cases=, seed=; usual number of cases)."""

NOTE = (
    "Synthetic. Made by fair-strategy in the file layout of {name}; no picture, person or score in "
    "it is real, and no result on it says anything about {name}.\n"
)


def make_lookalike(name: str, folder: Path, *, cases: int | None = None, seed: int = 0) -> Path:
    """Write a look-alike of `isic`, `brats` or `adni` into a new folder.

    Args:
        name: one of LOOKALIKES.
        folder: new or empty.
        cases: images, patients or subjects; None for the usual number.
        seed: the same one gives the same data.
    Raises:
        ValueError: another name, or fewer than 20 cases.
        FileExistsError: the folder holds something.
    """
    if name not in LOOKALIKES:
        raise ValueError(f"look-alike {name!r}: expected one of {', '.join(LOOKALIKES)}")
    write, usual = LOOKALIKES[name]
    count = usual if cases is None else cases
    if count < 20:
        raise ValueError(f"cases: expected 20 or more, got {count}")
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(17, "holds something already; give a new folder", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, cases=count, seed=seed)
    (folder / "SYNTHETIC.txt").write_text(NOTE.format(name=name), encoding="utf-8")
    return folder
