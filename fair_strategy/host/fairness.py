"""The door for other MONAI Label apps: fair strategies and scoring in three lines.

    self.fair = Fairness(self, segment=self._infers["spleen"], activation="softmax")
    return self.fair.strategies()
    return self.fair.scoring_methods()

Works beside MONAI Label's own LocalDatastore; nothing is written into it. Subgroups come from a
participants.tsv in the studies folder. Selection and scoring only: training, dashboard and routes
need `FairAppMixin`.
"""

import hashlib
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.tasks.infer.basic_infer import BasicInferTask

from fair_strategy.acquisition.strategies import NEEDS_FEATURES, NEEDS_PASSES, STRATEGIES
from fair_strategy.config import HostSettings, StudySettings, parse_settings
from fair_strategy.data import bids, formats
from fair_strategy.data.bids import Scan
from fair_strategy.data.cohort import CohortError
from fair_strategy.host.network_output import ACTIVATIONS, Activation, predict_with
from fair_strategy.host.sentences import sentence
from fair_strategy.host.strategies import PlannedStrategy, StudyScoring
from fair_strategy.metrics.overlap import dice
from fair_strategy.store import cases, plans, scores
from fair_strategy.store.cases import LabelRecord
from fair_strategy.store.scores import ComparisonRecord, ModelRecord, ScoreRecord
from fair_strategy.workflows.assessment import assess
from fair_strategy.workflows.exclusive import exclusive
from fair_strategy.workflows.planning import ALWAYS_MADE, make_plans, plan_is_stale
from fair_strategy.workflows.study import Study, StudyError, default_state_dir, open_study

log = logging.getLogger(__name__)

ESTIMATORS = ("prequential", "labelled")
"""What can be known here: the app trains as it likes, so no validation set is surely unseen."""


class Fairness:
    """Fair strategies and scoring methods for an app with its own network and labels.

    Args:
        app: a MONAILabelApp, of which `studies`, `conf` and `datastore()` are used.
        segment: its segmentation task.
        activation: what turns the network's output into probabilities; it is never guessed.
    Raises:
        ValueError: for an unknown activation or estimator, or a bad option.
    """

    def __init__(self, app: Any, *, segment: BasicInferTask, activation: Activation) -> None:
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"activation {activation!r}: expected one of {', '.join(ACTIVATIONS)}; it is what "
                "the app's own post transforms apply to the network's output"
            )
        self._app, self._segment, self._activation = app, segment, activation
        self._study = _open(Path(app.studies), app.conf or {}, segment)
        self._known: tuple[Any, ...] = ()
        self._hashed: tuple[tuple[str, int], str] | None = None
        self._leases_renewed = False

    def strategies(self) -> dict[str, Strategy]:
        """Strategies by public name, `weighted_entropy` first.

        Not those that look into the network, or run it more than once: it is the app's.
        """
        names = [name for name in STRATEGIES if name not in NEEDS_FEATURES | NEEDS_PASSES]
        return {name: _Fresh(name, self) for name in names}

    def scoring_methods(self) -> dict[str, ScoringMethod]:
        """Scoring (one network pass a scan, once for each model) and group performance."""
        score = "Predict what the current model has not scored, and plan"
        return {
            "weighted_entropy": StudyScoring(score, self.score),
            "entropy": StudyScoring(score, self.score),
            "group_performance": StudyScoring("Compare labels with predictions", self.compare),
        }

    def score(self) -> dict[str, Any]:
        """Score what the current model has not scored, compare labels, make plans; counts."""
        study = self.take_up()
        with exclusive(study.state_dir, "score"):
            model = self._publish()
            todo = scores.unscored(study.store, model, study.settings_hash)
            failed = {i: error for i in todo if (error := self._score_one(i, model))}
            if failed and len(failed) == len(todo) > 1:
                raise next(iter(failed.values()))  # not one bad scan: the task itself fails
            compared = self._compare_all(model)
            made = make_plans(study) if plan_is_stale(study) or compared else []
        return {
            "scored": len(todo) - len(failed),
            "unreadable": len(failed),
            "compared": compared,
            "plans": len(made),
        }

    def compare(self) -> dict[str, Any]:
        """Compare labels with the current model's predictions; how many."""
        study = self.take_up()
        with exclusive(study.state_dir, "score"):
            compared = self._compare_all(self._publish())
            if compared:
                make_plans(study)
        return {"compared": compared}

    def take_up(self) -> Study:
        """The study, up to date with the app's datastore and model.

        Raises:
            StudyError: if no plan can be made of participants.tsv; the log says why.
        """
        datastore: Datastore = self._app.datastore()
        ids, labelled = datastore.list_images(), datastore.get_labeled_images()
        model = self._publish()
        if (ids, labelled, model) != self._known:
            cases.sync(self._study.store, [_scan(i, datastore.get_image_uri(i)) for i in ids])
            self._take_up_labels(datastore, set(labelled))
            self._known = (ids, labelled, model)
        if plans.plan_head(self._study.store, ALWAYS_MADE) is None:
            self._first_plans()
        return self._study

    def serve(self) -> Study:
        """`take_up` for a reader's click, which comes to the server process alone.

        The first one renews the leases: their times may belong to the clock of another boot.
        """
        if not self._leases_renewed:
            lease_s = 60.0 * self._study.settings.lease_minutes
            plans.renew_all(self._study.store, now=time.monotonic(), lease_s=lease_s)
            self._leases_renewed = True
        return self.take_up()

    def _first_plans(self) -> None:
        try:
            make_plans(self._study)
        except CohortError as error:
            log.error("no plan: %s", sentence(error))
            raise StudyError(
                "participants.tsv cannot be used; the server's log says what to repair"
            ) from None

    def _take_up_labels(self, datastore: Datastore, labelled: set[str]) -> None:
        store = self._study.store
        known = {r.case_id: r for r in cases.labels(store, "final")}
        for case_id in known.keys() - labelled:
            cases.delete_label(store, case_id, "final")
        for case_id in sorted(labelled):
            path = Path(datastore.get_label_uri(case_id, "final"))
            digest = _stamp(path)
            if case_id not in known or known[case_id].digest != digest:
                cases.save_label(store, _label(case_id, path, digest))

    def _publish(self) -> str:
        checksum = self._checksum()
        current = scores.current_model(self._study.store)
        if current is None or current.checksum != checksum:
            path = Path(self._segment.get_path() or "")
            record = ModelRecord(checksum, path, "app", time.time(), {})
            scores.add_model(self._study.store, record)
            scores.publish(self._study.store, checksum)
        return checksum

    def _checksum(self) -> str:
        path = self._segment.get_path()
        key = (path or "", os.stat(path).st_mtime_ns if path else 0)
        if self._hashed is None or self._hashed[0] != key:
            self._hashed = (key, _digest(self._segment, path))
        return self._hashed[1]

    def _score_one(self, case_id: str, model: str) -> Exception | None:
        study, record = self._study, cases.case(self._study.store, case_id)
        try:
            prediction = predict_with(self._segment, record.path, activation=self._activation)
        except Exception as error:
            # The task is the app's: it may raise anything, and the other scans must go on.
            log.warning("left out %s: %s", case_id, error)
            return error
        found = assess(prediction, study.settings, expected=None)
        empty = not (prediction.probability >= 0.5).any()
        scores.add_score(
            study.store,
            ScoreRecord(
                case_id=case_id,
                fingerprint=record.fingerprint,
                model=model,
                settings_hash=study.settings_hash,
                entropies=found.entropies,
                volume_mm3=found.volume_mm3,
                flags=("empty",) if empty else (),
                created_at=time.time(),
            ),
        )
        return None

    def _compare_all(self, model: str) -> int:
        store = self._study.store
        known = {c.case_id for c in scores.comparisons(store, model=model)}
        scored = scores.scores(store, model, self._study.settings_hash)
        todo = [r for r in cases.labels(store, "final") if r.case_id not in known]
        for record in todo:
            # Seen: the model had answered before the label came, so it cannot have learnt it.
            before = scored.get(record.case_id)
            seen = before is not None and before.created_at < record.created_at
            self._compare(record, model, seen=seen)
        return len(todo)

    def _compare(self, record: LabelRecord, model: str, *, seen: bool) -> None:
        scan = cases.case(self._study.store, record.case_id).path
        file, _ = self._segment({"image": str(scan)})
        try:
            predicted, submitted = (formats.read(Path(p))[0] != 0 for p in (file, record.path))
        finally:
            Path(file).unlink(missing_ok=True)
        same = predicted.squeeze().shape == submitted.squeeze().shape
        agreement = dice(predicted.squeeze(), submitted.squeeze()) if same else float("nan")
        scores.add_comparison(
            self._study.store,
            ComparisonRecord(
                case_id=record.case_id,
                model=model,
                label_digest=record.digest,
                dice=agreement,
                surface_distance_mm=float("nan"),
                seen=seen,
                unchanged=same and bool(np.array_equal(predicted, submitted)),
                selection_probability=None,
                created_at=time.time(),
            ),
        )


class _Fresh(PlannedStrategy):
    """A planned strategy that takes up the app's datastore before it answers."""

    def __init__(self, name: str, fair: Fairness) -> None:
        super().__init__(name, fair.serve)

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        answer = super().__call__(request, datastore)
        return answer if answer.get("id") else {}


def _open(images_dir: Path, conf: Mapping[str, Any], segment: BasicInferTask) -> Study:
    # The app has options of its own: only ours are looked at.
    ours = {k: v for k, v in conf.items() if k in StudySettings.model_fields}
    settings = parse_settings(StudySettings, {"estimator": "prequential", **ours})
    if settings.estimator not in ESTIMATORS:
        raise ValueError(
            f"option 'estimator': expected one of {', '.join(ESTIMATORS)} in an app that trains by "
            f"itself, got {settings.estimator!r}"
        )
    if settings.readers_per_case != 1:
        raise ValueError(
            "option 'readers_per_case': expected 1 in an app whose own datastore keeps one label a "
            f"scan, got {settings.readers_per_case}"
        )
    host = {k: v for k, v in conf.items() if k == "state_dir"}
    state = parse_settings(HostSettings, host).state_dir
    return open_study(
        images_dir,
        settings,
        state_dir=state or default_state_dir(images_dir.resolve()) / "other_app",
        shipped_model=Path(segment.get_path() or images_dir),
    )


def _scan(case_id: str, uri: str) -> Scan:
    path = Path(uri)
    return Scan(case_id, bids.subject_of(case_id), path, _stamp(path))


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except FileNotFoundError:
        return "0-0"
    return f"{status.st_size}-{status.st_mtime_ns}"


def _label(case_id: str, path: Path, digest: str) -> LabelRecord:
    written = path.stat().st_mtime
    return LabelRecord(case_id, "final", path, {}, "", written, digest, None)


def _digest(segment: BasicInferTask, path: str | None) -> str:
    if path:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for name, tensor in segment.network.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
