"""What a machine's other users may not read: the folders of the coordinator and of a site.

Every command that writes into one sets the umask first, and every process that one starts has it from its start
(minet_core.runtime.processes.child_processes). A folder from before is tightened when its owner's process starts.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from minet_core.errors import InvalidSetting

PRIVATE_UMASK = 0o077
OTHERS = stat.S_IRWXG | stat.S_IRWXO
"""The rights of the group and of everybody."""


def stay_private() -> None:
    """From now on, whatever this process and its children make is for its own user alone."""
    os.umask(PRIVATE_UMASK)


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """Make files for this user alone until the context is left; of the whole process, all threads included."""
    former = os.umask(PRIVATE_UMASK)
    try:
        yield
    finally:
        os.umask(former)


def tighten(folder: Path, *, linked: Collection[str] = ()) -> int:
    """Remove other users' rights to a folder and to all that is in it.

    What is another user's, or on a file system that is read only here, stays as it is: see `open_to_others`.

    Parameters
    ----------
    folder
        Of this user.
    linked
        Names in it that are followed where they are links, as of a folder that was put onto another disk; no other
        link is.

    Returns
    -------
    int
        How many things others had rights to.
    """
    changed = 0
    for path in _own(folder, linked):
        with contextlib.suppress(OSError):  # gone meanwhile; or see above
            mode = stat.S_IMODE(path.lstat().st_mode)
            if mode & OTHERS:
                path.chmod(mode & ~OTHERS)
                changed += 1
    return changed


def open_to_others(*paths: Path) -> list[Path]:
    """Which of these files and folders another user of the machine may read, write or enter.

    Parameters
    ----------
    *paths
        Those that are not there are passed over.

    Returns
    -------
    list of Path
        In their order.
    """
    found = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_IMODE(path.stat().st_mode) & OTHERS:
                found.append(path)
    return found


def require_secret_file(path: Path, *, what: str) -> None:
    """Refuse a file with a secret that another user of the machine can read or replace.

    A group's right counts for nobody where the file is root's and the group this process's own: so a cluster hands
    secrets over.

    Parameters
    ----------
    path
        Of the file.
    what
        The secret, for the message.

    Raises
    ------
    InvalidSetting
        FM-C102, for rights that go further.
    """
    facts = path.stat()
    handed_over = facts.st_uid == 0 and facts.st_gid in (os.getegid(), *os.getgroups()) and os.geteuid() != 0
    refused = stat.S_IRWXO | (stat.S_IWGRP if handed_over else stat.S_IRWXG)
    if stat.S_IMODE(facts.st_mode) & refused:
        raise InvalidSetting(
            f"other users of this machine can read {what}",
            got=f"{path}, mode {stat.S_IMODE(facts.st_mode):04o}",
            expected="mode 0600 or 0400",
            action=f"Run `chmod 600 {path}`, and take another secret where others may have read it",
        )


def _own(folder: Path, linked: Collection[str]) -> Iterator[Path]:
    """The folder, and what is below it; a link itself has no mode of its own."""
    yield folder
    tops = [folder, *(folder / name for name in linked if (folder / name).is_symlink())]
    for top in tops:
        if top != folder and top.is_dir():
            yield top.resolve()
        for parent, folders, files in os.walk(top):
            for name in (*folders, *files):
                path = Path(parent) / name
                if not path.is_symlink():
                    yield path
