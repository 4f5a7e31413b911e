"""Masks of a study's scans: on the scan's own grid, and where they lie."""

import json
from pathlib import Path

from fair_strategy.data import bids
from fair_strategy.data.grids import match_grid
from fair_strategy.data.volumes import Mask, read_grid, read_mask, replace_file, write_mask
from fair_strategy.store import cases
from fair_strategy.store.cases import CaseRecord
from fair_strategy.workflows.replacing import mask_digest
from fair_strategy.workflows.sources import image_path
from fair_strategy.workflows.study import Study, StudyError


def checked_mask(study: Study, case_id: str, path: Path, *, label_value: int | None = None) -> Mask:
    """The mask in a file, on its scan's own grid.

    Raises:
        UnknownCaseError: for an unknown case.
        VolumeError: if the file cannot be read, has another grid or more than one label value.
    """
    return mask_of_scan(study, cases.case(study.store, case_id), path, label_value=label_value)


def mask_of_scan(
    study: Study, scan: CaseRecord, path: Path, *, label_value: int | None = None
) -> Mask:
    """`checked_mask` for a scan whose record is at hand."""
    mask = read_mask(path, label_value=label_value)
    shape, affine = read_grid(image_path(study, scan))
    return Mask(match_grid(mask.array, mask.affine, shape, affine), affine)


def store_mask(study: Study, case_id: str, mask: Mask, *, tag: str) -> tuple[Path, str]:
    """Write a mask on its scan's own grid as BIDS derivative, by rename; path and digest.

    Call it, and commit the mask's row, inside of `replacing`.
    """
    path = place_of_mask(study, case_id, tag)
    _describe_derivatives(study.derivatives_root)
    write_mask(path, mask.array, mask.affine)
    return path, mask_digest(mask.array)


def place_of_mask(study: Study, case_id: str, tag: str) -> Path:
    """Where a scan's mask under a tag lies, or will lie."""
    return study.derivatives_root / bids.mask_name(case_id, tag)


def _describe_derivatives(root: Path) -> None:
    description = root / "dataset_description.json"
    if description.exists() and description.stat().st_size:
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        text = {
            "Name": "Left caudate masks",
            "BIDSVersion": "1.9.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "fair_caudate"}],
        }
        replace_file(description, (json.dumps(text, indent=2) + "\n").encode())
    except OSError as error:
        raise StudyError(f"{root}: cannot write masks there ({error.strerror})") from None
