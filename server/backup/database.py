"""A copy of the SuperLink's database as of one moment, made by SQLite itself while others write to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from minet_core.errors import DiskFull, HostError

_PATIENCE_S = 60.0
_PRIMARY = 0xFF
"""SQLite's extended codes have the kind of an error in their lowest byte."""


@contextlib.contextmanager
def copied_database(database: Path, *, beside: Path) -> Iterator[Path]:
    """A whole copy of `database` in the folder of `beside`, which is removed when the context ends.

    Raises DiskFull (FM-S504) where the copy has no room, HostError (FM-S500) where the database cannot be read.
    """
    copy = beside.with_name(f".database.{os.getpid()}.partial")
    try:
        os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            _copy(database, copy)
        except sqlite3.Error as failure:
            raise _named(failure, copy) from failure
        yield copy
    finally:
        for end in ("", "-wal", "-shm", "-journal"):
            copy.with_name(copy.name + end).unlink(missing_ok=True)


def _copy(database: Path, copy: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(database, timeout=_PATIENCE_S)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)


def _named(failure: sqlite3.Error, copy: Path) -> HostError:
    """SQLite writes to the copy alone: what has no room is that, and not the database."""
    if getattr(failure, "sqlite_errorcode", 0) & _PRIMARY == sqlite3.SQLITE_FULL:
        return DiskFull(
            f"the database could not be copied into {copy.parent}",
            got="No space left on device",
            action="Make room there, or have the quota raised",
        )
    return HostError(
        "the SuperLink's database cannot be read",
        got=failure,
        action="Look at the disk; where the file is damaged, restore the last back-up",
    )
