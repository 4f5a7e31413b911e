"""A study made by hand: rows in a store and a table of participants, no scans."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from fair_strategy.config import StudySettings
from fair_strategy.store import cases, scores
from fair_strategy.store.cases import LabelRecord
from fair_strategy.store.comparisons import ComparisonRecord
from fair_strategy.store.database import Store
from fair_strategy.store.models import ModelRecord
from fair_strategy.store.scores import ScoreRecord
from fair_strategy.workflows.study import Study


@dataclass(frozen=True)
class Scan:
    case_id: str
    subject_id: str
    path: Path
    fingerprint: str = "f"


class HandMade:
    """A study of subjects in subgroups, and the rows that a test puts into its store."""

    def __init__(self, folder: Path, groups: str, **settings) -> None:
        (folder / "images").mkdir()
        rows = ["participant_id\tgroup"]
        rows += [f"sub-{n:02d}\t{group}" for n, group in enumerate(groups, start=1)]
        (folder / "images" / "participants.tsv").write_text("\n".join(rows) + "\n")
        self.study = Study(
            images_dir=folder / "images",
            state_dir=folder / "state",
            derivatives_root=folder / "derivatives",
            shipped_model=folder / "none.pt",
            settings=StudySettings(**settings),
            settings_version=1,
            store=Store.open(folder / "state"),
        )
        self.ids = [f"sub-{n:02d}" for n in range(1, len(groups) + 1)]
        scans = [Scan(i, i, folder / "images" / f"{i}.nii.gz") for i in self.ids]
        cases.sync(self.study.store, scans)

    def publish(self, name: str, at: float) -> str:
        """A new current model; its checksum."""
        checksum = (name * 64)[:64]
        record = ModelRecord(checksum, self.study.state_dir / f"{name}.pt", "trained", at, {})
        scores.add_model(self.study.store, record)
        scores.publish(self.study.store, checksum)
        return checksum

    def label(self, *ids: str, digest: str = "d", at: float = 100.0) -> None:
        """Final labels of some cases."""
        for case_id in ids:
            cases.save_label(
                self.study.store,
                LabelRecord(case_id, "final", Path("mask"), {}, "reader", at, digest, None),
            )

    def score(self, model: str, *ids: str) -> None:
        """Scores, as if the model had been run."""
        for case_id in ids:
            scores.add_score(
                self.study.store,
                ScoreRecord(
                    case_id=case_id, fingerprint="f", model=model,
                    settings_hash=self.study.settings_hash, entropies={"masked_mean": 0.4},
                    volume_mm3=1.0, flags=(), created_at=1.0,
                ),
            )  # fmt: skip

    def compare(self, model: str, dice: dict[str, float], *, digest: str = "d") -> None:
        """Scores, and comparisons of labels with a model's predictions."""
        self.score(model, *dice)
        for case_id, value in dice.items():
            scores.add_comparison(
                self.study.store,
                ComparisonRecord(
                    case_id, model, digest, value, 1.0,
                    seen=False, unchanged=False, selection_probability=None, created_at=1.0,
                ),
            )  # fmt: skip


@pytest.fixture
def hand_made(tmp_path):
    """``hand_made("AAABBB", estimator="labelled")``."""
    return lambda groups, **settings: HandMade(tmp_path, groups, **settings)
