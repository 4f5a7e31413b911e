"""Predictions with a planted effect, or with none, for the tests of the audit."""

from pathlib import Path

import numpy as np
import pandas as pd

from fair_strategy.workflows.audit.audit import Audit, Source, run_audit
from fair_strategy.workflows.audit.settings import AuditSettings

FEW = AuditSettings(draws=100)


def participants(folder: Path, groups: str, **columns: list) -> Path:
    """participants.tsv with a letter of `groups` a person, c000 and on."""
    table = pd.DataFrame({"participant_id": names(len(groups)), "group": list(groups), **columns})
    table.to_csv(folder / "participants.tsv", sep="\t", index=False)
    return folder / "participants.tsv"


def names(n: int) -> list[str]:
    return [f"c{i:03d}" for i in range(n)]


def groups(n: int) -> str:
    return "A" * (n // 2) + "B" * (n - n // 2)


def classes(
    n: int, *, seed: int, accuracy: tuple[float, float] = (0.8, 0.8), excess: float = 0.0
) -> pd.DataFrame:
    """Two classes; the confidence is the accuracy of the group, in B plus `excess`."""
    rng = np.random.default_rng(seed)
    letters = np.array(list(groups(n)))
    chance = np.where(letters == "A", *accuracy) + rng.uniform(-0.1, 0.1, n)
    right = rng.random(n) < chance
    p = np.clip(chance + excess * (letters == "B"), 0.5, 0.99)
    first = rng.random(n) < 0.5  # the class that is predicted
    truth = np.where(right == first, "benign", "malignant")
    p_benign = np.where(first, p, 1 - p)
    columns = {"reference": truth, "p_benign": p_benign, "p_malignant": 1 - p_benign}
    return pd.DataFrame({"case": names(n), **columns})


def regions(n: int, *, seed: int, small: bool = False, bias: float = 0.0) -> pd.DataFrame:
    """Case scores of a structure: Dice follows from contour error and size; B may be smaller."""
    rng = np.random.default_rng(seed)
    b = np.array(list(groups(n))) == "B"
    volume = np.exp(rng.normal(np.where(b & small, 7.0, 8.5), 0.2, n))
    radius = np.cbrt(3 * volume / (4 * np.pi))
    distance = rng.normal(0.8, 0.12, n)
    return pd.DataFrame(
        {
            "case": names(n),
            "dice": np.clip(1 - 0.9 * distance / radius, 0, 1),
            "surface_distance_mm": distance,
            "volume_error": rng.normal(0, 0.06, n) - bias * b,
            "reference_volume_mm3": volume,
        }
    )


def quantities(n: int, *, seed: int, bias: float = 0.0, claimed: float = 1.0) -> pd.DataFrame:
    """A regression with errors of SD 2 that claims a variance of 4, in B `claimed` of it."""
    rng = np.random.default_rng(seed)
    b = np.array(list(groups(n))) == "B"
    truth = rng.normal(25, 6, n)
    spread = rng.uniform(1.5, 2.5, n)
    prediction = truth + rng.normal(0, spread) + bias * b
    variance = spread**2 * np.where(b, claimed, 1.0)
    columns = {"reference": truth, "prediction": prediction, "variance": variance}
    return pd.DataFrame({"case": names(n), **columns})


def audited(
    folder: Path, table: pd.DataFrame, task: str, *, settings: AuditSettings = FEW
) -> Audit:
    """The audit of a table whose first half is group A."""
    path = folder / "predictions.csv"
    table.to_csv(path, index=False)
    people = participants(folder, groups(table.case.nunique()))
    return run_audit([Source(path)], task, people, ["group"], settings=settings)[0][0]


def named(audit: Audit) -> dict[str, str]:
    """Measure -> subgroup, of the gaps that were named."""
    return {f.measure: f.group for f in audit.findings if f.named}


def text(audit: Audit, measure: str) -> str:
    return next(f.text for f in audit.findings if f.measure == measure)
