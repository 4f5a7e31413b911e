"""Volumes during which a scoring process died: they come last, then alone, then not at all.

Whatever kills the process (the system's out-of-memory killer, a library that crashes) tells nobody
which volume it was. So the volumes in hand stand in a file; who finds it there at its start knows.
"""

import json
import logging
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from fair_strategy.store.cases import CaseRecord

log = logging.getLogger(__name__)

FILE = "scoring.attempts.json"
DEATHS = 3
"""So many processes that died at one volume, one after another, and it is left out."""

_DAMAGED = (
    ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
"""What reading something else than a file of this kind raises."""


class Attempts:
    """The volumes in hand, and how many processes died at each.

    A file that is damaged tells nothing: it is put aside, and the counts start anew.

    Args:
        state_dir: of the study.
        model: checksum; another model starts anew.
    """

    def __init__(self, state_dir: Path, model: str) -> None:
        self._file = state_dir / FILE
        self._model = model
        self._deaths = _deaths_told(self._file, model)
        self._in_hand: list[str] = []
        self._write()

    def deaths(self, record: CaseRecord) -> int:
        """How many processes died while they had this file in hand."""
        return self._deaths[_key(record)]

    def any_deaths(self) -> bool:
        """Whether a process died in the last runs: the memory may be short, for several at once."""
        return bool(self._deaths)

    def begin(self, record: CaseRecord) -> None:
        """The volume is in hand from now on."""
        self._in_hand.append(_key(record))
        self._write()

    def end(self, record: CaseRecord) -> None:
        """The volume is done with, in whatever way: nothing is held against it any more."""
        self._in_hand.remove(_key(record))
        del self._deaths[_key(record)]
        self._write()

    def close(self) -> None:
        """Nothing is in hand."""
        self._in_hand = []
        self._write()

    def _write(self) -> None:
        # A kill leaves it whole; a power cut may lose it, and with it only a suspicion.
        told = {"model": self._model, "deaths": self._deaths, "in_hand": self._in_hand}
        _write(self._file, told)


def excuse(state_dir: Path) -> None:
    """Hold nothing against the volumes in hand: the process ends because it was told to."""
    file = state_dir / FILE
    with suppress(OSError, *_DAMAGED):  # the next start puts a damaged one aside
        _write(file, {**_read(file), "in_hand": []})


def in_hand(state_dir: Path) -> int | None:
    """Changes with the volumes in hand; None if there are none, or if that cannot be told."""
    file = state_dir / FILE
    try:
        changed = file.stat().st_mtime_ns
        return changed if _read(file)["in_hand"] else None
    except (OSError, *_DAMAGED):
        return None


def _read(file: Path) -> dict[str, Any]:
    told = json.loads(file.read_text(encoding="utf-8"))
    in_hand = told["in_hand"]
    if not isinstance(in_hand, list) or not all(isinstance(key, str) for key in in_hand):
        raise TypeError("expected a list of volumes")
    deaths = {key: int(count) for key, count in told["deaths"].items()}
    return {"model": told["model"], "deaths": deaths, "in_hand": in_hand}


def _deaths_told(file: Path, model: str) -> Counter[str]:
    try:
        told = _read(file)
        if told["model"] == model:
            return Counter(told["deaths"]) + Counter(told["in_hand"])
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("%s: not read (%s)", file.name, error.strerror)
    except _DAMAGED:
        _put_aside(file)
    return Counter()


def _put_aside(file: Path) -> None:
    # It names scans: as a log it goes with every erasure.
    aside = file.with_name(f"{file.name}.damaged-{time.time_ns()}.log")
    try:
        file.replace(aside)
    except OSError as error:
        log.warning("%s is damaged, and could not be put aside (%s)", file.name, error.strerror)
        return
    log.warning(
        "%s was damaged; it is kept as %s. At which volumes scoring died before is counted anew",
        file.name,
        aside.name,
    )


def _write(file: Path, told: dict[str, Any]) -> None:
    part = file.with_suffix(f".{threading.get_ident()}.part")
    try:
        part.write_text(json.dumps(told), encoding="utf-8")
        part.replace(file)
    except OSError as error:
        log.warning("%s: not written (%s)", file.name, error.strerror)


def _key(record: CaseRecord) -> str:
    return f"{record.case_id} {record.fingerprint}"


def reason(record: CaseRecord, deaths: int) -> str:
    """Why a volume is left out, for whoever looks after the study."""
    return (
        f"{record.path.name}: {deaths} scoring processes died while they had it in hand, the last "
        "with nothing else; is it too large for the memory? Replace it, or touch it to try again"
    )
