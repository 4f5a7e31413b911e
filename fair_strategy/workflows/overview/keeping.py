"""Figures by subgroup change once a model version: a live one would give the last scan away."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from pydantic import BaseModel

from fair_strategy.metrics.suppression import tells_nobody_apart
from fair_strategy.store import scores
from fair_strategy.store.settings import get_value, set_value
from fair_strategy.workflows.overview.figures import Refreshed
from fair_strategy.workflows.study import Study

T = TypeVar("T", bound=BaseModel)

SHORT = 12
"""So many digits of a checksum are shown."""

_writing = threading.Lock()


@dataclass(frozen=True)
class Made(Generic[T]):
    """A figure as it is now.

    Attributes:
        content: what is shown; already suppressed.
        cases: the scans behind it, each with what counts of it.
    """

    content: T
    cases: Collection[str] = ()


@dataclass(frozen=True)
class Kept(Generic[T]):
    """A figure as it may be shown; `content` is None before the first."""

    content: T | None
    refreshed: Refreshed


def once_per_model(
    study: Study,
    name: str,
    kind: type[T],
    *,
    min_cell: int,
    make: Callable[[T | None], Made[T]],
    ready: bool = True,
) -> Kept[T]:
    """A figure that is made anew at a new model, if enough scans changed, and kept in between.

    Kept is what is shown, so that no later look can show more; from one figure to the next no
    scan changed, or `min_cell` of them did (`tells_nobody_apart`). Another grouping of the
    study or another `min_cell` starts afresh.

    Args:
        study: whose figure it is.
        name: of the figure.
        kind: its type.
        min_cell: smallest number of cases that may be told apart.
        make: the figure now, from the one kept before.
        ready: whether it can be made now: the newest model has been measured.
    """
    with _writing:
        model, terms = _model(study), _terms(study, min_cell)
        stored = json.loads(get_value(study.store, f"overview.{name}") or "null")
        if stored is None or stored["terms"] != terms:
            stored = None
        elif stored["model"] == model:
            return _kept(study, stored, kind)
        if not ready:
            return _kept(study, stored, kind, why="not all of it is measured yet")
        before = None if stored is None else kind.model_validate(stored["content"])
        made = make(before)
        if stored and not tells_nobody_apart(stored["cases"], made.cases, minimum=min_cell):
            return _kept(study, stored, kind, why=f"fewer than {min_cell} scans changed since then")
        stored = {
            "model": model,
            "terms": terms,
            "at": time.time(),
            "cases": sorted(made.cases),
            "content": made.content.model_dump(mode="json"),
        }
        set_value(study.store, f"overview.{name}", json.dumps(stored))
        return _kept(study, stored, kind)


def moment(seconds: float) -> datetime:
    """Seconds since 1970 as a time that knows its zone (UTC)."""
    return datetime.fromtimestamp(seconds, UTC)


def _kept(study: Study, stored: dict | None, kind: type[T], *, why: str = "") -> Kept[T]:
    if stored is None:
        sentence = f"There is no figure yet: {why}." if why else "There is no figure yet."
        return Kept(None, Refreshed(model=None, at=None, current=False, sentence=sentence))
    numbers = {m.checksum: n for n, m in enumerate(scores.models(study.store), start=1)}
    version = (
        f"model version {numbers.get(stored['model'], '?')}" if stored["model"] else "no model"
    )
    refreshed = Refreshed(
        model=stored["model"][:SHORT] or None,
        at=moment(stored["at"]),
        current=not why,
        sentence=f"Figures of {version}. "
        + (f"A newer model is there, but {why}." if why else "They change with the next model."),
    )
    return Kept(kind.model_validate(stored["content"]), refreshed)


def _model(study: Study) -> str:
    current = scores.current_model(study.store)
    return current.checksum if current else ""


def _terms(study: Study, min_cell: int) -> str:
    """Digest of what a subgroup is, what is measured and what is hidden."""
    settings = study.settings
    parts = (settings.sensitive_feature, settings.age_bins, settings.estimator, min_cell)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
