"""What the operating system says of a file, as a failure with a code, its cause and what to do about it."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from minet_core.errors import (
    DiskFull,
    FileNotWritten,
    FilePermission,
    FileSystemFailed,
    FileSystemReadOnly,
    PathMissing,
    PathUnusable,
    TooManyOpenFiles,
)

_KINDS: dict[type[FileNotWritten], tuple[tuple[int, ...], str]] = {
    DiskFull: ((errno.ENOSPC, errno.EDQUOT), "Make room, or have the quota raised"),
    FilePermission: (
        (errno.EACCES, errno.EPERM),
        "Give the command as the owner, or give this user the right to it",
    ),
    FileSystemReadOnly: ((errno.EROFS,), "Mount it for writing, or choose another folder"),
    PathMissing: ((errno.ENOENT,), "Look who removed it, mount the share that it is on, or correct the path"),
    PathUnusable: (
        (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EEXIST),
        "Choose another path, or remove what is in its way",
    ),
    TooManyOpenFiles: ((errno.EMFILE, errno.ENFILE), "Raise the limit (ulimit -n), or end other processes"),
    FileSystemFailed: (
        (
            errno.EIO,
            errno.ESTALE,
            errno.ENXIO,
            errno.ENODEV,
            errno.ETIMEDOUT,
            errno.EHOSTDOWN,
            errno.ENOTCONN,
        ),
        "Look at the disk or the share, mount it again, and repeat the command",
    ),
}


def failure_of(failure: OSError, what: str, *, path: Path) -> FileNotWritten:
    """The failure that an OSError stands for.

    Parameters
    ----------
    failure
        As the operating system gave it.
    what
        What could not be done, in one clause with its path.
    path
        The file; said is the file that the error itself names, where it names one.

    Returns
    -------
    FileNotWritten
        Or its kind, to be raised by the caller.
    """
    kind = next((kind for kind, (numbers, _) in _KINDS.items() if failure.errno in numbers), FileNotWritten)
    action = action_for(failure) or "Look at the file's owner and the disk"
    return kind(what, got=cause_of(failure, path=path), action=action)


def cause_of(failure: OSError, *, path: Path) -> str:
    """The operating system's words; for a refused permission with whose the file is and who asked.

    Parameters
    ----------
    failure
        As the operating system gave it.
    path
        The file, where the error names none.

    Returns
    -------
    str
        Part of a sentence.
    """
    words = failure.strerror or str(failure)
    named = failure.filename2 or failure.filename
    culprit = Path(os.fsdecode(named)) if isinstance(named, str | bytes) else path
    if failure.errno in (errno.EACCES, errno.EPERM):
        return f"{words}{_owner_of(culprit)}"
    return words if culprit == path else f"{words}: {culprit}"


def action_for(failure: OSError) -> str | None:
    """What to do about an OSError.

    Parameters
    ----------
    failure
        As the operating system gave it.

    Returns
    -------
    str or None
        An imperative sentence; None where nothing is known of its kind.
    """
    return next((action for numbers, action in _KINDS.values() if failure.errno in numbers), None)


@contextlib.contextmanager
def naming_failures(what: str, *, path: Path) -> Iterator[None]:
    """Turn every OSError of the block into the failure that it stands for.

    Parameters
    ----------
    what
        What could not be done, in one clause with its path.
    path
        The file that the block works on.

    Raises
    ------
    FileNotWritten
        FM-S509, or its kind.
    """
    try:
        yield
    except OSError as failure:
        raise failure_of(failure, what, path=path) from failure


def _owner_of(path: Path) -> str:
    """Whose the file is, or the nearest folder above it that this user may look at, and who this user is."""
    for place in (path, *path.parents):
        try:
            status = place.stat()
        except OSError:
            continue
        mode = stat.S_IMODE(status.st_mode)
        return f": {place} is {_user(status.st_uid)}'s, mode {mode:04o}; this is {_user(os.geteuid())}"
    return f": {path}"


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:  # as in a container
        return f"user {number}"
