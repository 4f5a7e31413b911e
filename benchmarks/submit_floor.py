"""The least that a Submit costs besides its upload: the library calls that it is defined by.

Read the mask, the scan's header and the mask that the reader was shown; write the mask, commit its
row, and wait for the disk for both. No checks, no server, nothing that joins the parts.
"""

import gzip
import io
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import nibabel as nib
import numpy as np

TIMES = 60


def least_submit_ms(scan: Path, shown: Path, mask: bytes, folder: Path) -> dict[str, list[float]]:
    """Milliseconds of each part, by the clock and in CPU: medians over many turns.

    Args:
        scan: an image file.
        shown: the prediction of it, as the server keeps it.
        mask: a mask of it, as a .nii file.
        folder: on whose disk to write.
    """
    with (
        tempfile.TemporaryDirectory(dir=folder) as passing,
        closing(_database(Path(passing) / "floor.sqlite")) as connection,
    ):
        target, made = Path(passing) / "floor.nii.gz", gzip.compress(mask, 1)
        calls: dict[str, Callable[[], object]] = {
            "read the mask": lambda: np.asarray(_image(mask).dataobj),
            "read the scan's header": lambda: nib.load(scan).affine,
            "read the mask that was shown": lambda: _array(shown, "mask"),
            "make the file": lambda: gzip.compress(_image(mask).to_bytes(), 1),
            "write it, flush file and folder": lambda: _written(target, made),
            "commit a row, flush": lambda: _committed(connection),
        }
        return {name: _median_ms(call) for name, call in calls.items()}


def _image(content: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(content)


def _array(path: Path, name: str) -> np.ndarray:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
        return arrays[name]


def _written(path: Path, content: bytes) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _database(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS labels (label TEXT)")
    return connection


def _committed(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO labels VALUES ('a label')")
    connection.execute("COMMIT")


def _median_ms(call: Callable[[], object]) -> list[float]:
    call()
    clock, cpu = [], []
    for _ in range(TIMES):
        begun, used = time.perf_counter(), time.thread_time()
        call()
        clock.append(1000 * (time.perf_counter() - begun))
        cpu.append(1000 * (time.thread_time() - used))
    return [statistics.median(clock), statistics.median(cpu)]
