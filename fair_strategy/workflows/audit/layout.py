"""Where the files of each case are: a folder a case, or flat folders as nnU-Net writes them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fair_strategy.data.cohort import CohortError

SUFFIXES = (".nii.gz", ".nii", ".nrrd")
Regions = Mapping[str, tuple[int, ...]]
_KINDS = ("reference", "prediction", "probability", "uncertainty", "mask")


@dataclass(frozen=True)
class CaseFiles:
    """Files of one case.

    Attributes:
        case_id: its name.
        reference: label map drawn by people.
        prediction: label map; None where `probability` decides at 0.5.
        probability: region -> file; under "" of all classes (4D, or nnU-Net's .npz), or of the
            only region.
        uncertainty: region -> file; under "" for all regions.
        mask: where true positives and negatives are counted (the brain); None: everywhere.
    """

    case_id: str
    reference: Path
    prediction: Path | None = None
    probability: Mapping[str, Path] = field(default_factory=dict)
    uncertainty: Mapping[str, Path] = field(default_factory=dict)
    mask: Path | None = None


def find_cases(
    predictions: Path, *, references: Path | None = None, uncertainties: Path | None = None
) -> list[CaseFiles]:
    """Files of every case of a folder of predictions, sorted by case.

    Args:
        predictions: without `references` a folder a case (reference, prediction, probability or
            probability_<region>, uncertainty or uncertainty_<region>, mask; .nii.gz, .nii or
            .nrrd); else a flat folder of <case>.nii.gz, each perhaps with <case>.npz.
        references: flat folder of <case>.nii.gz.
        uncertainties: flat folder of <case>.nii.gz, with `references` only.
    Raises:
        CohortError: no case; a case without reference or prediction, or the other way round; a
            case of which the others have files that it lacks.
    """
    if references is None:
        if uncertainties is not None:
            raise CohortError("--uncertainties goes with --references: both are flat folders")
        cases = [_case_folder(folder) for folder in _folders(predictions)]
    else:
        cases = _flat(predictions, references, uncertainties)
    _check_alike(cases)
    return cases


def parse_regions(text: str) -> Regions:
    """Regions from "WT=1+2+4,TC=1+4,ET=4", or from nnU-Net's dataset.json.

    Raises:
        CohortError: for anything else.
    """
    if text.endswith(".json"):
        return _nnunet_regions(Path(text))
    regions: dict[str, tuple[int, ...]] = {}
    for part in text.split(","):
        name, equals, labels = (piece.strip() for piece in part.partition("="))
        values = labels.split("+")
        if not (name and equals and all(value.strip().isdigit() for value in values)):
            raise CohortError(f"regions: expected NAME=1+2,.. or a dataset.json, got {part!r}")
        if name in regions:
            raise CohortError(f"regions: {name!r} stands there twice")
        regions[name] = tuple(sorted({int(value) for value in values}))
    return regions


def _nnunet_regions(path: Path) -> Regions:
    try:
        labels: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["labels"]
        named = {
            name: tuple(sorted(map(int, value if isinstance(value, list) else [value])))
            for name, value in labels.items()
            if name not in ("background", "ignore")
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CohortError(
            f"{path}: expected nnU-Net's dataset.json with 'labels': {error}"
        ) from None
    return named


def _folders(predictions: Path) -> list[Path]:
    folders = sorted(p for p in predictions.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise CohortError(
            f"{predictions}: expected a folder a case with reference.nii.gz and prediction.nii.gz "
            "(or probability.nii.gz); flat folders need --references"
        )
    return folders


def _case_folder(folder: Path) -> CaseFiles:
    found: dict[str, dict[str, Path]] = {kind: {} for kind in _KINDS}
    for path in sorted(folder.iterdir()):
        stem = _stem(path) or (path.stem if path.suffix == ".npz" else "")
        kind, _, region = stem.partition("_")
        if kind in found:
            if region in found[kind]:
                raise CohortError(f"{folder}: two files for {stem!r}; keep one")
            found[kind][region] = path
    reference = found["reference"].get("")
    if reference is None:
        raise CohortError(f"{folder}: no reference.nii.gz (or .nii, .nrrd)")
    if not (found["prediction"].get("") or found["probability"]):
        raise CohortError(f"{folder}: neither prediction.nii.gz nor probability.nii.gz")
    return CaseFiles(
        folder.name,
        reference,
        found["prediction"].get(""),
        found["probability"],
        found["uncertainty"],
        found["mask"].get(""),
    )


def _flat(predictions: Path, references: Path, uncertainties: Path | None) -> list[CaseFiles]:
    drawn, predicted = _by_case(references), _by_case(predictions)
    apart = sorted(set(drawn) ^ set(predicted))
    if apart or not drawn:
        shown = ", ".join(apart[:3]) or "no case"
        raise CohortError(
            f"{predictions} and {references} hold different cases, such as {shown} "
            f"({len(predicted)} predictions, {len(drawn)} references); make them the same"
        )
    doubts = _by_case(uncertainties) if uncertainties else {}
    lacking = sorted(set(drawn) - set(doubts))
    if uncertainties and lacking:
        raise CohortError(f"{uncertainties}: no uncertainty map of {', '.join(lacking[:3])}")
    return [
        CaseFiles(
            case,
            drawn[case],
            predicted[case],
            {"": npz} if (npz := predictions / f"{case}.npz").is_file() else {},
            {"": doubts[case]} if doubts else {},
        )
        for case in sorted(drawn)
    ]


def _by_case(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise CohortError(f"{folder}: no such folder")
    return {stem: path for path in sorted(folder.iterdir()) if (stem := _stem(path))}


def _stem(path: Path) -> str:
    for suffix in SUFFIXES:
        if path.name.endswith(suffix) and not path.name.startswith("."):
            return path.name.removesuffix(suffix)
    return ""


def _check_alike(cases: list[CaseFiles]) -> None:
    """All cases have the same kinds of files: one yardstick for every subgroup."""
    first = _kinds(cases[0])
    for case in cases[1:]:
        apart = first ^ _kinds(case)
        if apart:
            have, lack = (cases[0], case) if apart & first else (case, cases[0])
            raise CohortError(
                f"case {lack.case_id} has no {sorted(apart)[0]}, which case {have.case_id} has; "
                "give all cases the same files"
            )


def _kinds(case: CaseFiles) -> set[str]:
    named = {"prediction": case.prediction, "mask": case.mask}
    kinds = {name for name, path in named.items() if path is not None}
    for name, files in (("probability", case.probability), ("uncertainty", case.uncertainty)):
        kinds |= {f"{name}_{region}".rstrip("_") for region in files}
    return kinds
