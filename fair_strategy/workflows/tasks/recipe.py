"""What the three tasks differ in: network, one training row, loss, and what a prediction is."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from fair_strategy.learning.uncertainty import Sampling
from fair_strategy.workflows.tasks.cases import Case, Reading
from fair_strategy.workflows.tasks.settings import TaskSettings

Row = dict[str, str | float]


class Recipe(Protocol):
    """One task.

    Attributes:
        kind: of the audit.
        regions: of the audit, for maps; "" for tables.
        features: sensitive features that the audit looks at.
        settings: of the task.
    """

    kind: str
    regions: str
    features: tuple[str, ...]

    @property
    def settings(self) -> TaskSettings:
        """What the task was told."""
        ...

    def read(self, data: Path) -> Reading:
        """The cases of a data set as its owners publish it; CohortError, VolumeError."""
        ...

    def fitted(self, training: Sequence[Case]) -> "Recipe":
        """The recipe with what it takes from the training cases: scales, class weights."""
        ...

    def network(self) -> nn.Module:
        """A new network, its weights from torch's generator or a file."""
        ...

    def row(self, case: Case, rng: np.random.Generator | None) -> tuple[torch.Tensor, Any]:
        """(inputs, targets) of one training row; without a generator it is not augmented."""
        ...

    def loss(self, epoch: int) -> Callable[[Any, Any], torch.Tensor]:
        """Mean loss of some rows, in an epoch."""
        ...

    def predict(
        self, networks: Sequence[nn.Module], cases: Sequence[Case], sampling: Sampling, out: Path
    ) -> list[Row]:
        """Rows of the table of predictions; none where maps are written into `out`."""
        ...


def device_of(networks: Sequence[nn.Module]) -> torch.device:
    """Where the weights are."""
    return next(networks[0].parameters()).device
