"""The state directory: owner-only, on a local disk, held by one server."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from fair_strategy.store.errors import ServerRunning, StoreError

DATABASE_NAME = "state.sqlite3"
LOCK_NAME = "server.lock"
OPEN_LOCK_NAME = "open.lock"

# SQLite's WAL needs shared memory between the processes of one machine.
NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs3", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "afs", "afpfs", "ceph"}
    | {"lustre", "gpfs", "beegfs", "glusterfs", "orangefs", "ocfs2", "gfs2", "davfs"}
)
# A folder of the host in a virtual machine or container: host and guest have each a memory and,
# mostly, locks of their own. As the root of a sandboxed container (gVisor, Kata) it is that
# container's alone, and all that it has: there it is accepted.
SHARED_WITH_HOST = frozenset({"9p", "virtiofs", "vboxsf", "prl_fs", "vmhgfs"})
# Of programs that serve a file system few have a local disk below; what is not here is refused.
LOCAL_FUSE = frozenset(
    {"fuse.ntfs", "fuse.ntfs-3g", "fuse.exfat", "fuse.ext2", "fuse.ext3", "fuse.ext4"}
    | {"fuse.fuse2fs", "fuse.fuse-overlayfs"}  # the root of a container without root
)

_held: dict[Path, int] = {}


def prepare_directory(state_dir: Path) -> Path:
    """Absolute path of the state directory, created where missing, readable by its owner only.

    Raises:
        StoreError: on a network file system, or if the permissions cannot be set.
    """
    state_dir = Path(state_dir).expanduser().resolve()
    refuse_network_filesystem(state_dir)
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        state_dir.chmod(0o700)
    except OSError as error:
        raise StoreError(
            f"state directory {state_dir} cannot be made private to its owner ({error.strerror}); "
            "choose another one with --conf state_dir"
        ) from error
    return state_dir


def refuse_network_filesystem(path: Path, *, mounts: Path = Path("/proc/mounts")) -> None:
    """Raise StoreError if path lies on a network file system, where SQLite's WAL loses data.

    Likewise on what is shared between systems, or is not known to be a local disk.

    Args:
        path: need not exist yet.
        mounts: the kernel's table of mounts; where it is missing (not Linux) nothing is refused.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return
    target = Path(path).resolve()
    kind, best = "", -1
    for line in lines:
        _, mount_point, filesystem, *_ = line.split(" ")
        root = Path(_unescape(mount_point))
        # Of two mounts on the same point the later one is seen, hence >=.
        if target.is_relative_to(root) and len(root.parts) >= best:
            kind, best = filesystem, len(root.parts)
    what = _danger(kind.lower(), is_root=best == 1)
    if what:
        raise StoreError(
            f"state directory {path} lies on {what} ({kind}), where the database "
            "is not safe; choose a local disk with --conf state_dir"
        )


def _danger(kind: str, *, is_root: bool) -> str:
    if kind in NETWORK_FILESYSTEMS:
        return "a network file system"
    if kind in SHARED_WITH_HOST and not is_root:
        return "a folder that is shared with another system"
    if kind.split(".")[0] == "fuse" and kind not in LOCAL_FUSE:
        return "a file system that is not known to be a local disk"
    return ""


def _unescape(mount_point: str) -> str:
    for code, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        mount_point = mount_point.replace(f"\\{code}", character)
    return mount_point


class StateLock:
    """The hold on a state directory: until `release`, the end of a `with`, or of the process."""

    def __init__(self, state_dir: Path, descriptor: int) -> None:
        self._state_dir = state_dir
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the state directory back; a second call does nothing."""
        if self._descriptor >= 0:
            _held.pop(self._state_dir, None)
            _let_go(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> "StateLock":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def hold(state_dir: Path) -> StateLock:
    """The exclusive hold of one server on a state directory.

    Raises:
        ServerRunning: if another process (or another call in this one) holds it.
    """
    state_dir = Path(state_dir).resolve()
    lock_file = state_dir / LOCK_NAME
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise ServerRunning(
            f"state directory {state_dir} is held by process {holder}: one study has one server "
            "with one worker; stop that server (a second one needs another --conf state_dir)"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    _held[state_dir] = os.getpid()
    return StateLock(state_dir, descriptor)


@contextmanager
def opening(state_dir: Path) -> Iterator[None]:
    """One process at a time creates, checks, restores or migrates; the others wait for it."""
    descriptor = os.open(state_dir / OPEN_LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        _let_go(descriptor)


def _let_go(descriptor: int) -> None:
    # Closing alone would leave the lock with a child that was forked meanwhile.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def held_here(state_dir: Path) -> bool:
    """Whether this very process holds the state directory."""
    return _held.get(Path(state_dir).resolve()) == os.getpid()


def sync_file(path: Path) -> None:
    """Force a file, or a directory's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
