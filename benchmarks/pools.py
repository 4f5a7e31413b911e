"""Studies of many tiny scans for the benchmarks of the service; a stand-in scores them.

Only the networks are stood in for, and only here: files, database, plans and server are the real
ones. A benchmark of what lies around the networks then need not run them 20 000 times.
"""

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from fair_strategy.config import StudySettings
from fair_strategy.store.predictions import StoredPrediction
from fair_strategy.workflows.assessment import Assessment
from fair_strategy.workflows.executors import Workers
from fair_strategy.workflows.intake import prepare
from fair_strategy.workflows.scoring import Outcome
from fair_strategy.workflows.study import Study, open_study
from fair_strategy.workflows.work import Work

APP = Path("apps/fair_caudate")
SIDE = 8
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def write_scans(folder: Path, count: int, *, bids: bool = True, first: int = 0) -> None:
    """So many scans of 8 x 8 x 8 voxels, each file's content its own; in BIDS order, or flat."""
    template = nib.Nifti1Image(np.zeros((SIDE, SIDE, SIDE), np.uint8), AFFINE).to_bytes()
    for number in range(first, first + count):
        subject = f"sub-{number:05d}"
        place = folder / subject / "anat" if bids else folder
        place.mkdir(parents=True, exist_ok=True)
        content = template[:-8] + number.to_bytes(8, "little")
        (place / f"{subject}_T1w.nii").write_bytes(content)


def numbered_mask(number: int) -> bytes:
    """A mask of such a scan that no other number below 2^16 gives, as a .nii file."""
    array = np.zeros(SIDE**3, dtype=np.uint8)
    array[:16] = [number >> bit & 1 for bit in range(16)]
    array[SIDE**2] = 1
    return bytes(nib.Nifti1Image(array.reshape(SIDE, SIDE, SIDE), AFFINE).to_bytes())


def write_pool(folder: Path, count: int) -> None:
    """A BIDS folder of so many scans of two groups."""
    write_scans(folder, count)
    rows = [f"sub-{number:05d}\t{'AB'[number % 2]}\n" for number in range(count)]
    table = "participant_id\tgroup\n" + "".join(rows)
    (folder / "participants.tsv").write_text(table, encoding="utf-8")


def pool_study(root: Path, count: int, *, scans: Path | None = None, **settings: Any) -> Study:
    """A study of so many scans that are taken up, not scored; the shipped model is current."""
    if scans is None:
        scans = root / "studies"
        write_pool(scans, count)
    study = open_study(
        scans,
        StudySettings(**settings),
        state_dir=root / "state",
        shipped_model=APP / "model" / "pretrained.pt",
    )
    prepare(study)
    return study


class StandIn(Executor):
    """Answers with an outcome that some numbers were drawn for, whatever function is submitted.

    Attributes:
        cpu_s: CPU seconds that this took, which no service spends.
    """

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self.cpu_s = 0.0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is finished."""
        started = time.thread_time()
        future: Future[Any] = Future()
        future.set_result(_outcome(args[0], self._rng))
        self.cpu_s += time.thread_time() - started
        return future


def stand_in() -> Workers:
    """Workers for `score_study` that take no time to speak of."""
    return Workers(StandIn(), capacity=lambda: 1)


def _outcome(work: Work, rng: np.random.Generator) -> Outcome:
    entropy = rng.random()
    stored = StoredPrediction(
        case_id=work.case_id,
        model=work.model.checksum,
        fingerprint=work.fingerprint,
        shape=(SIDE, SIDE, SIDE),
        affine=AFFINE,
        box=np.array([[0, SIDE]] * 3),
        mask=np.ones((SIDE, SIDE, SIDE), dtype=np.bool_),
        entropy=np.full((SIDE, SIDE, SIDE), entropy, dtype=np.float16),
        peaks=(),
        flags=(),
        route="localised",
        trust=1.0,
    )
    names = ("entropy", "entropy_sum", "masked_mean", "masked_sum", "per_boundary")
    assessment = Assessment(dict.fromkeys(names, entropy), 4000.0, (), ())
    return Outcome(stored, assessment, np.zeros(192, dtype=np.float32))
