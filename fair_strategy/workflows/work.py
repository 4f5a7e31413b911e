"""One volume for a worker: what it needs to score a scan, and no attribute of the person."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import numpy as np
import scipy
import torch

import fair_strategy
from fair_strategy.config import StudySettings
from fair_strategy.learning.checkpoint import Model
from fair_strategy.workflows.models import ModelFile
from fair_strategy.workflows.study import StudyError


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """The versions that the numbers of a score may depend on."""
    return {
        "fair-strategy": fair_strategy.__version__,
        "monai": metadata.version("monai"),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "torch": torch.__version__.partition("+")[0],  # the build may differ by the hardware
    }


@dataclass(frozen=True)
class Work:
    """One volume to be scored, as it travels to a worker.

    Attributes:
        case_id: of the scan.
        path: its file, where every worker finds it.
        fingerprint: of the file, '<size>-<mtime_ns>'.
        model: the model to score it by.
        settings: of the score; no table of participants is read where the work is done.
        threads: to compute with; None for as many as the process has.
        versions: of the libraries on the side that asks.
    """

    case_id: str
    path: Path
    fingerprint: str
    model: ModelFile
    settings: StudySettings
    threads: int | None = None
    versions: dict[str, str] = field(default_factory=versions)

    def begin(self) -> Model:
        """The model; from here on this thread computes with the work's number of threads.

        Raises:
            StudyError: if a library has another version here, or the model's file is another.
            ModelError: if the model's file is missing or is not a model.
        """
        here = versions()
        if other := [name for name, asked in self.versions.items() if here[name] != asked]:
            told = ", ".join(f"{n} {self.versions[n]} (worker: {here[n]})" for n in other)
            raise StudyError(f"a worker would compute other numbers: expected {told}; install them")
        # Sums over several threads depend on their number, and so would every score.
        if self.threads is not None and torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        return self.model.load()
