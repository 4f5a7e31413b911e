"""The tables and JSON files of a synthetic BIDS folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fair_strategy import __version__

BIDS_VERSION = "1.9.0"
_GENERATOR = {"Name": "fair-strategy synth", "Version": __version__}
_COLUMNS = {
    "group": {
        "Description": "Simulated subgroup",
        "Levels": {"A": "majority", "B": "minority, with its own effect on the left caudate"},
    },
    "sex": {"Description": "Simulated sex", "Levels": {"F": "female", "M": "male"}},
    "age": {"Description": "Simulated age; without effect on the image", "Units": "year"},
}
_README = """Synthetic T1-weighted brains, made by `fair-strategy synth`. No real person is shown.

Every image is the MNI152 template, warped by a random smooth field and by an effect on the left
caudate whose size depends on the group. derivatives/reference holds the true masks of all
subjects and the parameters of each: it is the answer key, not for annotators.
"""
_AROUND = """
Skull, face, air and neck are made up around the template brain; they are nobody's.
"""
REFERENCE = "reference"


def write_root(out: Path, *, head: bool = False) -> None:
    """dataset_description.json, README, and the sidecars that hold for the whole data set.

    No parameter of the generator stands here: annotators see this folder.

    Args:
        out: the BIDS folder.
        head: whole heads instead of brains.
    """
    shown = "heads" if head else "brains"
    write_json(
        out / "dataset_description.json",
        {
            "Name": f"Synthetic T1-weighted {shown}",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "raw",
            "GeneratedBy": [_GENERATOR],
        },
    )
    write_json(out / "T1w.json", {"Modality": "MR", "SkullStripped": not head})
    write_json(out / "participants.json", _COLUMNS)
    _write(out / "README", _README.replace("brains", shown) + (_AROUND if head else ""))


def write_derivative(out: Path, name: str, *, parameters: Mapping[str, Any] | None = None) -> None:
    """dataset_description.json of one derivatives folder."""
    generator: dict[str, Any] = dict(_GENERATOR)
    if parameters is not None:
        generator["Parameters"] = dict(parameters)
    write_json(
        out / "derivatives" / name / "dataset_description.json",
        {
            "Name": f"Left-caudate masks ({name})",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [generator],
        },
    )


def write_participants(out: Path, rows: Iterable[Sequence[object]]) -> None:
    """participants.tsv with the columns participant_id, group, sex, age."""
    lines = [("participant_id", *_COLUMNS), *rows]
    _write(out / "participants.tsv", "".join("\t".join(map(str, line)) + "\n" for line in lines))


def manifest_path(out: Path) -> Path:
    """The file that tells a synthetic cohort and its settings."""
    return out / "derivatives" / REFERENCE / "dataset_description.json"


def read_manifest(out: Path) -> dict[str, Any]:
    """Settings that a cohort was made with; empty if the file tells none."""
    content = json.loads(manifest_path(out).read_text(encoding="utf-8"))
    parameters: dict[str, Any] = content.get("GeneratedBy", [{}])[0].get("Parameters", {})
    return parameters


def fixed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that may not change while a cohort grows."""
    free = {"subjects", "labelled"}
    if settings["field_of_view"] != "head":
        free.add("contrast")  # brains have one contrast; cohorts from before heads go on
    return {name: value for name, value in settings.items() if name not in free}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    _write(path, json.dumps(content, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    os.replace(partial, path)
