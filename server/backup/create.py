"""A back-up of the coordinator's folder in one file, also while the server runs.

The file is a plain tar archive, readable by its owner alone. Its last member, back-up.json, names the SHA-256 of every
other one: a file without it was cut off. The member before, back-up.sig, is a signature over it
(server.backup.signature). Not in it: the logs, Flower's own folder, the proxy's copies, locks, halves of files, the key
that signs it.

How it is consistent while the server runs:

- a run's state stands still while its folder is copied (server.runs.run_directory), and what is written beside it
  meanwhile is what a server application that was killed leaves: it is mended when the run goes on. A reply's page is
  copied before its tensors, which are written before it.
- keys, admissions and revocations are read while none is made, and written afterwards: a revocation never waits for
  whoever takes the back-up.
- the SuperLink's database is copied last, by SQLite itself: a copy of its file alone lacks what is in its log. So
  every run that is in the back-up is in the database too.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from pydantic import AwareDatetime, Field, NonNegativeInt

from minet_core.admission.fingerprints import authority_fingerprint
from minet_core.admission.kit import read_authority
from minet_core.errors import ConfigurationError, FileMissing
from minet_core.runtime.files.atomic_write import replacing, status_of
from minet_core.runtime.versions import versions
from minet_core.settings.names import Digest
from minet_core.settings.yaml_file import Settings
from server.admission.pki import BACKUP_KEY_FILE, ca_files, settle_server_key
from server.admission.revocation import changing
from server.backup.database import copied_database
from server.backup.signature import SIGNATURE_FILE, require_backup_key, signed
from server.flower.file_names import CREDENTIAL_FILE
from server.runs.run_directory import RunDirectory
from server.server_home import ServerHome

CONTENTS_FILE = "back-up.json"
DATABASE = PurePosixPath("superlink/state.db")

LEFT_OUT = frozenset({"logs", "proxy", "superlink/flwr"})
"""Written anew by a started server."""

NEVER_LEAVE = frozenset({f"pki/{BACKUP_KEY_FILE}", f"pki/{CREDENTIAL_FILE}"})
"""What signs back-ups, and what opens the SuperLink that runs now: each is made anew."""

_LOCKS = frozenset({".lock", "events.lock", "state.lock", "submission.lock"})
_DATABASE_FILES = frozenset(f"{DATABASE}{end}" for end in ("", "-wal", "-shm", "-journal"))


class StoredFile(Settings):
    """What back-up.json says of a file."""

    sha256: Digest
    n_bytes: NonNegativeInt


class Contents(Settings):
    """`back-up.json`."""

    form: Literal["fedminet back-up 1"] = "fedminet back-up 1"
    federation: str = Field(description="the federation's name")
    authority: str = Field(description="fingerprint of the federation's authority")
    made_at: AwareDatetime = Field(description="when the back-up was finished")
    versions: dict[str, str] = Field(description="of fedminet and of what it stands on")
    runs: tuple[str, ...] = Field(description="names of the runs in it")
    files: dict[str, StoredFile] = Field(description="by its path in the coordinator's folder")


@dataclass
class _Archive:
    """An archive that is being written, and the digests of what is in it."""

    tar: tarfile.TarFile
    files: dict[str, StoredFile] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)

    def add(self, path: Path, name: PurePosixPath, *, mode: int | None = None) -> None:
        """Add the file as it is now; one that has gone meanwhile is left out, one that grows is cut at its size now."""
        if str(name) in self.files:
            return
        with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
            self._put(_member(name, os.fstat(stream.fileno()), mode=mode), stream)

    def add_folder(self, path: Path, name: PurePosixPath) -> None:
        """Add a folder without what is in it; one that has gone meanwhile is left out."""
        if str(name) in self.folders:
            return
        facts = status_of(path)
        if facts is not None:
            self._put_folder(_member(name, facts))

    def add_tree(self, home: ServerHome, top: Path, *, ending: str = "") -> None:
        """Add what is below `top`, beside what is left out; of its files those alone that end with `ending`."""
        for folder, names in _walk(home, top):
            if folder != home.path:
                self.add_folder(folder, _name(home, folder))
            for name in names:
                if name.endswith(ending):
                    self.add(folder / name, _name(home, folder / name))

    def add_held(self, held: _Held) -> None:
        """Add what was read before."""
        for member in held.folders:
            self._put_folder(member)
        for member, content in held.files:
            self._put(member, io.BytesIO(content))

    def _put(self, member: tarfile.TarInfo, stream: IO[bytes]) -> None:
        reader = _Hashing(stream)
        self.tar.addfile(member, reader)
        self.files[member.name] = StoredFile(sha256=reader.hexdigest(), n_bytes=member.size)

    def _put_folder(self, member: tarfile.TarInfo) -> None:
        member.type, member.size = tarfile.DIRTYPE, 0
        self.tar.addfile(member)
        self.folders.add(member.name)


@dataclass
class _Held:
    """Folders with their files' content, as of one moment. For small ones: into a slow pipe a back-up takes hours."""

    folders: list[tarfile.TarInfo] = field(default_factory=list)
    files: list[tuple[tarfile.TarInfo, bytes]] = field(default_factory=list)

    @classmethod
    def of(cls, home: ServerHome, *tops: Path) -> _Held:
        held = cls()
        for top in tops:
            for folder, names in _walk(home, top):
                held.folders.append(_member(_name(home, folder), folder.stat()))
                for name in names:
                    with (folder / name).open("rb") as stream:
                        facts = os.fstat(stream.fileno())
                        content = stream.read(facts.st_size)
                    held.files.append((_member(_name(home, folder / name), facts), content))
        return held


class _Hashing(io.RawIOBase):
    """A stream that is hashed while it is read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, n_bytes: int = -1) -> bytes:
        block = self._stream.read(n_bytes)
        self._digest.update(block)
        return block

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def back_up(home: ServerHome, file: Path) -> Contents:
    """Write the back-up of `home` to the new file `file`.

    Raises ConfigurationError (FM-C100) where the file is there already or lies in the coordinator's folder, FileMissing
    (FM-C103) where its folder is not there, DiskFull (FM-S504), HostError (FM-S500) where the SuperLink's database
    cannot be read.
    """
    if file.exists():
        raise ConfigurationError(
            "a file is already here", got=file, action="Choose another name; no back-up is overwritten"
        )
    if file.resolve().is_relative_to(home.path):
        raise ConfigurationError(
            "the back-up would lie in the folder that it is of",
            got=file,
            action="Name a file on another disk",
        )
    # Made here, it would lie on this disk where another one is not mounted.
    if not file.resolve().parent.is_dir():
        raise FileMissing(
            "the folder for the back-up is missing",
            got=file.parent,
            expected="a folder that is there, best on another disk",
            action="Mount the disk that it is on, or make the folder",
        )
    with replacing(file) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            contents = back_up_to(home, stream, beside=temporary)
    return contents


def back_up_to(home: ServerHome, stream: IO[bytes], *, beside: Path | None = None) -> Contents:
    """Write the back-up of `home` to a stream, as where a container sees no other disk.

    beside: the file beside which the database is copied first; else in the coordinator's folder.
    """
    with tarfile.open(fileobj=stream, mode="w|") as tar:
        return _written(home, _Archive(tar), beside=beside or home.path / DATABASE)


def _written(home: ServerHome, archive: _Archive, *, beside: Path) -> Contents:
    require_backup_key(home.pki)
    runs = tuple(path.parent.name for path in sorted(home.runs.glob("*/state.json")))
    for name in runs:
        run = RunDirectory(home.runs / name)
        with run.lock("submission"), run.lock("state"):
            archive.add_tree(home, run.path, ending=".json")
            archive.add_tree(home, run.path)
    with changing(home.pki):
        settle_server_key(home.pki)
        held = _Held.of(home, home.pki, home.sites)
    archive.add_held(held)
    archive.add_tree(home, home.path)
    _add_database(home, archive, beside=beside)
    contents = Contents(
        federation=home.federation().name,
        authority=authority_fingerprint(read_authority(ca_files(home.pki).certificate)),
        made_at=datetime.datetime.now(datetime.UTC),
        versions=versions(),
        runs=runs,
        files=archive.files,
    )
    page = (json.dumps(contents.model_dump(mode="json"), indent=2) + "\n").encode()
    for name, content in ((SIGNATURE_FILE, signed(home.pki, page)), (CONTENTS_FILE, page)):
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = len(content), 0o600, int(contents.made_at.timestamp())
        archive.tar.addfile(member, io.BytesIO(content))
    return contents


def _add_database(home: ServerHome, archive: _Archive, *, beside: Path) -> None:
    """The SuperLink's database as of one moment, whoever writes to it meanwhile; none before the first start."""
    database = home.path / DATABASE
    if database.is_file():
        with copied_database(database, beside=beside) as copy:
            archive.add(copy, DATABASE, mode=0o600)


def _walk(home: ServerHome, top: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder from `top` on, with the names of its files. Runs without a state are none.

    Links are followed, but for one that leads back to a folder on its own way: that one is there already.
    """
    for path, folders, names in os.walk(top, followlinks=True):
        folder = Path(path)
        way = {above.resolve() for above in (folder, *folder.parents)}
        folders[:] = sorted(
            name
            for name in folders
            if str(_name(home, folder / name)) not in LEFT_OUT and (folder / name).resolve() not in way
        )
        if folder == home.runs:
            folders[:] = []  # each is copied by itself, under its locks
        if folder == home.path:
            folders[:] = [
                name for name in folders if folder / name not in (home.pki, home.sites)
            ]  # as of one moment
        yield folder, sorted(name for name in names if _belongs(folder / name, _name(home, folder / name)))


def _belongs(path: Path, name: PurePosixPath) -> bool:
    if str(name) in _DATABASE_FILES | NEVER_LEAVE or path.name in _LOCKS:
        return False
    return path.is_file() and not (path.name.startswith(".") and path.name.endswith(".partial"))


def _name(home: ServerHome, path: Path) -> PurePosixPath:
    return PurePosixPath(path.relative_to(home.path))


def _member(name: PurePosixPath, facts: os.stat_result, *, mode: int | None = None) -> tarfile.TarInfo:
    """No name and no number of a user: a back-up belongs to whoever restores it."""
    member = tarfile.TarInfo(str(name))
    member.size, member.mtime = facts.st_size, int(facts.st_mtime)
    member.mode = stat.S_IMODE(facts.st_mode) if mode is None else mode
    return member
