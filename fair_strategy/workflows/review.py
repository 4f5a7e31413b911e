"""What a reader's page can do besides Next Sample and Submit: why, reveal, skip, exclude, re-open.

As in `desk`, nothing that leaves this module tells a subgroup, a weight or a utility: it says what
the model makes of the image, and where that lies in the pool.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from fair_strategy.store import cases, plans, scores
from fair_strategy.store.encoding import number_or_null
from fair_strategy.store.plans import Handout
from fair_strategy.store.predictions import PeakTuple, StoredPrediction
from fair_strategy.store.readings import last_labelled, own_label
from fair_strategy.workflows.desk import OLDER_MODEL, Handed, is_stale
from fair_strategy.workflows.drafts import discard_draft, draft_info
from fair_strategy.workflows.scoring import ensure_prediction
from fair_strategy.workflows.showing import entropy_volume, shown_prediction
from fair_strategy.workflows.study import Study, StudyError

SKIP_REASONS = ("not readable", "wrong anatomy", "ask a colleague", "another time")
REASON_LENGTH = 200
"""Characters that a reason for an exclusion may have."""


@dataclass(frozen=True)
class Why:
    """What a reader may know of why a scan is before them.

    Attributes:
        percentile: where its uncertainty lies in the pool, 0 to 100; None without a score.
        implausible: what is implausible about the prediction; empty if nothing is.
        model: checksum of the model behind it; None without a prediction.
        trained_at: seconds since 1970; None for the model that was shipped.
        stale: scored by an earlier model or under other settings.
        note: sentences for the reader; empty if there is nothing to say.
        hide_presegmentation: keep the prediction hidden until this reader asks for it.
        revealed: this reader has asked for it.
        route: how the structure was found; None without a prediction.
        trust: in the localisation, 0 to 1; None without a prediction.
    """

    percentile: float | None
    implausible: tuple[str, ...]
    model: str | None
    trained_at: float | None
    stale: bool
    note: str
    hide_presegmentation: bool
    revealed: bool
    route: str | None
    trust: float | None


@dataclass(frozen=True)
class Hold:
    """Whether a reader holds a scan, and for how many seconds more (0 if not)."""

    held: bool
    seconds_left: float


@dataclass(frozen=True)
class Current:
    """The scan that a reader holds, as any browser of theirs may ask for it.

    Attributes:
        case_id: None if the reader holds nothing.
        seconds_left: of the lease; 0 without one.
        draft: whether the server has an unfinished mask of theirs.
        submitted: whether the scan has a label of theirs: it was re-opened.
    """

    case_id: str | None
    seconds_left: float = 0.0
    draft: bool = False
    submitted: bool = False


def why(study: Study, case_id: str, client_id: str) -> Why:
    """What there is to say of a scan to a reader.

    Raises:
        UnknownCaseError: for an unknown case.
    """
    shown = shown_prediction(study, case_id)
    handed = plans.handout(study.store, case_id, client_id)
    revealed = plans.revealed(study.store, case_id, client_id)  # None where nothing is hidden
    hidden = revealed is False
    percentile = _percentile(study, case_id, handed)
    stale = _stale(study, shown, handed)
    return Why(
        percentile=percentile,
        implausible=shown.flags if shown else (),
        model=shown.model if shown else None,
        trained_at=_trained_at(study, shown.model) if shown else None,
        stale=stale,
        note=_note(hidden=hidden, scored=percentile is not None, stale=stale, shown=shown),
        hide_presegmentation=hidden,
        revealed=bool(revealed),
        route=shown.route if shown else None,
        trust=shown.trust if shown else None,
    )


def reveal(study: Study, case_id: str, client_id: str) -> None:
    """The reader asks for a hidden pre-segmentation: recorded once; they have seen it from now on.

    Of a scan whose pre-segmentation is not hidden nothing is recorded.

    Raises:
        UnknownCaseError: for an unknown case.
    """
    shown = shown_prediction(study, case_id)
    if plans.revealed(study.store, case_id, client_id) is None:
        return
    if shown is None:
        plans.reveal(study.store, case_id, client_id)
    else:
        plans.set_seen_model(study.store, case_id, client_id, shown.model)


def is_withheld(study: Study, case_id: str) -> bool:
    """Whether a scan is in the hands of a reader from whom its prediction is hidden.

    For requests that do not say who sends them: stock Slicer asks for the label `original` of each
    scan by itself. Nobody gets it then, until its reader asks for it or gives the scan back.
    """
    lease = plans.lease_of(study.store, case_id)
    if lease is None or lease.expires_at <= time.monotonic():
        return False
    return plans.revealed(study.store, case_id, lease.client_id) is False


def hold(study: Study, case_id: str, client_id: str, *, now: float | None = None) -> Hold:
    """Whether the reader holds a scan, and for how long still.

    Raises:
        UnknownCaseError: for an unknown case.
    """
    now = time.monotonic() if now is None else now
    lease = plans.lease_of(study.store, cases.case(study.store, case_id).case_id)
    if lease is None or lease.client_id != client_id or lease.expires_at <= now:
        return Hold(held=False, seconds_left=0.0)
    return Hold(held=True, seconds_left=lease.expires_at - now)


def current(study: Study, client_id: str, *, now: float | None = None) -> Current:
    """What a reader holds, whatever browser they come from; nothing of it is changed."""
    now = time.monotonic() if now is None else now
    lease = plans.held_by(study.store, client_id, now)
    if lease is None:
        return Current(case_id=None)
    return Current(
        case_id=lease.case_id,
        seconds_left=lease.expires_at - now,
        draft=draft_info(study, lease.case_id, client_id).exists,
        submitted=own_label(study.store, lease.case_id, client_id) is not None,
    )


def renew(study: Study, case_id: str, client_id: str, *, now: float | None = None) -> Hold:
    """Make the reader's lease last its whole length from now; one that ran out stays out.

    Raises:
        UnknownCaseError: for an unknown case.
    """
    now = time.monotonic() if now is None else now
    lease_s = 60.0 * study.settings.lease_minutes
    plans.renew(study.store, client_id, now=now, lease_s=lease_s, case_id=case_id)
    return hold(study, case_id, client_id, now=now)


def skip(study: Study, case_id: str, client_id: str, reason: str) -> bool:
    """Give a scan back, say why, and drop its draft; False, and nothing done, if it is not held.

    Raises:
        UnknownCaseError: for an unknown case.
        StudyError: for a reason that is none of `SKIP_REASONS`.
    """
    cases.case(study.store, case_id)
    if reason not in SKIP_REASONS:
        raise StudyError(f"reason {reason[:40]!r}: expected one of {', '.join(SKIP_REASONS)}")
    released = plans.release(
        study.store,
        case_id,
        client_id,
        now=time.monotonic(),
        cool_down_s=60.0 * study.settings.skip_minutes,
        reason=reason,
    )
    if released:
        discard_draft(study, case_id, client_id)
    return released


def exclude(study: Study, case_id: str, client_id: str, reason: str) -> None:
    """Take a scan out of the study until it is re-opened; its draft is gone. Twice is once.

    Raises:
        UnknownCaseError: for an unknown case.
        StudyError: without a reason, or for a scan that is not this reader's to judge: never
            handed to them, or in a colleague's hands.
    """
    reason = " ".join(reason.split())
    if not reason or len(reason) > REASON_LENGTH or not reason.isprintable():
        raise StudyError(f"reason: expected 1 to {REASON_LENGTH} printable characters")
    if cases.case(study.store, case_id).excluded is None:
        _require_own(study, case_id, client_id)
        cases.exclude(study.store, case_id, reason, by=client_id)
    discard_draft(study, case_id, client_id)


def reopen(study: Study, client_id: str, case_id: str | None = None) -> Handed:
    """A scan that the reader submitted or excluded, leased to them again.

    A final label stays until another replaces it. Whatever else the reader holds goes back.

    Args:
        study: whose scan it is.
        client_id: the reader.
        case_id: None for the scan that they submitted last.
    Raises:
        UnknownCaseError: for an unknown case.
        StudyError: if the scan is not one that this reader submitted or excluded, was not handed
            out by Next Sample, or is held by a colleague.
    """
    case_id = case_id or _last_submitted(study, client_id)
    label = own_label(study.store, case_id, client_id)
    record = cases.case(study.store, case_id)
    excluded = record.excluded is not None and record.excluded_by == client_id
    if record.excluded is not None and not excluded:
        raise StudyError(f"{case_id}: excluded by somebody else; the study lead can re-open it")
    if not excluded and label is None:
        raise StudyError(f"{case_id}: you can re-open only what you submitted or excluded")
    if plans.handout(study.store, case_id, client_id) is None:
        raise StudyError(f"{case_id}: it never came to you by Next Sample; submit it again instead")
    lease_s = 60.0 * study.settings.lease_minutes
    handed = plans.take_again(
        study.store, case_id, client_id, now=time.monotonic(), lease_s=lease_s
    )
    if handed is None:
        raise StudyError(f"{case_id}: a colleague is working on it")
    return Handed(
        case_id=case_id,
        strategy=handed.strategy,
        served_by=handed.strategy,
        percentile=number_or_null(handed.percentile),
        stale=is_stale(study, handed.strategy, handed.model, handed.settings_version),
        implausible=handed.reason == "implausible",
        note="re-opened" + ("; your label stays until you submit another" if label else ""),
    )


def peaks(study: Study, case_id: str) -> tuple[PeakTuple, ...]:
    """Places of highest uncertainty, highest first: ((x, y, z) in RAS mm, nats).

    Of the prediction that is shown, which is made now if there is none.

    Raises:
        UnknownCaseError: for an unknown case.
        ValueError: if there is no model, or the scan cannot be read.
    """
    stored = shown_prediction(study, case_id) or ensure_prediction(study, case_id)
    return stored.peaks


def entropy_file(study: Study, case_id: str, suffix: str) -> Path:
    """The entropy map, nats, on the scan's own grid; predicted now if it was not yet.

    Raises:
        UnknownCaseError: for an unknown case.
        ValueError: if there is no model, or the scan cannot be read.
    """
    path = entropy_volume(study, case_id, suffix)
    if path is None:
        ensure_prediction(study, case_id)
        path = entropy_volume(study, case_id, suffix)
    if path is None:
        raise StudyError(f"{case_id}: its file was replaced just now; try again")
    return path


def _require_own(study: Study, case_id: str, client_id: str) -> None:
    lease = plans.lease_of(study.store, case_id)
    if lease is not None and lease.client_id != client_id and lease.expires_at > time.monotonic():
        raise StudyError(f"{case_id}: a colleague is working on it")
    if own_label(study.store, case_id, client_id) is not None:
        return
    if plans.handout(study.store, case_id, client_id) is None:
        raise StudyError(f"{case_id}: you can exclude only what came to you by Next Sample")
    if cases.label(study.store, case_id) is not None:
        raise StudyError(f"{case_id}: a colleague has submitted it; ask the study lead")


def _last_submitted(study: Study, client_id: str) -> str:
    last = last_labelled(study.store, client_id)
    if last is None:
        raise StudyError("you have submitted nothing yet that could be re-opened")
    return last


def _percentile(study: Study, case_id: str, handed: Handout | None) -> float | None:
    own = None if handed is None else number_or_null(handed.percentile)
    return number_or_null(plans.percentile_of(study.store, case_id)) if own is None else own


def _stale(study: Study, shown: StoredPrediction | None, handed: Handout | None) -> bool:
    current = scores.current_model(study.store)
    older = shown is not None and (current is None or shown.model != current.checksum)
    return older or (
        handed is not None
        and is_stale(study, handed.strategy, handed.model, handed.settings_version)
    )


def _trained_at(study: Study, model: str) -> float | None:
    found = [m for m in scores.models(study.store) if m.checksum == model]
    return found[0].created_at if found and found[0].origin != "shipped" else None


def _note(*, hidden: bool, scored: bool, stale: bool, shown: StoredPrediction | None) -> str:
    said = {
        "outline it without the pre-segmentation, which is hidden until you ask for it": hidden,
        "the prediction looks implausible: check it": bool(shown and shown.flags),
        "not scored yet": not scored,
        OLDER_MODEL: stale,
    }
    return "; ".join(sentence for sentence, holds in said.items() if holds)
