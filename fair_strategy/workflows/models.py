"""Which model is current, and its weights, read once a process."""

import logging
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fair_strategy.learning.checkpoint import Model, load_model
from fair_strategy.store import scores
from fair_strategy.store.scores import ModelRecord
from fair_strategy.workflows.study import Study, StudyError
from fair_strategy.workflows.threads import keep_numpy_to_one_thread

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model by its file, as it travels to other processes and machines.

    Attributes:
        path: where every worker finds it.
        checksum: of what must lie there.
        device: where it runs, "cpu" or "cuda".
    """

    path: Path
    checksum: str
    device: str = "cpu"

    def load(self) -> Model:
        """The model, read once a process.

        Raises:
            StudyError: if the file is another than the one that is meant.
            ModelError: if it is missing or is not a model.
        """
        return _load(self.path, self.checksum, self.device)


def model_file(path: Path) -> ModelFile:
    """The model that lies in a file now.

    Raises:
        ModelError: if the file is missing or is not a model.
    """
    return ModelFile(path.resolve(), load_model(path).checksum)


def current_model(study: Study) -> Model:
    """The published model of the study, loaded.

    Raises:
        StudyError: if none is published.
        ModelError: if its file is missing or is not a model.
    """
    return current_model_file(study).load()


def current_model_file(study: Study) -> ModelFile:
    """The published model of the study.

    Raises:
        StudyError: if none is published.
    """
    record = scores.current_model(study.store)
    if record is None:
        raise StudyError(f"no model: expected one at {study.shipped_model}; put one there, restart")
    return ModelFile(record.path, record.checksum, study.device or "cpu")


def shown_models(study: Study) -> list[str]:
    """Checksums of the models whose predictions readers are shown: the current one, the last."""
    if scores.current_checksum(study.store) is None:
        return []
    return scores.checksums(study.store)[:2]


def publish_shipped(study: Study) -> str:
    """Make the shipped checkpoint current if no trained one is; its checksum.

    Raises:
        ModelError: if the file is missing or is not a model.
    """
    current = scores.current_model(study.store)
    if current is not None and current.origin != "shipped" and _loads(current):
        return current.checksum
    checksum = load_model(study.shipped_model).checksum
    if current is None or (current.checksum, current.path) != (checksum, study.shipped_model):
        publish(study, study.shipped_model, checksum, origin="shipped", statistics={})
    return checksum


def publish(study: Study, path: Path, checksum: str, *, origin: str, statistics: dict) -> None:
    """Register a checkpoint and make it current."""
    scores.add_model(
        study.store,
        ModelRecord(
            checksum=checksum,
            path=path,
            origin=origin,
            created_at=time.time(),
            statistics=statistics,
        ),
    )
    scores.publish(study.store, checksum)
    log.info("model %s is current", checksum[:12])


def _loads(record: ModelRecord) -> bool:
    try:
        _load(record.path, record.checksum)
    except ValueError as error:
        log.error("the trained model cannot be used, back to the shipped one: %s", error)
        return False
    return True


@lru_cache(maxsize=2)
def _load(path: Path, checksum: str, device: str = "cpu") -> Model:
    keep_numpy_to_one_thread()  # whoever loads a model is about to compute with it
    model = load_model(path, device)
    if model.checksum != checksum:
        raise StudyError(
            f"{path}: expected the model {checksum[:12]}, the file is {model.checksum[:12]}"
        )
    return model
