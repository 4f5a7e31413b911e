"""Which model is current, and its weights, read once a process."""

import logging
import time
from functools import lru_cache
from pathlib import Path

from fair_strategy.learning.checkpoint import Model, load_model
from fair_strategy.store import scores
from fair_strategy.store.scores import ModelRecord
from fair_strategy.workflows.study import Study, StudyError

log = logging.getLogger(__name__)


def current_model(study: Study) -> Model:
    """The published model of the study, loaded.

    Raises:
        StudyError: if none is published.
        ModelError: if its file is missing or is not a model.
    """
    record = scores.current_model(study.store)
    if record is None:
        raise StudyError(f"no model: expected one at {study.shipped_model}; put one there, restart")
    return _load(record.path, record.checksum, study.device or "cpu")


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
    model = load_model(path, device)
    if model.checksum != checksum:
        raise StudyError(
            f"{path}: expected the published model {checksum[:12]}, "
            f"the file is {model.checksum[:12]}"
        )
    return model
