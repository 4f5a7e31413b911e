"""Inference and training as MONAI Label calls them; the work itself is in `workflows`.

Derived from the abstract tasks: the basic ones bring a second inference loop, a publish that is
not atomic, and a validation set that leaks into training.
"""

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.train import TrainTask

from fair_strategy.host.asking import Asking
from fair_strategy.host.clients import checked_client
from fair_strategy.host.errors import no_values_in_stacks
from fair_strategy.host.foreign import segment_file
from fair_strategy.host.strategies import refuse_foreign_keys
from fair_strategy.host.uploads import checked_suffix, suffix_of
from fair_strategy.host.worker import train
from fair_strategy.store import cases, scores
from fair_strategy.workflows import showing
from fair_strategy.workflows.study import LABEL, Study

LABELS = {LABEL: 1}
TRAIN_OPTIONS = frozenset({"train_steps"})


@dataclass(frozen=True)
class UploadedScan:
    """A file that the server itself wrote; no client can name one."""

    path: str | Path


class CaudateInfer(InferTask):
    """The left caudate of a scan: from the store where it was predicted already, else now."""

    def __init__(self, study: Callable[[], Study]) -> None:
        super().__init__(
            type=InferType.SEGMENTATION,
            labels=dict(LABELS),
            dimension=3,
            description="Left caudate on a T1-weighted scan",
        )
        self._study = study
        self._asking = Asking()

    def is_valid(self) -> bool:
        """Whether a model is published."""
        return scores.current_model(self._study().store) is not None

    def get_path(self, validate: bool = True) -> str | None:
        """File of the current model."""
        current = scores.current_model(self._study().store)
        return str(current.path) if current else None

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """A copy of the mask, in the scan's own grid, and how it came about."""
        study, image, client_id = self._study(), request["image"], _client(request)
        if isinstance(image, UploadedScan):
            scan = Path(image.path)
            target = _disposable(None, _suffix(request, scan.name))
            try:
                return target, segment_file(study, scan, Path(target))
            except BaseException:
                os.unlink(target)
                raise
        self._asking.check(study, image, client_id)
        suffix = _suffix(request, cases.case(study.store, image).path.name)
        path, described = showing.segmentation(study, image, suffix, client_id=client_id)
        return _disposable(path, suffix), described


class UncertaintyInfer(InferTask):
    """Markups at the places where the current model is most uncertain."""

    def __init__(self, study: Callable[[], Study]) -> None:
        super().__init__(
            type=InferType.SEGMENTATION,
            labels={},
            dimension=3,
            description="Where the model is most uncertain: three markups",
        )
        self._study = study
        self._asking = Asking()

    def is_valid(self) -> bool:
        """Whether a model is published."""
        return scores.current_model(self._study().store) is not None

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """A Slicer markups file with the highest peaks of the entropy map."""
        if isinstance(request["image"], UploadedScan):
            raise HTTPException(422, "uncertainty is shown for scans of the study only")
        study, image = self._study(), request["image"]
        self._asking.check(study, image, _client(request))
        markups = showing.markups(study, image)
        return _disposable(json.dumps(markups).encode(), ".mrk.json"), {"label_names": {}}


class CaudateTrain(TrainTask):
    """One round of training on the submitted labels; the new model is published whole or not."""

    def __init__(self, study: Callable[[], Study]) -> None:
        super().__init__("Train the left caudate model on the submitted labels")
        self._study = study

    def config(self) -> dict[str, Any]:
        """What a reader may choose: how long to train."""
        return {"train_steps": self._study().settings.train_steps}

    def stats(self) -> dict[str, Any]:
        """Worst subgroup's Dice, which one it is remains untold, and how the training went."""
        current = scores.current_model(self._study().store)
        statistics = current.statistics if current else {}
        return {key: statistics[key] for key in _SHOWN if key in statistics}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train and publish; what is returned goes to MONAI Label's log and to readers."""
        refuse_foreign_keys(request, TRAIN_OPTIONS)
        with no_values_in_stacks():
            return train(self._study(), steps=checked_steps(request))


def _client(request: Mapping[str, Any]) -> str:
    given = request.get("client_id")
    return checked_client(given) if given else ""


_SHOWN = ("best_metric", "training_cases", "epoch", "steps", "total_time")


def checked_steps(request: Mapping[str, Any]) -> int | None:
    """How long to train, in steps; None for as long as the study's settings say.

    Raises:
        HTTPException: 422 for anything but a number of steps.
    """
    text = request.get("train_steps")
    if text in (None, ""):
        return None
    steps = int(text) if str(text).isdecimal() else 0
    if not 1 <= steps <= 1_000_000:
        raise HTTPException(422, "train_steps: expected a number from 1 to 1000000")
    return steps


def _suffix(request: dict[str, Any], name: str) -> str:
    asked = request.get("result_extension")
    return checked_suffix(str(asked)) if asked else suffix_of(name) or ".nii.gz"


@cache
def _outbox() -> str:
    """A folder of this process alone.

    A client on this machine stores a result under its own name, by default in the common folder
    for temporary files: there it would be the very file that MONAI Label deletes.
    """
    folder = tempfile.mkdtemp(prefix="caudate-results-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _disposable(content: Path | bytes | None, suffix: str) -> str:
    """A temporary file, or copy: MONAI Label deletes what an inference task returns."""
    with tempfile.NamedTemporaryFile(
        prefix="caudate-", suffix=suffix, dir=_outbox(), delete=False
    ) as file:
        if isinstance(content, Path):
            with open(content, "rb") as source:
                shutil.copyfileobj(source, file)
        elif content is not None:
            file.write(content)
    return file.name
