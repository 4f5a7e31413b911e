"""What stands in the panel, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from FairReviewLib.current import SHARED_CLIENT, Current
from FairReviewLib.lease import Lease


def why_lines(why: Mapping[str, Any]) -> list[str]:
    """Why this scan was handed out, a line each.

    The server's own `note` says the same in other words, and is left out.
    """
    percentile = why.get("percentile")
    lines = ["Not scored yet."]
    if percentile is not None:
        lines = [f"Uncertainty: more than {float(percentile):.0f} % of the scans of this study."]
    flags = [str(flag) for flag in why.get("implausible") or []]
    if flags:
        lines.append(f"The model's output is implausible: {', '.join(flags)}.")
    lines.append(_model_line(why))
    if why.get("stale"):
        lines.append("The score is by an earlier model; a new one is on its way.")
    if why.get("hide_presegmentation"):
        lines.append(
            "This scan is outlined without the model's help. What the model found stays hidden "
            "until you ask for it; asking is recorded."
        )
    return lines


def lease_line(lease: Lease | None, now: float) -> str:
    """How long the scan is still this reader's."""
    if lease is None:
        return ""
    if not lease.held:
        return "This scan is not leased to you: it was submitted, handed back, or its time ran out."
    if lease.is_over(now):
        return "Your lease has run out: another reader may get this scan. Submit soon."
    minutes, seconds = divmod(int(lease.seconds_left(now)), 60)
    left = f"{minutes} min" if minutes else f"{seconds} s"
    if lease.is_ending(now):
        return f"Your lease ends in {left}. Renew it, or another reader may get this scan."
    return f"Yours for another {left}."


def current_line(current: Current) -> str:
    """Which scan and which reader."""
    if not current.case_id:
        return "No scan is open. Press Next Sample in the module MONAI Label, or type an id below."
    found = {"typed": " (typed)", "volume": " (from the volume's name)"}
    line = f"{current.case_id}{found.get(current.source, '')}, read by {current.client_id}"
    if current.client_id == SHARED_CLIENT:
        line += ": a name that everybody shares. Set your own in the settings of MONAI Label."
    return line


def _model_line(why: Mapping[str, Any]) -> str:
    if not why.get("model"):
        return "No model has seen this scan yet."
    trained = str(why.get("trained_at") or "")[:10]
    return f"Model {why['model']}" + (f", of {trained}." if trained else ".")
