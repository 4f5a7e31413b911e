"""What is wrong, as one sentence for a log or a reader: no stack, no personal value."""

import re

from fair_strategy.data.cohort import CohortError
from fair_strategy.data.dicom.errors import ArchiveUnavailable
from fair_strategy.store import StoreError

EXPECTED = (ValueError, LookupError, StoreError, ArchiveUnavailable)
"""Errors of this project that tell a person what to do; every other one is a fault of ours."""

_QUOTED = r"""(?:'[^']*'|"[^"]*")"""
_ECHOED = re.compile(
    rf"(?<=\bage ){_QUOTED}"  # a subject's age
    rf"|(?<=\bthe header ){_QUOTED}"  # a table without a header: its first subject's row
    r"|(?<='participant_id' among )[^;]*"
)


def sentence(error: Exception) -> str:
    """One line that says which thing, what was expected and what to do."""
    if isinstance(error, KeyError):
        return f"{type(error).__name__}: {error}"  # its text is the key alone
    text = " ".join(str(error).split()) or type(error).__name__
    return without_values(text) if isinstance(error, CohortError) else text


def without_values(text: str) -> str:
    """A sentence on participants.tsv without what it quotes of the table's cells."""
    return _ECHOED.sub("(not shown)", text)
