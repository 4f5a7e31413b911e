"""Loaded at the start of every Python process of a server under test: a wall clock that jumps.

The file that WALL_CLOCK names holds by how many seconds it is off. The monotonic clock is left as
it is, as it is by a person or a time server that sets the clock of a machine.
"""

import os
import time
from pathlib import Path

_true = time.time
_offset = Path(os.environ["WALL_CLOCK"])


def _time() -> float:
    return _true() + float(_offset.read_text() or 0)


time.time = _time
