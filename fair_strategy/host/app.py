"""What an application's main.py mixes into MONAI Label's app."""

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from fastapi import HTTPException
from monailabel.config import settings as monailabel_settings
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

from fair_strategy.config import HostSettings, SettingsError, StudySettings, parse_conf
from fair_strategy.data.bids import check_id
from fair_strategy.data.dicom.address import is_address
from fair_strategy.data.dicom.segmentation import require_highdicom
from fair_strategy.host import worker
from fair_strategy.host.background import Background
from fair_strategy.host.datastore import StudyDatastore
from fair_strategy.host.strategies import PlannedStrategy, StudyScoring, located
from fair_strategy.host.tasks import (
    LABELS,
    CaudateInfer,
    CaudateTrain,
    UncertaintyInfer,
    UploadedScan,
)
from fair_strategy.host.versions import check_versions
from fair_strategy.store import ServerRunning
from fair_strategy.store.database import StateLock, hold
from fair_strategy.workflows.planning import offered, refusal
from fair_strategy.workflows.study import Study, default_state_dir, open_study

if TYPE_CHECKING:
    from monailabel.interfaces.app import MONAILabelApp as _Base
else:
    _Base = object

log = logging.getLogger(__name__)

ADDED_BY_MONAI_LABEL = frozenset({"server_mode"})
SECRET = "lead_token"


def is_held(state_dir: Path) -> bool:
    """Whether a server, this one included, holds the state directory."""
    try:
        hold(state_dir).release()
    except ServerRunning:
        return True
    except FileNotFoundError:
        return False
    return False


def forget_token() -> None:
    """Take the study lead's token out of what MONAI Label hands to its own processes.

    Each of them logs its options, and GET /train/ shows the last lines of that log to readers.
    """
    left = {k: v for k, v in monailabel_settings.MONAI_LABEL_APP_CONF.items() if k != SECRET}
    monailabel_settings.MONAI_LABEL_APP_CONF = left
    if SECRET in os.environ.get("MONAI_LABEL_APP_CONF", ""):
        os.environ["MONAI_LABEL_APP_CONF"] = json.dumps(left)


def study_device(name: str) -> str | None:
    """The device of a study for the option `device`.

    Raises:
        SettingsError: for a GPU that torch cannot use here.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device: expected auto or cpu, since torch sees no GPU here, got cuda")
    return None if name == "auto" else name


class FairAppMixin(_Base):
    """Fair active learning on one study; put it before MONAILabelApp among the bases.

    The constructor opens the study and no more: MONAI Label runs it again in every training and
    scoring process. What only the server does starts in `on_init_complete`.
    """

    app_name = "Fair left caudate"
    app_description = "Segmentation of the left caudate with fair active learning"

    study: Study
    study_settings: StudySettings
    host_settings: HostSettings

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str] | None = None) -> None:
        check_versions()
        worker.step_back_beside_a_server()
        try:
            self.study_settings, self.host_settings = parse_conf(
                conf or {}, ignore=ADDED_BY_MONAI_LABEL
            )
            self._device = study_device(self.host_settings.device)
        except SettingsError as error:
            log.error("--conf: %s", error)
            raise
        forget_token()
        # A stock trainer would track into files, which the installed MLflow refuses.
        if not monailabel_settings.MONAI_LABEL_TRACKING_URI:
            monailabel_settings.MONAI_LABEL_TRACKING_ENABLED = False
        self._background: Background | None = None
        self._hold: StateLock | None = None
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf={name: value for name, value in (conf or {}).items() if name != SECRET},
            name=self.app_name,
            description=self.app_description,
            version="1",
            labels=dict(LABELS),
        )

    # ------------------------------------------------------------------ what MONAI Label asks for

    def init_datastore(self) -> StudyDatastore:
        """Open the study; where a server runs on it already, without a word on its settings."""
        if is_address(self.studies):
            require_highdicom()
        state_dir = self.host_settings.state_dir or default_state_dir(self.studies)
        served = is_held(state_dir)
        self.study = open_study(
            self.studies,
            None if served else self.study_settings,
            state_dir=state_dir,
            shipped_model=Path(self.app_dir) / "model" / "pretrained.pt",
            pacs_timeout_s=self.host_settings.pacs_timeout_s,
            pacs_keep_gb=self.host_settings.pacs_keep_gb,
            device=self._device,
        )
        if served and self.study.settings != self.study_settings:
            raise ServerRunning(
                f"{state_dir}: one study has one server, and the one that runs has other settings; "
                "stop it first, or choose another --conf state_dir"
            )
        return StudyDatastore(self.study)

    def init_infers(self) -> dict[str, InferTask]:
        """The segmentation, first because Slicer runs the first by itself, and the markups."""
        return {
            "caudate": CaudateInfer(self._study),
            "caudate_uncertainty": UncertaintyInfer(self._study),
        }

    def init_trainers(self) -> dict[str, TrainTask]:
        """One trainer."""
        return {"caudate": CaudateTrain(self._study)}

    def init_strategies(self) -> dict[str, Strategy]:
        """Every strategy that the study offers; the first is Slicer's default."""
        return {name: PlannedStrategy(name, self._study) for name in offered(self.study.settings)}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """What can be started by hand; the background does all of it by itself."""
        score = "Predict what the current model has not scored, and plan"
        return {
            "weighted_entropy": StudyScoring(score, lambda: worker.score(self.study)),
            "entropy": StudyScoring(score, lambda: worker.score(self.study)),
            "group_performance": StudyScoring(
                "Compare submitted labels with predictions", lambda: worker.compare(self.study)
            ),
        }

    def on_init_complete(self) -> None:
        """Start to serve: in the server process alone."""
        from monailabel.app import app

        from fair_strategy.host import server

        self._hold = server.take_hold(self.study)
        server.attach(app, self.host_settings)
        danger = server.exposure(sys.argv[1:], self.host_settings)
        if danger:
            log.warning("%s", danger)
        os.environ.setdefault("PYTHONPATH", "")  # MONAI Label's own processes expect it
        server.bring_up(self.study)
        self._background = server.background_of(self.study, self.host_settings)
        super().on_init_complete()
        worker.spare_collector()
        self._background.start()
        server.announce(app, monailabel_settings.MONAI_LABEL_SERVER_PORT)

    # ------------------------------------------------------------------ requests

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """The next scan by the strategy that is asked for; starts nothing."""
        name = request.get("strategy") or next(iter(self._strategies))
        if name not in self._strategies:
            raise HTTPException(404, refusal(name, self.study.settings))
        answer: dict[str, Any] = self._strategies[name](request, self._datastore)
        # A scan of a PACS is fetched when the client asks for it, not while it waits for this.
        return located(self.study, answer) if answer.get("id") else answer

    def infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """Run an inference task on a scan of the study, or on a file that the server wrote.

        Raises:
            HTTPException: 404 for an unknown model or scan, 422 for a path.
        """
        task, image = self._infers.get(request.get("model")), request.get("image")
        if task is None:
            raise HTTPException(
                404, f"model {request.get('model')!r}: expected one of {', '.join(self._infers)}"
            )
        if not isinstance(image, UploadedScan):
            image = self._known_scan(str(image))
        file, described = task({**request, "image": image})
        if request.get("save_label"):
            # Batch inference: every prediction is in the store already, as the tag 'original'.
            os.unlink(file)
            return {"label": image, "tag": "original", "file": None, "params": described}
        return {"label": file, "tag": "original", "file": file, "params": described}

    def infer_wsi(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """Refused: there are no whole slides here."""
        raise HTTPException(404, "whole-slide inference is no part of this application")

    def async_scoring(self, method: str | None, params: Any = None) -> dict[str, Any]:
        """Wake the background; MONAI Label would start a process for every click."""
        if self._background is not None:
            self._background.wake()
        return {}

    def on_save_label(self, image_id: str, label_id: str) -> dict[str, Any]:
        """A label came in: there is something to compare, perhaps to train on."""
        self.async_scoring(None)
        return {}

    def _study(self) -> Study:
        return self.study

    def _known_scan(self, image: str) -> str:
        try:
            known = self._datastore.known_path(check_id(image))
        except ValueError as error:
            raise HTTPException(422, f"image {error}") from error
        if known is None:
            raise HTTPException(404, f"{image!r}: no such scan in this study")
        return image
