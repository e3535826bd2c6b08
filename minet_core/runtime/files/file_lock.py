"""Locks on files by flock: the kernel lets go of them when a process ends, however that was.

They belong to the file, not to its name, and know nothing of process numbers: two containers on one machine that have
the same file see each other's locks.

Some shares have no locks (NFS without its lock service, CIFS, several FUSE file systems). There a file beside the
locked one stands for the lock (`minet_core.runtime.files.lock_beside`), and a warning says so once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from minet_core.errors import FileLockFailed
from minet_core.runtime.files.file_failures import naming_failures
from minet_core.runtime.files.lock_beside import LockBeside

_LOOK_AGAIN_S = 0.02
_HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
"""That another holds the lock; EACCES is how CIFS and POSIX's own locks may say it (fcntl(2))."""
_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
"""That there are no locks here. EBADF: what NFS says of a file open for reading."""

_beside: dict[int, LockBeside] = {}
"""By descriptor, what stands for its lock."""
_said: set[Path] = set()


def locked_within(descriptor: int, patience_s: float | None, *, of_posix: bool = False) -> bool:
    """Take the lock of a file if it is free within some time.

    Whoever asks whether it is taken holds it for a moment. `let_go` ends it.

    Parameters
    ----------
    descriptor
        Of the open file.
    patience_s
        Seconds; None waits for ever.
    of_posix
        A lock of lockf's, the process's alone, which its children do not share.

    Returns
    -------
    bool
        Whether this process has the lock now.

    Raises
    ------
    FileLockFailed
        FM-S515, where the file system answers with another error than that the lock is held, or that it has none.
    """
    ends = None if patience_s is None else time.monotonic() + patience_s
    while True:
        if _taken(descriptor, wait=patience_s is None, of_posix=of_posix):
            return True
        if ends is not None and time.monotonic() > ends:
            return False
        time.sleep(_LOOK_AGAIN_S)


def let_go(descriptor: int) -> None:
    """Close a file, and so let go of its lock.

    Parameters
    ----------
    descriptor
        Of the open file, which `locked_within` may have locked.
    """
    with let_go_at_end(descriptor):
        os.close(descriptor)


@contextlib.contextmanager
def let_go_at_end(descriptor: int) -> Iterator[None]:
    """For a file that is closed by others after the block: what stands for its lock goes too.

    Parameters
    ----------
    descriptor
        Of the file; it may be closed by the end of the block.
    """
    try:
        yield
    finally:
        beside = _beside.pop(descriptor, None)
        if beside is not None:
            beside.remove()


@contextlib.contextmanager
def held(path: Path, *, patience_s: float | None = 0.0) -> Iterator[bool]:
    """Hold the lock of a file for the block.

    Parameters
    ----------
    path
        Of the file; made where it is not there.
    patience_s
        Seconds to wait for another process; None waits for ever.

    Yields
    ------
    bool
        False where another process keeps the lock for longer.

    Raises
    ------
    FileNotWritten
        FM-S509 or its kinds, where the file cannot be opened.
    FileLockFailed
        FM-S515, as `locked_within`.
    """
    with naming_failures(f"{path} could not be opened", path=path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield locked_within(descriptor, patience_s)
    finally:
        let_go(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock of a file.

    Parameters
    ----------
    path
        Of the file; it may be on a file system that is read only here.

    Returns
    -------
    bool
        False where there is no file.

    Raises
    ------
    FileLockFailed
        FM-S515, where the file system answers with another error.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as failure:
        if failure.errno in _HELD:
            return True
        if failure.errno not in _UNSUPPORTED:
            raise _failed(failure, path) from failure
    finally:
        os.close(descriptor)
    return LockBeside(path).is_held()


def _taken(descriptor: int, *, wait: bool, of_posix: bool) -> bool:
    lock = fcntl.lockf if of_posix else fcntl.flock
    try:
        lock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as failure:
        if failure.errno in _HELD:
            return False
        path = _path_of(descriptor)
        if failure.errno not in _UNSUPPORTED or path is None:
            raise _failed(failure, path) from failure
    else:
        return True
    beside = LockBeside(path)
    with naming_failures(f"{path} could not be locked", path=path):
        if not beside.take():
            return False
    _beside[descriptor] = beside
    if path.parent not in _said:
        _said.add(path.parent)
        logging.getLogger(__name__).warning(
            "The file system of %s has no file locks: %s stands for one. Use it from one machine at a time.",
            path.parent,
            beside.path.name,
        )
    return True


def _path_of(descriptor: int) -> Path | None:
    """The file that a descriptor is of; None where it has no name any more."""
    path = Path(f"/proc/self/fd/{descriptor}").readlink()
    return path if path.exists() else None


def _failed(failure: OSError, path: Path | None) -> FileLockFailed:
    return FileLockFailed(
        f"{path} could not be locked",
        got=failure.strerror or failure,
        action="Look at the disk or the share; nobody else holds the lock",
    )
