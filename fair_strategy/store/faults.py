"""What the disk or the database cannot do now, as a sentence; other errors are faults of ours."""

import errno
import sqlite3
from collections.abc import Mapping

_FULL = "the disk is full; free some space, then do it again"
_NO_ACCESS = "the server has no right to it, or the disk is read-only; the study lead sees to it"

_DISK: Mapping[int, str] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "the file is larger than this server may write",
    errno.EROFS: _NO_ACCESS,
    errno.EACCES: _NO_ACCESS,
    errno.EPERM: _NO_ACCESS,
    errno.EIO: "the disk fails; the study lead sees to it",
}

_DAMAGED = "the study's database is damaged; a restart of the server puts the newest copy in place"
_BUSY = "another process has locked the study's database; do it again in a moment"

_DATABASE: Mapping[int, str] = {
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _NO_ACCESS,
    sqlite3.SQLITE_CANTOPEN: "the study's database cannot be opened; the study lead sees to it",
    sqlite3.SQLITE_IOERR: "the disk under the study's database fails, or is full",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}


def storage_fault(error: BaseException) -> str | None:
    """Why the disk or the database did not do what was asked, and what to do; no path, no value.

    Returns:
        None if the error tells of something else.
    """
    reason = None
    if isinstance(error, sqlite3.Error):
        reason = _DATABASE.get((getattr(error, "sqlite_errorcode", None) or 0) & 0xFF)
    elif isinstance(error, OSError) and error.errno is not None:
        reason = _DISK.get(error.errno)
    return None if reason is None else f"not done: {reason}"
