"""A BIDS folder of synthetic subjects, written a whole subject at a time."""

from __future__ import annotations

import json
import math
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from fair_strategy.data import bids, volumes
from fair_strategy.data.cohort import CohortError
from fair_strategy.data.synthetic import description
from fair_strategy.data.synthetic.description import REFERENCE
from fair_strategy.data.synthetic.making import CONTRASTS, HEAD, VIEWS, make
from fair_strategy.data.synthetic.subject import (
    EFFECT_MM,
    MAJORITY,
    MINORITY,
    SubjectParameters,
    draw_parameters,
)

Progress = Callable[[int, int], None]
LABELS = "labels"
REFERENCE_TAG, LABEL_TAG = "reference", "manual"
BLOCK = 20
_GROUPS = 100  # a stream that no subject uses
_PARTIAL = ".partial-"


@dataclass(frozen=True)
class CohortSettings:
    """What a synthetic cohort is made of.

    Attributes:
        subjects: number of subjects.
        bias: "strong", "weak" or "none": the regional effect in the minority.
        minority_fraction: share of group B, 0 to 1.
        seed: non-negative; the same seed gives the same bytes.
        voxel_mm: edge of the cubic voxels; None draws each head's scan at random (spacing, cut,
            storage order, oblique), and is 1 mm for brains.
        field_of_view: "brain", "caudate" or "head".
        labelled: subjects a group whose mask is also given as a label.
        contrast: "t1", or "random" for heads of any contrast.
    """

    subjects: int
    bias: str = "strong"
    minority_fraction: float = 0.35
    seed: int = 0
    voxel_mm: float | None = 1.0
    field_of_view: str = "brain"
    labelled: int = 0
    contrast: str = "t1"

    def __post_init__(self) -> None:
        """Refuse what no cohort can be made of."""
        _check(self.subjects >= 1, "subjects", "at least 1", self.subjects)
        _check(self.bias in EFFECT_MM, "bias", f"one of {', '.join(EFFECT_MM)}", self.bias)
        fraction = self.minority_fraction
        _check(0 <= fraction <= 1, "minority fraction", "0 to 1", fraction)
        _check(self.seed >= 0, "seed", "0 or more", self.seed)
        edge = 1.0 if self.voxel_mm is None else self.voxel_mm
        _check(0.25 <= edge <= 8, "voxel size", "0.25 to 8 mm", edge)
        views = f"one of {', '.join(VIEWS)}"
        _check(self.field_of_view in VIEWS, "field of view", views, self.field_of_view)
        contrasts = CONTRASTS if self.field_of_view == HEAD else CONTRASTS[:1]
        known = f"one of {', '.join(contrasts)} with field of view {self.field_of_view}"
        _check(self.contrast in contrasts, "contrast", known, self.contrast)
        _check(self.labelled >= 0, "labelled", "0 or more", self.labelled)
        for group, size in self.group_sizes().items():
            enough = f"at most {size}, the size of group {group}"
            _check(size == 0 or self.labelled <= size, "labelled", enough, self.labelled)

    def group_sizes(self) -> dict[str, int]:
        """Number of subjects in each group."""
        minority = _minority_count(self.subjects, self.minority_fraction)
        return {MAJORITY: self.subjects - minority, MINORITY: minority}


@dataclass(frozen=True)
class CohortReport:
    """How many subjects were written by this call, and how many stood there already."""

    written: int
    kept: int
    labelled: int


@dataclass(frozen=True)
class _Job:
    """One subject, ready to be written by any process."""

    case_id: str
    parameters: SubjectParameters
    settings: CohortSettings
    labelled: bool

    @property
    def subject_id(self) -> str:
        return self.case_id.removesuffix("_T1w")


def assign_groups(subjects: int, minority_fraction: float, seed: int) -> tuple[str, ...]:
    """Group of each subject, in permuted blocks of 20.

    Exactly round(subjects x minority_fraction) are in the minority, at random places, so that a
    subject's number tells nothing. A full block stays as it is when subjects are added.
    """
    groups = [MAJORITY] * subjects
    for block, start in enumerate(range(0, subjects, BLOCK)):
        stop = min(start + BLOCK, subjects)
        order = np.random.default_rng([seed, block, _GROUPS]).permutation(BLOCK)
        minority = _minority_count(stop, minority_fraction) - _minority_count(
            start, minority_fraction
        )
        for place in [p for p in order if start + p < stop][:minority]:
            groups[start + place] = MINORITY
    return tuple(groups)


def write_cohort(
    out: Path,
    settings: CohortSettings,
    *,
    processes: int = 1,
    progress: Progress | None = None,
) -> CohortReport:
    """Write a cohort, or what is still missing of it; whole subjects only.

    The files are the same whatever the number of processes, and however often the work was
    interrupted.

    Args:
        out: the BIDS folder; created, or one that an earlier call began with the same settings.
        settings: see CohortSettings. `subjects` and `labelled` may grow from call to call.
        processes: worker processes; 1 works in this one.
        progress: called with (subjects that stand, subjects in all).
    Raises:
        CohortError: out holds something else, or a cohort of other settings.
        ValueError: processes below 1.
    """
    _check(processes >= 1, "processes", "at least 1", processes)
    jobs = _jobs(settings)
    _check_folder(out, settings, jobs)
    _write_descriptions(out, settings)
    for stale in out.glob(f"{_PARTIAL}*"):
        shutil.rmtree(stale)
    missing = [job for job in jobs if not (out / job.subject_id).exists()]
    for job in jobs:
        if job not in missing:
            _add_label(out, job)
    progress = progress or (lambda done, total: None)
    kept = len(jobs) - len(missing)
    progress(kept, len(jobs))
    try:
        for done, _ in enumerate(_run(out, missing, processes), start=kept + 1):
            _write_participants(out, jobs)
            progress(done, len(jobs))
    finally:
        _write_participants(out, jobs)
    return CohortReport(len(missing), kept, sum(job.labelled for job in jobs))


def _jobs(settings: CohortSettings) -> list[_Job]:
    groups = assign_groups(settings.subjects, settings.minority_fraction, settings.seed)
    width = max(3, len(str(settings.subjects)))
    jobs = []
    for index, group in enumerate(groups):
        jobs.append(
            _Job(
                case_id=f"sub-{index + 1:0{width}d}_T1w",
                parameters=draw_parameters(settings.seed, index, group=group, bias=settings.bias),
                settings=settings,
                labelled=groups[:index].count(group) < settings.labelled,
            )
        )
    return jobs


def _run(out: Path, jobs: list[_Job], processes: int) -> Iterator[None]:
    """Write the jobs; yields once a subject."""
    if processes == 1 or len(jobs) <= 1:
        for job in jobs:
            _write_subject(out, job)
            yield
        return
    # spawn: a forked child would inherit the locks of the parent's threads.
    pool = ProcessPoolExecutor(
        min(processes, len(jobs)), mp_context=get_context("spawn"), initializer=_ignore_interrupt
    )
    # One job a worker at a time: after an interruption only those in hand are finished.
    waiting = iter(jobs)
    with pool:
        running = {pool.submit(_write_subject, out, job) for job in islice(waiting, processes)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                running |= {pool.submit(_write_subject, out, job) for job in islice(waiting, 1)}
                yield


def _ignore_interrupt() -> None:
    """Ctrl-C reaches the whole terminal group; a worker ends its subject, the parent decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_subject(out: Path, job: _Job) -> None:
    """Write one subject beside its place, then rename: the image's folder comes last."""
    made = make(
        job.parameters,
        field_of_view=job.settings.field_of_view,
        voxel_mm=job.settings.voxel_mm,
        contrast=job.settings.contrast,
    )
    mask = bids.mask_name(job.case_id, REFERENCE_TAG)
    image = Path(job.subject_id, "anat", f"{job.case_id}.nii.gz")
    partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=out))
    try:
        for path in (partial / REFERENCE / mask, partial / image):
            path.parent.mkdir(parents=True)
        volumes.write_image(partial / image, made.image, made.affine, dtype=made.dtype)
        volumes.write_mask(partial / REFERENCE / mask, made.label, made.affine)
        description.write_json(partial / REFERENCE / _sidecar(mask), made.sidecar)
        _replace_folder(
            partial / REFERENCE / job.subject_id, out / "derivatives" / REFERENCE / job.subject_id
        )
        _add_label(out, job)
        (partial / job.subject_id).rename(out / job.subject_id)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _add_label(out: Path, job: _Job) -> None:
    """Copy a labelled subject's mask to the labels, unless one is there."""
    target = out / "derivatives" / LABELS / bids.mask_name(job.case_id, LABEL_TAG)
    if not job.labelled or target.exists():
        return
    source = out / "derivatives" / REFERENCE / bids.mask_name(job.case_id, REFERENCE_TAG)
    target.parent.mkdir(parents=True, exist_ok=True)
    content = source.read_bytes()
    partial = target.with_name(f".{target.name}.partial")
    partial.write_bytes(content)
    partial.replace(target)


def _replace_folder(source: Path, target: Path) -> None:
    """Move a folder into place; what an interrupted run left there goes."""
    if target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def _check_folder(out: Path, settings: CohortSettings, jobs: list[_Job]) -> None:
    """Refuse a folder that holds something else than a part of this cohort."""
    if out.exists() and not out.is_dir():
        raise CohortError(f"{out}: expected a folder, found a file")
    manifest = description.manifest_path(out)
    if not manifest.exists():
        if out.exists() and any(out.iterdir()):
            raise CohortError(f"{out}: not empty, and no synthetic cohort; choose another folder")
        return
    found = description.read_manifest(out)
    for name, value in description.fixed(asdict(settings)).items():
        if found.get(name) != value:
            raise CohortError(
                f"{out}: holds a cohort made with {name} {found.get(name)}, not {value}; "
                "choose another folder"
            )
    expected = {job.subject_id for job in jobs}
    surplus = sorted(path.name for path in out.glob("sub-*") if path.name not in expected)
    if surplus:
        raise CohortError(f"{out}: holds {surplus[0]}, which is not in this cohort; ask for more")
    for job in jobs:
        if (out / job.subject_id).exists():
            _check_subject(out, job)


def _check_subject(out: Path, job: _Job) -> None:
    sidecar = out / "derivatives" / REFERENCE / _sidecar(bids.mask_name(job.case_id, REFERENCE_TAG))
    found = json.loads(sidecar.read_text()) if sidecar.exists() else {}
    if found.get("effect_mm") != job.parameters.effect_mm:
        raise CohortError(
            f"{sidecar}: this subject would change with the new number of subjects (groups are "
            f"dealt in blocks of {BLOCK}); choose another folder"
        )


def _write_descriptions(out: Path, settings: CohortSettings) -> None:
    # The manifest first: without it a begun folder would pass for somebody else's.
    description.write_derivative(out, REFERENCE, parameters=description.fixed(asdict(settings)))
    description.write_root(out, head=settings.field_of_view == HEAD)
    if settings.labelled:
        description.write_derivative(out, LABELS)


def _write_participants(out: Path, jobs: list[_Job]) -> None:
    rows = [
        (job.subject_id, job.parameters.group, job.parameters.sex, job.parameters.age)
        for job in jobs
        if (out / job.subject_id).exists()
    ]
    description.write_participants(out, rows)


def _sidecar(mask: Path) -> Path:
    return mask.with_name(mask.name.replace(".nii.gz", ".json"))


def _minority_count(subjects: int, fraction: float) -> int:
    """Subjects x fraction, halves rounded up, so that it never falls when subjects are added."""
    return math.floor(subjects * fraction + 0.5)


def _check(holds: bool, name: str, expected: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{name}: expected {expected}, got {value}")
