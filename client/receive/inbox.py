"""The inbox: one file an object, whole or not there, named by a keyed hash of the object's identifier.

    inbox/arriving            what is being written; emptied when a receiver starts
    inbox/received            what came and no ingest has taken up
    inbox/ingesting/STUDY     what an ingest works on; back in `received` where it was ended before its time
    inbox/refused/STUDY       what an ingest refused, until objects of that study come again or a person looks
    inbox/taken/STUDY         what the store has, for the days that site.yaml says, and the list of its objects for ever

Folders are 0700, files 0600. An object that arrives again takes the place of its own file: the name is the same, and
the change is one rename. From folder to folder files go by renames alone, and `client.receive.drain` is who moves them.
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
        self.folder, self.key = folder, key
        self.received, self._arriving = folder / "received", folder / "arriving"
        self.ingesting, self.refused, self.taken = folder / "ingesting", folder / "refused", folder / "taken"

    def make_folders(self) -> None:
        """Make what is not there, for its owner alone. Raises FileNotWritten (FM-S509) or its kind."""
        with naming_failures("the inbox cannot be written to", path=self.folder):
            for folder in (
                self.folder,
                self.received,
                self._arriving,
                self.ingesting,
                self.refused,
                self.taken,
            ):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                folder.chmod(0o700)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the inbox for one receiver. Raises RunBusy (FM-S507); FileNotWritten (FM-S509) or its kind."""
        self.make_folders()
        with (
            naming_failures("the inbox cannot be written to", path=self.folder),
            held(self.folder / ".lock") as taken,
        ):
            if not taken:
                raise RunBusy("another receiver holds the inbox", action="End it, or go on with it")
            for half in self._arriving.iterdir():
                half.unlink()
            yield

    def name_of(self, instance: str) -> str:
        """The file's name for a SOP Instance UID."""
        return f"{keyed(self.key, 'object', instance)[:NAME_DIGITS]}.dcm"

    def find(self, instance: str) -> Path | None:
        """Where the object of a SOP Instance UID lies."""
        name = self.name_of(instance)
        for _ in range(2):  # an ingest may move it between two looks
            if (self.received / name).is_file():
                return self.received / name
            for folder in (self.ingesting, self.refused, self.taken):
                for study in folder.iterdir():
                    if (study / name).is_file():
                        return study / name
        return None

    def put(self, instance: str, content: bytes) -> None:
        """Write an object; it is on the disk, under its name, when this returns. Raises OSError."""
        temporary = self._arriving / uuid.uuid4().hex
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self.received / self.name_of(instance))
            fsync_folder(self.received)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """Room on the inbox's disk."""
        return shutil.disk_usage(self.received).free


def fsync_folder(folder: Path) -> None:
    """Have what was renamed into or out of a folder on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
