"""Segments a scan that is no case of the study: sent along, or put into a session by Slicer."""

from pathlib import Path
from typing import Any

from fair_strategy.data.volumes import read_image, write_mask
from fair_strategy.learning.inference import predict
from fair_strategy.workflows.models import current_model
from fair_strategy.workflows.study import LABEL, Study
from fair_strategy.workflows.threads import one_forward_pass


def segment_file(study: Study, scan: Path, target: Path) -> dict[str, Any]:
    """Predict one file with the current model and write its mask; how it came about.

    Raises:
        ValueError: if the scan cannot be read, or if there is no model.
    """
    model, volume = current_model(study), read_image(scan)
    with one_forward_pass:
        prediction = predict(model, volume)
    mask = prediction.whole_mask()
    write_mask(target, mask, prediction.affine)
    return {
        "label_names": {LABEL: 1},
        "model": model.checksum,
        "route": prediction.route,
        "trust": prediction.trust,
    }
