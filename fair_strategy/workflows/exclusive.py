"""One at a time on this machine, whichever process or thread: a file lock for each kind of work."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(state_dir: Path, what: str) -> Iterator[None]:
    """Wait until nobody else on this machine does the same piece of work on this study."""
    descriptor = os.open(state_dir / f"{what}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
