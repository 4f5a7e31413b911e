"""The sentences of the review page: what is known about a case, as a reader reads it."""

from fair_strategy.viewer.client import Progress, Why
from fair_strategy.viewer.overlay import Peaks

AWAY = "Your drawing is kept here; nothing is lost. Start the server again, then retry."
HIDDEN = (
    "Please draw this scan on your own first: the model's outline and its uncertainty are hidden. "
    "You may ask for them; that is noted."
)

OWN_STAYS = (
    "What you drew stays, and is what you submit. The model's outline lies beside it as a thin "
    "white line."
)


def back(held: str, remembered: str, *, recovered: bool) -> str:
    """What is said at the login of the scan that a reader holds; empty if there is nothing to say.

    Args:
        held: the scan's name; empty if the reader holds none.
        remembered: the scan that this browser saw last; empty if it saw none.
        recovered: whether it is opened with a draft.
    """
    if not held:
        return f"You no longer hold {remembered}; take the next scan." if remembered else ""
    elsewhere = " If it is open in another browser too, close it there."
    draft = ", with your draft" if recovered else ""
    return f"Back at {held}{draft}.{'' if held == remembered else elsewhere}"


def why_lines(why: Why) -> list[str]:
    """What "why this scan" says, a line each."""
    lines = []
    if why.percentile is None:
        lines.append("Its uncertainty is not known yet.")
    else:
        lines.append(f"More uncertain than {_percent(why.percentile)} of the scans.")
    if why.implausible:
        lines.append(f"The model's outline is implausible: {', '.join(why.implausible)}.")
    if why.stale:
        lines.append("Judged by an earlier model; it is being judged anew.")
    return lines  # the server's own note says the same in one line


def model_line(why: Why) -> str:
    """Which model it was."""
    if why.model is None:
        return ""
    day = f", trained {why.trained_at[:10]}" if why.trained_at else ""
    return f"Model {why.model}{day}"


def progress_line(progress: Progress) -> str:
    """The counts."""
    return f"{progress.labelled} labelled · {progress.pool} to go · {progress.mine} by you"


def peaks_line(peaks: Peaks) -> str:
    """Which of the uncertain places is looked at."""
    if not len(peaks):
        return "no uncertain places"
    if not peaks.number:
        return f"{len(peaks)} uncertain place{'s' if len(peaks) > 1 else ''}"
    return f"place {peaks.number} of {len(peaks)}"


def _percent(percentile: float) -> str:
    return f"{min(max(percentile, 0.0), 100.0):.0f} %"
