"""One study: where its images, its state and its settings are, and how it is opened."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fair_strategy.config import StudySettings, parse_settings
from fair_strategy.data import bids
from fair_strategy.data.cohort import Cohort, load_cohort
from fair_strategy.data.dicom.address import PacsAddress, is_address, pacs_address
from fair_strategy.store import cases
from fair_strategy.store.database import Store
from fair_strategy.store.settings import current_settings, settings_version

PIPELINE = "fair_caudate"
LABEL = "left_caudate"
SCORE_SETTINGS = ("margin_mm", "roi_threshold", "passes", "seed")


class StudyError(ValueError):
    """The study cannot do what was asked; the sentence says why and what to do."""


@dataclass(frozen=True)
class Study:
    """Everything that a workflow needs to know of a study; holds paths only, and pickles.

    Attributes:
        images_dir: the scans; never written to, except for ``derivatives/fair_caudate``. Of a
            PACS: a folder in the state directory, for what is fetched from it.
        state_dir: database, predictions, trained models, caches.
        derivatives_root: where submitted masks go, a BIDS derivatives folder.
        shipped_model: the checkpoint that comes with the application.
        settings: as stored under `settings_version`.
        device: where models run, "cpu" or "cuda"; None trains on a GPU if there is one, and
            predicts on the CPU.
        pacs: where the scans come from; None for a folder.
    """

    images_dir: Path
    state_dir: Path
    derivatives_root: Path
    shipped_model: Path
    settings: StudySettings
    settings_version: int
    store: Store
    device: str | None = None
    pacs: PacsAddress | None = None

    @property
    def location(self) -> str:
        """The folder or the address from which `open_study` opens this study again."""
        return self.pacs.url if self.pacs else str(self.images_dir)

    @property
    def settings_hash(self) -> str:
        """Digest of the settings that change a score; part of the key of every score."""
        return score_settings_hash(self.settings)

    def cohort(self) -> Cohort:
        """The subgroups as participants.tsv has them now."""
        table = bids.participants_file(self.images_dir)
        stamp = table.stat().st_mtime_ns if table else 0
        return _cohort(table, stamp, self.settings.sensitive_feature, self.settings.age_bins)

    def subgroups(self) -> dict[str, str]:
        """case_id -> subgroup for every scan that is there."""
        cohort = self.cohort()
        there = cases.subjects(self.store, present=True)
        return {case_id: cohort.subgroup(subject) for case_id, subject in there.items()}


def open_study(
    images: Path | str,
    settings: StudySettings | None = None,
    *,
    state_dir: Path | None = None,
    shipped_model: Path,
    pacs_timeout_s: float = 20.0,
    pacs_keep_gb: float = 0.0,
    device: str | None = None,
) -> Study:
    """The study of one image folder or PACS; opens only: it neither walks, scores nor downloads.

    Args:
        images: BIDS or flat folder of scans, or the http(s) address of a DICOMweb server.
        settings: stored as a new version if they differ; None keeps those of the study.
        state_dir: None for the user's data folder under the study's id.
        shipped_model: checkpoint to start from.
        pacs_timeout_s: the longest silence of a PACS.
        pacs_keep_gb: fetched scans of a PACS that are kept on the disk; 0 for all.
        device: see Study.
    Raises:
        StudyError: if `images` is neither a folder nor an address.
    """
    pacs = None
    if is_address(images):
        pacs = pacs_address(str(images), timeout_s=pacs_timeout_s, keep_gb=pacs_keep_gb)
    if pacs is None and not Path(images).is_dir():
        raise StudyError(f"{images}: expected a folder of T1-weighted scans, found none")
    state = Path(state_dir).resolve() if state_dir else default_state_dir(images)
    store = Store.open(state)
    images_dir = _pacs_folder(state) if pacs else Path(images).resolve()
    version, settings = _settle(store, settings)
    return Study(
        images_dir=images_dir,
        state_dir=state,
        derivatives_root=_derivatives_root(images_dir, state),
        shipped_model=Path(shipped_model).resolve(),
        settings=settings,
        settings_version=version,
        store=store,
        device=device,
        pacs=pacs,
    )


def default_state_dir(images: Path | str) -> Path:
    """``$XDG_DATA_HOME/fair_strategy/<name>-<digest>``, of a folder's path or a PACS's address."""
    base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    if is_address(images):
        pacs = pacs_address(str(images))
        location, name = pacs.url, pacs.host
    else:
        location = str(Path(images).resolve())
        name = Path(location).name
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", name) or "study"
    digest = hashlib.sha256(location.encode()).hexdigest()[:12]
    return base / "fair_strategy" / f"{name}-{digest}"


def score_settings_hash(settings: StudySettings) -> str:
    """Digest of the settings that change a score."""
    chosen = {name: getattr(settings, name) for name in SCORE_SETTINGS}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]


def masked_score(settings: StudySettings) -> str:
    """Name of the case entropy inside the ROI that the study's reduction asks for."""
    names: Mapping[str, str] = {
        "mean": "masked_mean",
        "sum": "masked_sum",
        "per_boundary": "per_boundary",
    }
    return names[settings.reduction]


def weighted_score(settings: StudySettings) -> str:
    """Name of the case entropy that weights multiply: that of the ROI, or of the whole volume."""
    if settings.region == "roi":
        return masked_score(settings)
    names: Mapping[str, str] = {"mean": "entropy", "sum": "entropy_sum"}
    return names[settings.reduction]


def _settle(store: Store, settings: StudySettings | None) -> tuple[int, StudySettings]:
    stored = current_settings(store)
    if settings is None and stored is not None:
        return stored[0], parse_settings(StudySettings, json.loads(stored[1]))
    settings = settings or StudySettings()
    return settings_version(store, settings.model_dump_json()), settings


def _pacs_folder(state: Path) -> Path:
    folder = state / "pacs"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _derivatives_root(images_dir: Path, state: Path) -> Path:
    inside = images_dir / "derivatives" / PIPELINE
    nearest = next(p for p in (inside, *inside.parents) if p.exists())
    return inside if os.access(nearest, os.W_OK) else state / "derivatives" / PIPELINE


@lru_cache(maxsize=8)
def _cohort(
    table: Path | None,
    stamp: int,
    feature: tuple[str, ...] | None,
    age_bins: tuple[float, ...],
) -> Cohort:
    del stamp  # part of the key only: a changed table is read again
    return load_cohort(table, sensitive_feature=feature, age_bins=age_bins)
