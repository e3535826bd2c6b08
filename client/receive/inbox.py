"""The inbox: one file an object, whole or not there, named by a keyed hash of the object's identifier.

    inbox/received   what ingest reads; folders 0700, files 0600
    inbox/arriving   what is being written; emptied when a receiver starts

An object that arrives again takes the place of its own file: the name is the same, and the change is one rename.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from minet_core.errors import RunBusy
from minet_core.runtime.files.file_failures import naming_failures
from minet_core.runtime.files.file_lock import held
from sites.store.pseudonym import keyed

NAME_DIGITS = 40


class Inbox:
    """The inbox of a site. key: the store's."""

    def __init__(self, folder: Path, *, key: bytes) -> None:
        self.received, self._arriving = folder / "received", folder / "arriving"
        self._lock, self._key = folder / ".lock", key

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the inbox for one receiver. Raises RunBusy (FM-S507); FileNotWritten (FM-S509) or its kind."""
        with naming_failures("the inbox cannot be written to", path=self._lock.parent):
            for folder in (self._lock.parent, self.received, self._arriving):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                folder.chmod(0o700)
            with held(self._lock) as taken:
                if not taken:
                    raise RunBusy("another receiver holds the inbox", action="End it, or go on with it")
                for half in self._arriving.iterdir():
                    half.unlink()
                yield

    def path_of(self, instance: str) -> Path:
        """Where the object of a SOP Instance UID lies, or would."""
        return self.received / f"{keyed(self._key, 'object', instance)[:NAME_DIGITS]}.dcm"

    def put(self, instance: str, content: bytes) -> None:
        """Write an object; it is on the disk, under its name, when this returns. Raises OSError."""
        temporary = self._arriving / uuid.uuid4().hex
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self.path_of(instance))
            _fsync_folder(self.received)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """Room on the inbox's disk."""
        return shutil.disk_usage(self.received).free


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
