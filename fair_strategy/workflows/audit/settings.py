"""What an audit can be told, beside its input."""

from dataclasses import dataclass, field

TASKS = ("segmentation", "classification", "regression")
FLAGGED_BELOW = 5
RANKED_FROM = 5
RANKED_FROM_INTERSECTION = 10


@dataclass(frozen=True)
class AuditSettings:
    """Numbers that an audit depends on; all of them stand in audit.json.

    Attributes:
        alpha: family-wise error rate of the findings, and 1 - level of the intervals.
        draws: resamples of the bootstrap, and at least as many dealings of the permutation null.
        seed: of both.
        bins: of confidence (or variance) for the calibration errors.
        ranked_from: persons that a subgroup needs to be ranked and tested.
        ranked_from_intersection: the same for an intersection of several features.
        margin_mm: segmentation: how far around both contours calibration is looked at, and around
            the predicted one the uncertainty of the case.
    """

    alpha: float = 0.05
    draws: int = 1000
    seed: int = 0
    bins: int = 10
    ranked_from: int = RANKED_FROM
    ranked_from_intersection: int = RANKED_FROM_INTERSECTION
    margin_mm: float = 4.0
    level: float = field(init=False)

    def __post_init__(self) -> None:
        """Refuse what no audit can be made with.

        Raises:
            ValueError: naming the value.
        """
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must lie between 0 and 1, got {self.alpha!r}")
        for name, least in (("draws", 20), ("bins", 1), ("ranked_from", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, got {getattr(self, name)!r}")
        if self.ranked_from_intersection < 2:
            raise ValueError("ranked_from_intersection must be 2 or more")
        object.__setattr__(self, "level", 1 - self.alpha)
