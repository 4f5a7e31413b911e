"""One nursery for the folder, with a small disk of its own where the system allows that."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import server_kills, store_kills, work_kills
from tests.faults.nursery import Nursery

DISK_BYTES = 24 * 2**20
NAMESPACE = ("unshare", "--map-root-user", "--mount")


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the nursery's processes find a disk of 24 MiB; for others it is an empty folder."""
    return tmp_path_factory.mktemp("disk")


@pytest.fixture(scope="session")
def _mounting(disk: Path) -> tuple[str, ...]:
    """A command that mounts the disk for the command after it; empty where that is not allowed."""
    mount = f'mount -t tmpfs -o size={DISK_BYTES} tmpfs "{disk}" && exec "$@"'
    command = (*NAMESPACE, "sh", "-c", mount, "sh")
    try:
        tried = subprocess.run([*command, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return ()
    return command if tried.returncode == 0 else ()


@pytest.fixture(scope="session")
def nursery(_mounting: tuple[str, ...]) -> Iterator[Nursery]:
    """Has imported the server and all of its work."""
    modules = dict.fromkeys((*server_kills.MODULES, *work_kills.MODULES, *store_kills.MODULES))
    with Nursery(*modules, within=_mounting) as started:
        yield started


@pytest.fixture
def small_disk(disk: Path, nursery: Nursery, _mounting: tuple[str, ...]) -> Iterator[Path]:
    """The small disk as this process sees it, empty at first."""
    if not _mounting:
        pytest.skip("this system lets no test mount a disk (unshare --map-root-user --mount)")
    seen = Path(f"/proc/{nursery.pid}/root{disk}")
    yield seen
    for path in sorted(seen.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
