"""One server a state directory, on a local disk."""

import multiprocessing
import os
from pathlib import Path

import pytest

from fair_strategy.store import ServerRunning, Store, StoreError
from fair_strategy.store.database import hold, refuse_network_filesystem
from fair_strategy.store.statedir import (
    LOCAL_FUSE,
    NETWORK_FILESYSTEMS,
    SHARED_WITH_HOST,
    held_here,
)

forked = multiprocessing.get_context("fork")

MOUNTS = """/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/local ext4 rw 0 0
//nas/lab /mnt/lab\\040share cifs rw 0 0
user@host: /remote fuse.sshfs rw 0 0
/dev/vdc /remote xfs rw 0 0
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mounts"
    path.write_text(MOUNTS)
    return path


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/home/ann/state", "nfs4"), ("/mnt/lab share/state", "cifs"), ("/home", "nfs4")],
)
def test_a_state_directory_on_a_network_file_system_is_refused_by_name(mounts, path, kind):
    with pytest.raises(StoreError, match=rf"{path}.*network file system \({kind}\)"):
        refuse_network_filesystem(Path(path), mounts=mounts)


@pytest.mark.parametrize(
    "path",
    # A local disk, one mounted within the network's folder, a name that only begins alike, and
    # a disk mounted over the network's folder.
    ["/var/state", "/home/local/state", "/homework/state", "/remote/state"],
)
def test_a_local_disk_is_accepted(mounts, path):
    refuse_network_filesystem(Path(path), mounts=mounts)


UNKNOWN = ["fuse", "fuse.sshfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.of-tomorrow"]
REFUSED = sorted(NETWORK_FILESYSTEMS) + sorted(SHARED_WITH_HOST) + UNKNOWN
DISKS = ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", *sorted(LOCAL_FUSE)]


def mounted(folder: Path, *, kind: str, at: str) -> Path:
    """A table with a disk as root, and one file system more."""
    path = folder / "mounts"
    path.write_text(f"/dev/vda / ext4 rw 0 0\nsome {at} {kind} rw 0 0\n")
    return path


@pytest.mark.parametrize("kind", REFUSED)
def test_what_others_may_write_to_as_well_is_refused_by_its_kind(tmp_path, kind):
    mounts = mounted(tmp_path, kind=kind, at="/data")
    with pytest.raises(StoreError, match=rf"/data/state lies on .*\({kind}\).*--conf state_dir"):
        refuse_network_filesystem(Path("/data/state"), mounts=mounts)
    refuse_network_filesystem(Path("/elsewhere"), mounts=mounts)


@pytest.mark.parametrize("kind", DISKS)
def test_every_kind_of_local_disk_is_accepted(tmp_path, kind):
    mounts = mounted(tmp_path, kind=kind, at="/data")
    refuse_network_filesystem(Path("/data/state"), mounts=mounts)


@pytest.mark.parametrize("kind", sorted(SHARED_WITH_HOST))
def test_a_sandboxed_container_may_use_its_own_root(tmp_path, kind):
    mounts = mounted(tmp_path, kind=kind, at="/")
    refuse_network_filesystem(Path("/var/state"), mounts=mounts)


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs"])
def test_a_root_that_comes_over_the_network_is_refused(tmp_path, kind):
    mounts = mounted(tmp_path, kind=kind, at="/")
    with pytest.raises(StoreError, match=rf"\({kind}\)"):
        refuse_network_filesystem(Path("/var/state"), mounts=mounts)


def test_without_a_table_of_mounts_nothing_is_refused(tmp_path):
    refuse_network_filesystem(Path("/home/ann"), mounts=tmp_path / "no such file")


def test_opening_a_store_looks_at_the_file_system_first(state_dir, monkeypatch):
    def refuse(path: Path) -> None:
        raise StoreError("network")

    monkeypatch.setattr("fair_strategy.store.statedir.refuse_network_filesystem", refuse)
    with pytest.raises(StoreError, match="network"):
        Store.open(state_dir)
    assert not state_dir.exists()


def test_a_state_directory_that_cannot_be_made_is_an_error_with_its_name(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/state cannot be made private.*--conf state_dir"):
        Store.open(tmp_path / "file" / "state")


def test_a_second_hold_is_refused_and_names_the_first_process(state_dir, empty):
    with (
        hold(state_dir),
        pytest.raises(ServerRunning, match=rf"held by process {os.getpid()}\b.*one server"),
    ):
        hold(state_dir)


def test_a_released_hold_can_be_taken_again(state_dir, empty):
    lock = hold(state_dir)
    assert held_here(state_dir)
    lock.release()
    lock.release()
    assert not held_here(state_dir)
    with hold(state_dir):
        assert held_here(state_dir)


def test_another_process_is_refused_until_the_holder_dies(state_dir, empty):
    ready, done = forked.Pipe()

    def child() -> None:
        hold(state_dir)
        done.send("held")
        done.recv()

    process = forked.Process(target=child)
    process.start()
    assert ready.recv() == "held"
    with pytest.raises(ServerRunning, match=f"held by process {process.pid}"):
        hold(state_dir)
    process.kill()
    process.join()
    hold(state_dir).release()
