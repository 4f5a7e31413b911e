"""Where things lie in a study's folder: scans, the participants' table, masks; and what ids may be.

A folder with any `sub-*` subfolder is read as BIDS, every other one as flat. Only names are looked
at here, so that 20 000 files take a moment.
"""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fair_strategy.data.cohort import CohortError

log = logging.getLogger(__name__)

SUFFIXES = (".nii.gz", ".nii", ".nrrd")
OWN_PIPELINE = "fair_caudate"
_NOT_IMPORTED = frozenset({OWN_PIPELINE, "reference"})  # our output; a synthetic cohort's answers
_DERIVED = frozenset({"hemi", "space", "split", "seg", "res", "den", "label", "desc", "atlas"})
_BIDS_ID = re.compile(
    r"(?P<source>(?P<sub>sub-[^_]+)(?:_(?P<ses>ses-[^_]+))?(?:_[^_-]+-[^_]+)*)_T1w"
)
_ID = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,128}")
_TAG = re.compile(r"[A-Za-z0-9]{1,32}")
_MASK_TAG = re.compile(r"_desc-([A-Za-z0-9]{1,32})_mask\.nii\.gz$")


@dataclass(frozen=True, slots=True)
class Scan:
    """One image file of a study.

    Attributes:
        case_id: file name without extension, unique in the study.
        subject_id: the person, 'sub-..' where the name tells it, else the case_id.
        path: the file.
        fingerprint: '<size>-<mtime_ns>'; another one means that the file was replaced.
    """

    case_id: str
    subject_id: str
    path: Path
    fingerprint: str


def walk(images_dir: Path) -> list[Scan]:
    """All scans of a study's folder, sorted by case_id.

    BIDS: `sub-*/[ses-*/]anat/*_T1w.{nii,nii.gz,nrrd}`; flat: `*.{nii,nii.gz,nrrd}` at the top
    level, `.seg.nrrd` left out. Hidden files and `derivatives` are not looked at, no file is
    opened. A dangling link (an annexed file that was not fetched) is listed: reading it fails
    with its name. A file whose name is no id, or that bears another subject's name than its BIDS
    folder, is left out with a warning: one stray file must not hold up a whole study.
    Raises:
        CohortError: no such folder; two files make one case_id.
    """
    top = _entries(images_dir)
    subjects = [entry for entry in top if entry.name.startswith("sub-") and entry.is_dir()]
    found = _bids_scans(subjects) if subjects else _flat_scans(top)
    scans: dict[str, Scan] = {}
    for scan in found:
        other = scans.setdefault(scan.case_id, scan)
        if other is not scan:
            raise CohortError(
                f"{other.path} and {scan.path} make one id, {scan.case_id}; remove or rename one"
            )
    return [scans[case_id] for case_id in sorted(scans)]


def participants_file(images_dir: Path) -> Path | None:
    """The study's participants.tsv, or None where it has none."""
    path = images_dir / "participants.tsv"
    return path if path.is_file() else None


def subject_of(case_id: str) -> str:
    """The subject that a case_id names: its leading 'sub-..' entity, else the whole id."""
    first = case_id.split("_", 1)[0]
    return first if first.startswith("sub-") and len(first) > len("sub-") else case_id


def mask_name(case_id: str, tag: str) -> Path:
    """Relative path of a left-caudate mask inside a derivatives pipeline, as .nii.gz.

    All entities of the scan (session, acquisition, run, ..) are kept, so two scans never share one.
    Raises:
        ValueError: case_id or tag holds what could leave the folder.
    """
    check_id(case_id)
    ending = f"hemi-L_label-caudate_desc-{check_tag(tag)}_mask.nii.gz"
    named = _BIDS_ID.fullmatch(case_id)
    if named is None:
        return Path(f"{case_id}_{ending}")
    return Path(named["sub"], named["ses"] or "", "anat", f"{named['source']}_{ending}")


def tag_of_mask(path: Path) -> str | None:
    """The tag in a name as `mask_name` makes them; None for other names."""
    found = _MASK_TAG.search(path.name)
    return found[1] if found else None


def find_existing_masks(images_dir: Path, scans: Iterable[Scan]) -> dict[str, Path]:
    """Masks that lie in a study's folder already: case_id -> the preferred one.

    Looked for: `labels/final/<case_id>.*` of a stock MONAI Label folder, then
    `derivatives/<pipeline>/**/*_label-caudate*_mask.*`, then `*_dseg.*` (multi-label maps). A name
    must carry the scan's entities and no others but those of a derivative (space, desc, ..); the
    right side is left out. The pipelines `fair_caudate` and `reference` are not looked at. Neither
    grid nor values are checked here.
    """
    index: dict[tuple[str, ...], list[Scan]] = defaultdict(list)
    by_id: dict[str, Scan] = {}
    for scan in scans:
        by_id[scan.case_id] = scan
        index[_source_entities(_scan_stem(scan.case_id))].append(scan)
    best: dict[str, tuple[tuple[int, int, int, str], Path]] = {}
    for rank, case_id, path in _mask_candidates(images_dir, index):
        if case_id not in best or (*rank, str(path)) < best[case_id][0]:
            best[case_id] = ((*rank, str(path)), path)
    found = {case_id: path for case_id, (_, path) in best.items()}
    for stem, path in _stock_labels(images_dir):
        if stem in by_id:
            found[stem] = path
    return dict(sorted(found.items()))


def is_label_map(path: Path) -> bool:
    """Whether the name (`_dseg`) says that the file holds several labels: needs a label_value."""
    return _split_suffix(path.name)[0].endswith("_dseg")


def check_id(text: str) -> str:
    """`text`, if it can be a case_id: letters, digits, '_', '-', '.', at most 128 characters.

    Raises:
        ValueError: other characters, a leading dot, two dots in a row, empty or too long.
    """
    if not _ID.fullmatch(text):
        raise ValueError(
            f"{text!r} is no id; ids hold letters, digits, '_', '-' and '.', no leading dot, no "
            "'..', and 1 to 128 characters"
        )
    return text


def check_tag(text: str) -> str:
    """`text`, if it can be the tag of a label: letters and digits, at most 32.

    Raises:
        ValueError: other characters, empty or too long.
    """
    if not _TAG.fullmatch(text):
        raise ValueError(
            f"{text!r} is no tag; tags are 1 to 32 letters and digits, such as 'final'"
        )
    return text


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise CohortError(f"cannot read the folder {folder}: {error.strerror}") from error


def _split_suffix(name: str) -> tuple[str, str]:
    for suffix in SUFFIXES:
        if name.endswith(suffix) and len(name) > len(suffix):
            return name.removesuffix(suffix), suffix
    return name, ""


def _flat_scans(entries: list[os.DirEntry[str]]) -> Iterator[Scan]:
    for entry in entries:
        case_id, suffix = _split_suffix(entry.name)
        if suffix and not case_id.endswith(".seg") and not entry.is_dir():
            yield from _scan(entry, case_id, subject_of(case_id))


def _bids_scans(subjects: list[os.DirEntry[str]]) -> Iterator[Scan]:
    for subject in subjects:
        for anat in _anat_folders(subject):
            for entry in _entries(anat.path):
                case_id, suffix = _split_suffix(entry.name)
                is_scan = suffix and case_id.endswith("_T1w") and not entry.is_dir()
                if is_scan and _is_owned(entry, subject.name):
                    yield from _scan(entry, case_id, subject.name)


def _anat_folders(subject: os.DirEntry[str]) -> Iterator[os.DirEntry[str]]:
    for entry in _entries(subject.path):
        if entry.name == "anat" and entry.is_dir():
            yield entry
        elif entry.name.startswith("ses-") and entry.is_dir():
            yield from (e for e in _entries(entry.path) if e.name == "anat" and e.is_dir())


def _is_owned(entry: os.DirEntry[str], subject_id: str) -> bool:
    if entry.name.startswith(f"{subject_id}_"):
        return True
    log.warning(
        "left out: %s lies in the folder of %s but does not bear its name; whose scan is it? "
        "Rename or move it",
        entry.path,
        subject_id,
    )
    return False


def _scan(entry: os.DirEntry[str], case_id: str, subject_id: str) -> Iterator[Scan]:
    try:
        check_id(case_id)
    except ValueError as error:
        log.warning("left out: %s: %s; rename the file", entry.path, error)
        return
    try:
        status = entry.stat()
    except FileNotFoundError:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # removed since the folder was listed
            return
    fingerprint = f"{status.st_size}-{status.st_mtime_ns}"
    yield Scan(case_id, subject_id, Path(entry.path), fingerprint)


def _scan_stem(case_id: str) -> str:
    named = _BIDS_ID.fullmatch(case_id)
    return named["source"] if named else case_id


def _source_entities(stem: str) -> tuple[str, ...]:
    parts = (part for part in stem.split("_") if part.partition("-")[0] not in _DERIVED)
    return tuple(sorted(parts))


def _stock_labels(images_dir: Path) -> Iterator[tuple[str, Path]]:
    folder = images_dir / "labels" / "final"
    if folder.is_dir():
        for entry in sorted(_entries(folder), key=lambda entry: entry.name):
            stem, suffix = _split_suffix(entry.name)
            if suffix:
                yield stem.removesuffix(".seg"), Path(entry.path)


def _mask_candidates(
    images_dir: Path, index: dict[tuple[str, ...], list[Scan]]
) -> Iterator[tuple[tuple[int, int, int], str, Path]]:
    for path in _derivative_files(images_dir / "derivatives"):
        stem = _split_suffix(path.name)[0].removesuffix(".seg")
        stem, _, kind = stem.rpartition("_")
        rank = _mask_rank(stem.split("_"), kind)
        if rank is None:
            continue
        named = set(stem.split("_"))
        same = index.get(_source_entities(stem), [])
        exact = [s for s in same if named.issuperset(_scan_stem(s.case_id).split("_"))]
        for scan in exact or same:
            if len(exact or same) == 1:
                yield rank, scan.case_id, path


def _mask_rank(parts: list[str], kind: str) -> tuple[int, int, int] | None:
    """Preference of a mask by its name, lower is better; None if it holds no left caudate."""
    entities = dict(part.split("-", 1) for part in parts if "-" in part)
    side = entities.get("hemi", "")
    label = entities.get("label", "").lower()
    if side.upper() == "R":
        return None
    if kind == "mask" and label.startswith("caudate") and label[7:] not in {"r", "right"}:
        return 0, int(side != "L"), int(entities.get("desc") != "final")
    if kind == "dseg" and not label:
        return 1, int(side != "L"), int(entities.get("desc") != "aseg")
    return None


def _derivative_files(derivatives: Path) -> Iterator[Path]:
    if not derivatives.is_dir():
        return
    for pipeline in _entries(derivatives):
        if pipeline.name in _NOT_IMPORTED or not pipeline.is_dir():
            continue
        for folder, subfolders, names in os.walk(pipeline.path):
            subfolders.sort()
            yield from (Path(folder, name) for name in names if _is_mask_name(name))


def _is_mask_name(name: str) -> bool:
    stem, suffix = _split_suffix(name)
    hidden = name.startswith(".")
    return bool(suffix) and not hidden and stem.removesuffix(".seg").endswith(("_mask", "_dseg"))
