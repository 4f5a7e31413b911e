"""The synthetic folders of a simulation: made once, kept beside its results."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from fair_strategy.data import bids
from fair_strategy.data.cohort import load_cohort
from fair_strategy.data.synthetic.cohort import REFERENCE_TAG, CohortSettings, write_cohort
from fair_strategy.data.synthetic.description import REFERENCE
from fair_strategy.data.synthetic.subject import MINORITY
from fair_strategy.data.volumes import Mask, Volume, read_image, read_mask
from fair_strategy.metrics.overlap import volume_mm3
from fair_strategy.workflows.simulation.settings import CohortBlock

POOL, TEST = "pool", "test"
_KEPT_VOXELS = 250_000
"""Scans up to this size stay in memory over the rounds of a process."""


@dataclass(frozen=True)
class KnownCase:
    """A scan whose truth is known to the simulation, and to nobody else."""

    case_id: str
    subgroup: str
    image: Path
    truth: Path

    def read(self) -> tuple[Volume, Mask]:
        """Image and true mask."""
        return _read(self.image, self.truth)

    def true_volume_mm3(self) -> float:
        """Volume of the true structure."""
        mask = self.read()[1]
        return volume_mm3(mask.array != 0, mask.spacing_mm)


@dataclass(frozen=True)
class KnownCohort:
    """A folder of scans with their truth; `cases` by case_id."""

    folder: Path
    cases: Mapping[str, KnownCase]

    def of_group(self, subgroup: str) -> list[str]:
        """Case ids of a group, sorted."""
        return [i for i, case in sorted(self.cases.items()) if case.subgroup == subgroup]


def make_cohort(
    out: Path,
    block: CohortBlock,
    part: str,
    *,
    bias: str,
    field_of_view: str,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the pool or the test set of a bias, or what is still missing of it.

    A folder that is complete is not touched: a participants.tsv with another date would make a
    study plan anew in mid-round.

    Raises:
        CohortError: if the folder holds scans of other settings.
    """
    folder = folder_of(out, part, bias=bias, field_of_view=field_of_view)
    settings = _settings(block, part, bias, field_of_view)
    complete = folder.with_name(f"{folder.name}.complete.json")
    described = json.dumps(asdict(settings), sort_keys=True)
    if complete.exists() and complete.read_text(encoding="utf-8") == described:
        return
    write_cohort(folder, settings, processes=processes, progress=progress)
    complete.write_text(described, encoding="utf-8")


@lru_cache(maxsize=8)
def known_cohort(out: Path, part: str, *, bias: str, field_of_view: str) -> KnownCohort:
    """A cohort that `make_cohort` wrote."""
    folder = folder_of(out, part, bias=bias, field_of_view=field_of_view)
    groups = load_cohort(bids.participants_file(folder), sensitive_feature=("group",))
    answers = folder / "derivatives" / REFERENCE
    found = {
        scan.case_id: KnownCase(
            case_id=scan.case_id,
            subgroup=groups.subgroup(scan.subject_id),
            image=scan.path,
            truth=answers / bids.mask_name(scan.case_id, REFERENCE_TAG),
        )
        for scan in bids.walk(folder)
    }
    return KnownCohort(folder, found)


def folder_of(out: Path, part: str, *, bias: str, field_of_view: str) -> Path:
    """Where a cohort of a simulation lies."""
    return out / "cohorts" / f"{part}-{bias}-{field_of_view}"


def first_labelled(
    pool: KnownCohort, start: Mapping[str, int] | tuple[str, ...], *, seed: int
) -> list[str]:
    """The scans that a study starts with: the given ones, or a draw from each group.

    A function of pool, start and seed alone, so that every arm starts from the same scans.

    Raises:
        ValueError: for a case id that is not in the pool.
    """
    if not isinstance(start, Mapping):
        missing = sorted(set(start) - pool.cases.keys())
        if missing:
            raise ValueError(f"start: the pool has no scan {', '.join(missing)}")
        return sorted(start)
    chosen: list[str] = []
    for number, group in enumerate(sorted(start)):
        # A shuffle whose first so many are taken: a larger start holds the smaller one.
        order = np.random.default_rng([seed, 0, number]).permutation(pool.of_group(group))
        chosen += order[: start[group]].tolist()
    return sorted(chosen)


def _settings(block: CohortBlock, part: str, bias: str, field_of_view: str) -> CohortSettings:
    sizes = block.pool if part == POOL else block.test
    total = sum(sizes.values())
    return CohortSettings(
        subjects=total,
        bias=bias,
        minority_fraction=sizes[MINORITY] / total,
        seed=block.pool_seed if part == POOL else block.test_seed,
        voxel_mm=block.voxel_mm,
        field_of_view=field_of_view,
    )


def _read(image: Path, truth: Path) -> tuple[Volume, Mask]:
    found = _kept.get(image)
    if found is None:
        found = read_image(image), read_mask(truth)
        if found[0].array.size <= _KEPT_VOXELS:
            _kept[image] = found
    return found


_kept: dict[Path, tuple[Volume, Mask]] = {}
