"""Predicted classes, as measures of an audit."""

import numpy as np

from fair_strategy.metrics.calibration import calibration_counts
from fair_strategy.metrics.fairness import mean
from fair_strategy.workflows.audit.evidence import Target
from fair_strategy.workflows.audit.measures import (
    HIGHER,
    ZERO,
    Floats,
    Measure,
    Measured,
    balanced_accuracy_of,
    calibration,
    claimed_minus_observed,
    macro_auroc_of,
    selective,
)
from fair_strategy.workflows.audit.settings import AuditSettings


def classified(
    name: str, truth: Floats, probs: Floats, uncertainty: Floats, settings: AuditSettings
) -> Target:
    """What a classifier did: accuracies, calibration, and whether it knows its errors."""
    right = (probs.argmax(axis=1) == truth).astype(np.float64)
    confidence = probs.max(axis=1)
    counts = tuple(
        calibration_counts([c], [r], bins=settings.bins)
        for c, r in zip(confidence, right, strict=True)
    )
    rows = np.column_stack([truth, probs])
    measured = (
        Measured(
            Measure("accuracy", "Accuracy", HIGHER, mean, tested=True, bounded=True,
                    about="share of the cases whose class is the most probable one"),
            right,
        ),
        Measured(
            Measure("balanced_accuracy", "Balanced accuracy", HIGHER, balanced_accuracy_of,
                    about="mean over the classes of the share recognised"),
            rows,
        ),
        Measured(
            Measure("macro_auroc", "AUROC, mean over the classes", HIGHER, macro_auroc_of,
                    about="each class against the rest; not defined where a group lacks a class"),
            rows,
        ),
        Measured(
            Measure("overconfidence", "Confidence minus accuracy", ZERO, mean, tested=True,
                    about="above 0: the model claims more than comes true; below: less"),
            claimed_minus_observed(counts),
        ),
        *calibration(counts, (0.0, 1.0), "all cases"),
        *selective(1 - right, uncertainty, "error rate"),
    )  # fmt: skip
    return Target(name, measured, 1 - right, "error rate", uncertainty, counts)
