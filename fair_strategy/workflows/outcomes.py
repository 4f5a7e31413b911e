"""What one forward pass leaves of a scan: made, and written into the store."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fair_strategy.config import StudySettings
from fair_strategy.data.grids import NoRoom, VolumeError
from fair_strategy.data.sentences import first_line
from fair_strategy.data.volumes import Volume, read_image
from fair_strategy.learning.checkpoint import Model
from fair_strategy.learning.inference import predict
from fair_strategy.learning.prediction import Prediction, half
from fair_strategy.store import predictions, scores
from fair_strategy.store.predictions import StoredPrediction
from fair_strategy.store.scores import ScoreRecord
from fair_strategy.workflows.assessment import Assessment, assess
from fair_strategy.workflows.study import Study
from fair_strategy.workflows.work import Work

_TOO_LARGE = "does not fit into the memory"


@dataclass(frozen=True)
class Outcome:
    """All that one forward pass leaves of a case, not yet written anywhere.

    Attributes:
        features: (C,) float32; None if the network reports none.
    """

    stored: StoredPrediction
    assessment: Assessment
    features: NDArray[np.float32] | None


def predict_work(work: Work) -> Outcome | str:
    """The outcome of one volume, or why there is none; reads, and writes nothing.

    Raises:
        StudyError: if the worker does not fit the work.
        ModelError: if the model cannot be loaded here.
    """
    model = work.begin()
    try:
        volume = read_scan(work.path)
        return outcome_of(model, volume, work.settings, (work.case_id, work.fingerprint))
    except VolumeError as error:
        return str(error)


def predict_volume(
    model: Model, volume: Volume, settings: StudySettings, *, name: str
) -> Prediction:
    """`predict` with the study's passes and seed; whatever one volume provokes is a VolumeError.

    Raises:
        VolumeError, torch.AcceleratorError: as blamed_on.
    """
    with blamed_on(volume, name):
        return predict(model, volume, passes=settings.passes, seed=settings.seed)


@contextmanager
def blamed_on(volume: Volume, name: str) -> Iterator[None]:
    """What the block raises is the volume's fault, and says so.

    Raises:
        VolumeError: the network cannot take the volume; NoRoom where it may have been the memory.
        torch.AcceleratorError: the GPU is lost, which no volume is to blame for.
    """
    try:
        yield
    except torch.AcceleratorError:
        raise
    except (MemoryError, RuntimeError, ValueError) as error:
        kind = VolumeError if isinstance(error, ValueError) else NoRoom
        raise kind(
            f"{name}: cannot be segmented, shape {volume.array.shape}, "
            f"voxels of {' x '.join(f'{s:.3g}' for s in volume.spacing_mm)} mm: {first_line(error)}"
        ) from error


def outcome_of(
    model: Model, volume: Volume, settings: StudySettings, key: tuple[str, str]
) -> Outcome:
    """Predict and reduce.

    Args:
        key: case_id and fingerprint.
    Raises:
        VolumeError: if the network cannot take the volume.
    """
    return reduced(model, predict_volume(model, volume, settings, name=key[0]), settings, key)


def reduced(
    model: Model, prediction: Prediction, settings: StudySettings, key: tuple[str, str]
) -> Outcome:
    """What is kept of a prediction.

    Args:
        key: case_id and fingerprint.
    Raises:
        VolumeError: if it does not fit into the memory.
    """
    with too_large_is_told(key[0], prediction):
        assessment = assess(prediction, settings)
        stored = _stored(key, model.checksum, prediction, assessment)
    return Outcome(stored, assessment, prediction.features)


@contextmanager
def too_large_is_told(name: str, prediction: Prediction) -> Iterator[None]:
    """A MemoryError in the block is raised as NoRoom that names the volume."""
    try:
        yield
    except MemoryError as error:
        raise NoRoom(f"{name}: {_TOO_LARGE}, shape {prediction.shape}") from error


def keep(study: Study, outcomes: Sequence[Outcome]) -> None:
    """Write the predictions, then commit their scores, all at once."""
    for outcome in outcomes:
        predictions.write_prediction(study.state_dir, outcome.stored)
    settings_hash = study.settings_hash
    scores.add_scores(study.store, [(_score(o, settings_hash), o.features) for o in outcomes])


def _score(outcome: Outcome, settings_hash: str) -> ScoreRecord:
    stored, assessment = outcome.stored, outcome.assessment
    return ScoreRecord(
        case_id=stored.case_id,
        fingerprint=stored.fingerprint,
        model=stored.model,
        settings_hash=settings_hash,
        entropies=assessment.entropies,
        volume_mm3=assessment.volume_mm3,
        flags=assessment.flags,
        created_at=time.time(),
    )


def _stored(
    key: tuple[str, str], checksum: str, prediction: Prediction, assessment: Assessment
) -> StoredPrediction:
    case_id, fingerprint = key
    return StoredPrediction(
        case_id=case_id,
        model=checksum,
        fingerprint=fingerprint,
        shape=prediction.shape,
        affine=prediction.affine,
        box=np.array([(s.start, s.stop) for s in prediction.box]),
        mask=prediction.probability >= 0.5,
        entropy=half(prediction.entropy),
        peaks=tuple((p.position_mm, p.value) for p in assessment.peaks),
        flags=assessment.flags,
        route=prediction.route,
        trust=prediction.trust,
    )


def read_scan(path: Path) -> Volume:
    """`read_image` for scoring.

    Raises:
        VolumeError: also where the file is gone; NoRoom where it does not fit into the memory.
    """
    try:
        return read_image(path)
    except FileNotFoundError:
        raise VolumeError(f"{path.name}: expected a scan, the file is gone") from None
    except MemoryError:
        raise NoRoom(f"{path.name}: {_TOO_LARGE}") from None
