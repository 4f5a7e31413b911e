"""The readers' desk: the next scan, and the label that comes back.

Nothing that leaves this module tells a subgroup, a weight or a utility.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fair_strategy.acquisition.strategies import NEEDS_SCORES
from fair_strategy.data.cohort import CohortError
from fair_strategy.data.grids import spacing_mm
from fair_strategy.store import cases, plans, predictions, readings, scores
from fair_strategy.store.cases import CaseRecord, LabelRecord
from fair_strategy.store.encoding import number_or_null
from fair_strategy.store.plans import Taken
from fair_strategy.workflows.double_reading import due_cases, is_read_by_several, settle
from fair_strategy.workflows.drafts import discard_draft
from fair_strategy.workflows.late_plans import plan_if_missing
from fair_strategy.workflows.masks import mask_of_scan, place_of_mask, store_mask
from fair_strategy.workflows.planning import ALWAYS_MADE, plan_is_stale, refusal
from fair_strategy.workflows.replacing import replacing
from fair_strategy.workflows.rounds import due
from fair_strategy.workflows.showing import shown_model
from fair_strategy.workflows.study import Study, StudyError

NAMES_NEEDED = (
    "each scan of this study is read by several readers, who are told apart by their names: "
    "choose a client id of your own, and ask or submit again"
)
SHARED_CLIENT = "user-xyz"
"""The id that stock Slicer sends for everybody: clicking again under it releases nothing."""

OLDER_MODEL = "scored by an earlier model; new scores are on their way"


@dataclass(frozen=True)
class Handed:
    """One scan handed to one reader.

    Attributes:
        strategy: asked for.
        served_by: the strategy whose plan served.
        percentile: where its uncertainty lies in the pool, 0 to 100; None without a score.
        stale: its plan was made for an earlier model or other settings.
        implausible: its prediction has an implausible volume, side, place or number of parts.
        note: a sentence for the reader; empty if there is nothing to say.
    """

    case_id: str
    strategy: str
    served_by: str
    percentile: float | None
    stale: bool
    implausible: bool
    note: str


def next_case(
    study: Study, strategy: str, client_id: str, *, now: float | None = None
) -> Handed | None:
    """The next scan for a reader, leased to them; None if nothing is left.

    Whoever is the first to ask for a strategy waits for its plan to be made.

    Args:
        strategy: one that the study offers.
        client_id: who asks; asking again skips the scan that this client holds.
        now: monotonic time, s.
    Raises:
        StudyError: for an unknown strategy, for one that needs other settings, if no plan could
            be made yet, or without a name in a study that has scans read by several.
    """
    why_not = refusal(strategy, study.settings)
    if why_not:
        raise StudyError(why_not)
    if study.settings.readers_per_case > 1 and _is_shared(client_id):
        raise StudyError(NAMES_NEEDED)
    now = time.monotonic() if now is None else now
    plan_if_missing(study, strategy)
    taken = _take(study, strategy, client_id, now)
    if taken is None and strategy != ALWAYS_MADE:
        taken = _take(study, ALWAYS_MADE, client_id, now)
    if taken is None:
        if plans.plan_head(study.store, ALWAYS_MADE) is None:
            raise StudyError(
                "no scan can be handed out yet; the study lead finds the reason in the server's log"
            )
        return None
    return _handed(study, strategy, taken)


def submit(
    study: Study,
    case_id: str,
    mask_path: Path,
    *,
    tag: str = cases.FINAL,
    info: dict[str, Any] | None = None,
    client_id: str = "",
) -> LabelRecord:
    """Take a reader's mask: check it, write it by rename, commit its row; the lease is over.

    Where a scan is read by several, a final label is this reader's reading; it replaces their own
    of before, and nobody else's. With the last one that is needed the final label is made.

    With the row goes what the label cost: time, and how much of the prediction was changed. That
    is counted here, from the arrays at hand, and not later: the prediction may be gone by then.
    The reader's draft of the scan is gone, too.

    Raises:
        UnknownCaseError: for an unknown case.
        ValueError: if grid or values are not those of one mask of this scan, if the tag is that of
            somebody's readings, or if it does not say whose reading it is; nothing is changed.
        OSError, sqlite3.Error: if it cannot be written; what was there before is there again.
    """
    several = tag == cases.FINAL and is_read_by_several(study, case_id)
    tag = _tag_to_write(tag, client_id, several=several)
    scan = cases.case(study.store, case_id)
    mask = mask_of_scan(study, scan, mask_path)
    seen = plans.holder_saw(study.store, case_id, client_id)
    edited = _edited_mm3(study, scan, mask.array, seen)
    with replacing(study, place_of_mask(study, case_id, tag)):
        path, digest = store_mask(study, case_id, mask, tag=tag)
        record = LabelRecord(
            case_id=case_id,
            tag=tag,
            path=path,
            info=dict(info or {}),
            client_id=client_id,
            created_at=time.time(),
            digest=digest,
            seen_model=seen,
        )
        if several:
            readings.save_reading(study.store, record, edited_mm3=edited)
        else:
            cases.save_label(study.store, record, by_reader=True, edited_mm3=edited)
    if several:
        settle(study, case_id)
    if several or tag == cases.FINAL:
        discard_draft(study, case_id, client_id)
    return record


def _tag_to_write(tag: str, client_id: str, *, several: bool) -> str:
    if several and _is_shared(client_id):
        raise StudyError(NAMES_NEEDED)
    if readings.is_reading_tag(tag):
        raise StudyError(f"tag {tag!r} is for one reader's label; submit as 'final'")
    return readings.reading_tag(client_id) if several else tag


def pending_work(study: Study) -> dict[str, Any]:
    """What the background has to do: each entry is a query, so a crash loses nothing.

    `model` is the checksum of the current model, for which the work is. `uncompared` are labels
    that are to be compared with predictions, and final labels that are to be made of readings.
    """
    model = scores.current_checksum(study.store)
    unsettled = len(due_cases(study))
    if model is None:
        return {
            "model": None,
            "unscored": 0,
            "uncompared": unsettled,
            "train_due": False,
            "plan_stale": _plan_stale(study),
        }
    unscored = scores.count_unscored(study.store, model, study.settings_hash)
    uncompared = unsettled + len(scores.uncompared(study.store))
    uncompared += len(scores.uncompared_with(study.store, model))
    return {
        "model": model,
        "unscored": unscored,
        "uncompared": uncompared,
        "train_due": due(study),
        "plan_stale": _plan_stale(study),
    }


def _plan_stale(study: Study) -> bool:
    try:
        return plan_is_stale(study)
    except CohortError:  # no plan can be made of a broken table; all other work goes on
        return False


def _take(study: Study, strategy: str, client_id: str, now: float) -> Taken | None:
    """Hand out the plan's next case, and note whose prediction of it the reader is shown."""
    skip_s, shared = 60.0 * study.settings.skip_minutes, _is_shared(client_id)
    likely = plans.likely_next(
        study.store, strategy, client_id, skip_s=skip_s, shared_client=shared
    )
    model = None if likely is None else shown_model(study, likely)
    taken = plans.take_next(
        study.store,
        strategy,
        client_id,
        now=now,
        lease_s=60.0 * study.settings.lease_minutes,
        skip_s=skip_s,
        shared_client=shared,
        shown=None if likely is None or model is None else (likely, model),
    )
    noted = model is not None and taken is not None and taken.case_id == likely
    # From an audit slot the pre-segmentation is hidden: it is seen once it is asked for.
    if taken is not None and not noted and taken.reason != plans.AUDIT:
        model = shown_model(study, taken.case_id)
        if model is not None:
            plans.set_seen_model(study.store, taken.case_id, client_id, model, wait_for_disk=False)
    return taken


def _is_shared(client_id: str) -> bool:
    return client_id in ("", SHARED_CLIENT)


def _edited_mm3(
    study: Study, scan: CaseRecord, mask: NDArray[np.uint8], seen: str | None
) -> float | None:
    if seen is None:
        return None
    stored = predictions.read_predicted_mask(study.state_dir, seen, scan.case_id, scan.fingerprint)
    if stored is None or stored.shape != mask.shape:
        return None
    return predictions.voxels_apart(stored, mask) * float(np.prod(spacing_mm(stored.affine)))


def is_stale(study: Study, strategy: str, model: str | None, settings_version: int) -> bool:
    """Whether a strategy's plan was made for an earlier model, or under other settings."""
    current = scores.current_checksum(study.store)
    return strategy in NEEDS_SCORES and (
        current is None or model != current or settings_version != study.settings_version
    )


def _handed(study: Study, asked: str, taken: Taken) -> Handed:
    plan = plans.plan_head(study.store, taken.strategy)
    stale = plan is None or is_stale(study, plan.strategy, plan.model, plan.settings_version)
    note = ""
    if taken.strategy != asked and not taken.started:
        first = plans.plan_head(study.store, asked) is None
        note = "drawn at random: " + ("no scores yet" if first else "the plan is used up")
    elif stale:
        note = OLDER_MODEL
    return Handed(
        case_id=taken.case_id,
        strategy=asked,
        served_by=taken.strategy,
        percentile=number_or_null(taken.percentile),
        stale=stale,
        implausible=taken.reason == "implausible",
        note=note,
    )
