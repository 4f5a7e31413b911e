"""What a reader is shown of a scan: pre-segmentation, entropy map, places of uncertainty.

As in `desk`, nothing that leaves this module tells a subgroup, a weight or a utility. Files are
made of the stored prediction of the current model, or of the last model's while that is
not there yet.
"""

from pathlib import Path
from typing import Any

from fair_strategy.data.volumes import write_image, write_mask
from fair_strategy.store import cases, plans, predictions, scores
from fair_strategy.store.predictions import StoredPrediction, full_entropy, full_mask
from fair_strategy.workflows.models import shown_models
from fair_strategy.workflows.scoring import ensure_prediction
from fair_strategy.workflows.study import LABEL, Study


def segmentation(
    study: Study, case_id: str, suffix: str, *, client_id: str | None = None
) -> tuple[Path, dict[str, Any]]:
    """The current model's mask of a case as a file, and how it came about.

    Served from the store where the case was scored already, else predicted now.

    Raises:
        UnknownCaseError: for an unknown case.
        ValueError: if the scan cannot be read.
    """
    stored = ensure_prediction(study, case_id)
    if client_id:
        plans.set_seen_model(study.store, case_id, client_id, stored.model)
    described = {
        "label_names": {LABEL: 1},
        "model": stored.model,
        "route": stored.route,
        "trust": stored.trust,
        "implausible": list(stored.flags),
    }
    return _materialised(study, stored, "original", suffix), described


def original(study: Study, case_id: str, suffix: str = ".nii.gz") -> Path | None:
    """The stored pre-segmentation of a case as a file; None if the current model has none yet."""
    stored = shown_prediction(study, case_id)
    return None if stored is None else _materialised(study, stored, "original", suffix)


def entropy_volume(study: Study, case_id: str, suffix: str = ".nii.gz") -> Path | None:
    """The stored entropy map, nats, on the scan's own grid; None if there is none yet."""
    stored = shown_prediction(study, case_id)
    return None if stored is None else _materialised(study, stored, "entropy", suffix)


def predicted_ids(study: Study) -> set[str]:
    """Ids of the scans whose pre-segmentation can be shown without a wait."""
    found: set[str] = set()
    for checksum in shown_models(study):
        found |= scores.scores(study.store, checksum, study.settings_hash).keys()
    return found


def count_predicted(study: Study, case_id: str | None = None) -> int:
    """How many of the scans that are there `predicted_ids` holds; of one scan: 1 or 0."""
    models = shown_models(study)
    return scores.count_scores(study.store, models, study.settings_hash, case_id=case_id)


def markups(study: Study, case_id: str) -> dict[str, Any]:
    """Fiducials at the places of highest uncertainty, in Slicer's markups format (RAS, mm)."""
    stored = ensure_prediction(study, case_id)
    points = [
        {
            "id": str(number),
            "label": f"uncertain {number}",
            "description": f"entropy {value:.2f} nats",
            "position": list(position),
            "orientation": [1, 0, 0, 0, 1, 0, 0, 0, 1],
            "selected": True,
            "locked": True,
            "visibility": True,
            "positionStatus": "defined",
        }
        for number, (position, value) in enumerate(stored.peaks, start=1)
    ]
    fiducials = {
        "type": "Fiducial",
        "coordinateSystem": "RAS",
        "coordinateUnits": "mm",
        "locked": True,
        "labelFormat": "%N-%d",
        "controlPoints": points,
    }
    schema = (
        "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/"
        "Resources/Schema/markups-schema-v1.0.3.json#"
    )
    return {"@schema": schema, "markups": [fiducials]}


def shown_prediction(study: Study, case_id: str) -> StoredPrediction | None:
    """The current model's prediction of a case; the last model's while that is not there yet."""
    record = cases.case(study.store, case_id)
    for checksum in shown_models(study):
        found = predictions.read_prediction(study.state_dir, checksum, case_id, record.fingerprint)
        if found is not None:
            return found
    return None


def shown_model(study: Study, case_id: str) -> str | None:
    """Checksum of the model of `shown_prediction`, without reading its arrays; None without one."""
    fingerprint = cases.case(study.store, case_id).fingerprint
    for checksum in shown_models(study):
        if predictions.has_prediction(study.state_dir, checksum, case_id, fingerprint):
            return checksum
    return None


def _materialised(study: Study, stored: StoredPrediction, what: str, suffix: str) -> Path:
    """A file made once from the stored prediction; its name says model, case and fingerprint."""
    folder = study.state_dir / "cache" / stored.model
    path = folder / f"{stored.case_id}_{stored.fingerprint}_{what}{suffix}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if what == "original":
            write_mask(path, full_mask(stored), stored.affine)
        else:
            write_image(path, full_entropy(stored), stored.affine)
    return path
