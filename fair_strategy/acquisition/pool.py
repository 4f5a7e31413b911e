"""What a query strategy looks at: the candidates, their scores, the state of the study."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

WHOLE_VOLUME = "entropy"
"""Score of standard entropy sampling: the mean over the whole field of view."""

MUTUAL_INFORMATION = "mutual_information"
"""Score of BALD: the mean over the ROI; there with two passes or more."""

_FLOAT16 = np.dtype("<f2")


@dataclass(frozen=True)
class PoolCase:
    """One candidate with everything that a strategy may look at.

    Attributes:
        entropies: name of a case entropy -> value in nats; empty if the case has no score yet.
        flags: why its prediction is implausible; empty if it is not.
    """

    case_id: str
    subgroup: str
    entropies: Mapping[str, float]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Features:
    """What the model makes of some cases, a row a case, sorted by id.

    Attributes:
        case_ids: N of them.
        rows: (N, D), float16 as they are stored.
    """

    case_ids: tuple[str, ...] = ()
    rows: NDArray[np.float16] = field(default_factory=lambda: np.empty((0, 0), _FLOAT16))

    @classmethod
    def of(cls, by_case: Mapping[str, ArrayLike]) -> "Features":
        """From vectors of one length by case id.

        Raises:
            ValueError: if they differ in length.
        """
        case_ids = tuple(sorted(by_case))
        rows = [np.asarray(by_case[case_id], dtype=_FLOAT16) for case_id in case_ids]
        if len({row.shape for row in rows}) > 1:
            raise ValueError("features must be of one model: they differ in length")
        return cls(case_ids, np.stack(rows)) if rows else cls()

    def to_json(self) -> dict[str, Any]:
        """Plain values from which `from_json` rebuilds these features exactly."""
        content = np.ascontiguousarray(self.rows, dtype=_FLOAT16).tobytes()
        return {"case_ids": list(self.case_ids), "float16": base64.b64encode(content).decode()}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Features":
        """The features that `to_json` described."""
        case_ids = tuple(plain["case_ids"])
        values = np.frombuffer(base64.b64decode(plain["float16"]), dtype=_FLOAT16)
        return cls(case_ids, values.reshape(len(case_ids), -1)) if case_ids else cls()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Features):
            return NotImplemented
        return self.case_ids == other.case_ids and np.array_equal(self.rows, other.rows)

    def __len__(self) -> int:
        return len(self.case_ids)


@dataclass(frozen=True)
class Pool:
    """The unlabelled cases and the state of the study at one moment.

    Attributes:
        cases: the candidates, in any order.
        weights: subgroup -> weight, mean 1.
        masked_score: which case entropy inside the ROI is used.
        weighted_score: which case entropy the weights multiply; "" for `masked_score`.
        quota_batch: batch size in which the weights act as quotas; 0 for plain utility.
        audit_every: one place of so many is drawn at random; 0 for none.
        first: cases handed out before all others (the frozen validation set).
        features: of the candidates that have any.
        labelled_features: of the labelled cases that are trained on.
    """

    cases: tuple[PoolCase, ...]
    weights: Mapping[str, float]
    masked_score: str = "masked_mean"
    weighted_score: str = ""
    quota_batch: int = 0
    audit_every: int = 0
    first: frozenset[str] = frozenset()
    features: Features = field(default_factory=Features)
    labelled_features: Features = field(default_factory=Features)

    def to_json(self, *, with_features: bool = True) -> dict[str, Any]:
        """Plain values from which `from_json` rebuilds this pool, if wanted without features."""
        plain: dict[str, Any] = {
            "cases": [
                [c.case_id, c.subgroup, dict(c.entropies), list(c.flags)] for c in self.cases
            ],
            "weights": dict(self.weights),
            "masked_score": self.masked_score,
            "weighted_score": self.weighted_score,
            "quota_batch": self.quota_batch,
            "audit_every": self.audit_every,
            "first": sorted(self.first),
        }
        if with_features:
            plain["features"] = self.features.to_json()
            plain["labelled_features"] = self.labelled_features.to_json()
        return plain

    def numbered(self) -> "Pool":
        """The same pool with a number for the id of each candidate, in the order of `cases`.

        Random draws rest on the order of the ids, which this is where `cases` were sorted by them
        and some have another id since.
        """
        names = {case.case_id: f"{number:09}" for number, case in enumerate(self.cases)}
        return replace(
            self,
            cases=tuple(replace(case, case_id=names[case.case_id]) for case in self.cases),
            first=frozenset(names.get(case_id, case_id) for case_id in self.first),
            features=Features(
                tuple(names.get(case_id, case_id) for case_id in self.features.case_ids),
                self.features.rows,
            ),
        )

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Pool":
        """The pool that `to_json` described; what an older one did not know is left at its default.

        A pool written without features has none.
        """
        cases = tuple(PoolCase(i, g, dict(e), tuple(f)) for i, g, e, f in plain["cases"])
        none = Features().to_json()
        return cls(
            cases=cases,
            weights=dict(plain["weights"]),
            masked_score=plain["masked_score"],
            weighted_score=plain.get("weighted_score", ""),
            quota_batch=plain["quota_batch"],
            audit_every=plain["audit_every"],
            first=frozenset(plain["first"]),
            features=Features.from_json(plain.get("features", none)),
            labelled_features=Features.from_json(plain.get("labelled_features", none)),
        )
