"""Making a coordinator's folder from its back-up: see server.backup.create.

Nothing is put into place before all of it was verified: every file by its digest, the list of the digests by its
signature (server.backup.signature), the settings, the keys that belong together, and the SuperLink's database. The
signature says that this authority's coordinator made it; whether it is the right authority says its fingerprint alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from minet_core.admission.fingerprints import authority_fingerprint
from minet_core.admission.kit import read_authority
from minet_core.errors import BackupDamaged, ConfigurationError, FileMissing
from minet_core.runtime.files.file_failures import failure_of
from minet_core.runtime.files.file_lock import is_locked, let_go, locked_within
from minet_core.runtime.json_text import parse_json
from minet_core.settings.yaml_file import parse_settings
from server.admission.pki import ca_files, server_files
from server.backup.create import CONTENTS_FILE, DATABASE, Contents, StoredFile
from server.backup.signature import MAX_SIGNATURE_BYTES, SIGNATURE_FILE, require_signature
from server.flower.bundle import read_bundle
from server.flower.file_names import BUNDLE_FILE
from server.server_home import ServerHome

_BLOCK_BYTES = 1 << 20
_MAX_CONTENTS_BYTES = 1 << 28
_MADE_AGAIN = ("logs", "proxy")
_ANOTHER = "Use another back-up"

Agree = Callable[[ServerHome, Contents, bool], None]
"""Given the folder as it would be, what the back-up says of itself, and whether it is signed."""


def restore(
    file: Path, path: Path, *, agree: Agree | None = None, accept_unsigned: bool = False
) -> tuple[ServerHome, Contents]:
    """Make the coordinator's folder `path` from the back-up `file`; what is in it, and the folder.

    agree: is given the verified folder before it is put into place, and raises where it is not to be.
    accept_unsigned: for a back-up of an earlier version; one that is signed is held to it all the same.

    The folder can be read by its owner alone; a file gets the mode that it had for him. Raises FileMissing (FM-C103),
    ConfigurationError (FM-C100) where `path` holds anything, BackupDamaged (FM-S508), DiskFull (FM-S504).
    """
    if not file.is_file():
        raise FileMissing("the back-up is missing", got=file)
    with file.open("rb") as stream:
        return restore_from(stream, path, agree=agree, accept_unsigned=accept_unsigned)


def restore_from(
    stream: IO[bytes], path: Path, *, agree: Agree | None = None, accept_unsigned: bool = False
) -> tuple[ServerHome, Contents]:
    """As `restore`, from a stream that is read once."""
    _require_free(path)
    # An empty folder may be a container's volume, which nothing can take the place of.
    half = (path if path.exists() else path.parent) / f".{path.name}.{os.getpid()}.partial"
    at_work = None
    try:
        half.mkdir(mode=0o700, parents=True)
        at_work = os.open(half, os.O_RDONLY)
        locked_within(at_work, None)
        unpacked = _unpacked(stream, half)
        contents = unpacked.contents
        for name in _MADE_AGAIN:
            (half / name).mkdir(exist_ok=True)
        _require_usable(ServerHome.at(half), contents)
        _require_signed(half / "pki", unpacked, accept_unsigned=accept_unsigned)
        if agree is not None:
            agree(ServerHome.at(half), contents, unpacked.signature is not None)
        _put_into_place(half, path)
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as failure:
        raise BackupDamaged("the back-up cannot be read", got=failure, action=_ANOTHER) from failure
    except OSError as failure:
        raise failure_of(failure, f"the back-up could not be written to {path}", path=path) from failure
    finally:
        shutil.rmtree(half, ignore_errors=True)
        if at_work is not None:
            let_go(at_work)
    return ServerHome.at(path), contents


def _require_free(path: Path) -> None:
    """Raise ConfigurationError (FM-C100) where anything is at `path`, but for what a restore that was killed left."""
    if not path.exists():
        return
    halves = [half for half in path.glob(f".{path.name}.*.partial") if half.is_dir()]
    if not path.is_dir() or set(path.iterdir()) - set(halves) or any(map(is_locked, halves)):
        raise ConfigurationError(
            "something is already here", got=path, action="Choose a new folder; nothing is overwritten"
        )
    for half in halves:
        shutil.rmtree(half)


def _put_into_place(half: Path, path: Path) -> None:
    """In one step; into an empty folder one by one, with the file last by which a coordinator's folder is known."""
    if half.parent != path:
        half.rename(path)
        return
    with contextlib.suppress(PermissionError):  # a volume that is another user's
        path.chmod(0o700)
    for child in sorted(half.iterdir(), key=lambda child: child.name == "server.yaml"):
        child.rename(path / child.name)


@dataclass(frozen=True)
class _Unpacked:
    """The back-up's list, its bytes, and the signature over them; None where there is none."""

    contents: Contents
    page: bytes
    signature: bytes | None


def _require_signed(pki: Path, unpacked: _Unpacked, *, accept_unsigned: bool) -> None:
    if unpacked.signature is not None:
        require_signature(pki, unpacked.page, unpacked.signature)
    elif not accept_unsigned:
        raise BackupDamaged(
            "the back-up is not signed",
            expected=SIGNATURE_FILE,
            action="Use another one; --accept-unsigned is for a back-up of an earlier version whose way you know",
        )


def _unpacked(stream: IO[bytes], folder: Path) -> _Unpacked:
    """Write every member below `folder`, durably, and hold it to the back-up's own list."""
    found: dict[str, StoredFile] = {}
    contents: Contents | None = None
    page, signature = b"", None
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            if contents is not None:
                raise BackupDamaged("the back-up goes on after its end", got=member.name, action=_ANOTHER)
            if member.name == CONTENTS_FILE and member.isreg():
                page = _read(tar, member, max_bytes=_MAX_CONTENTS_BYTES)
                contents = _contents_of(page)
                continue
            if member.name == SIGNATURE_FILE and member.isreg() and signature is None:
                signature = _read(tar, member, max_bytes=MAX_SIGNATURE_BYTES)
                continue
            target = folder / _safe(member)
            if target.exists() and not (member.isdir() and target.is_dir()):
                raise BackupDamaged("a name is in the back-up twice", got=member.name, action=_ANOTHER)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                target.chmod(0o700)
            else:
                found[member.name] = _write(tar, member, target)
    if contents is None:
        raise BackupDamaged("the back-up was cut off", got=f"no {CONTENTS_FILE}", action=_ANOTHER)
    listed = contents.files
    wrong = {name for name in found.keys() | listed.keys() if found.get(name) != listed.get(name)}
    if wrong:
        raise BackupDamaged(
            "a file of the back-up is not as it was", got=", ".join(sorted(wrong)[:3]), action=_ANOTHER
        )
    return _Unpacked(contents, page, signature)


def _safe(member: tarfile.TarInfo) -> PurePosixPath:
    """The member's path, which leads nowhere else; a back-up holds files and folders, each once.

    A sparse file is none of ours: some bytes of it may say that it fills the disk.
    """
    name = PurePosixPath(member.name)
    plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) and not member.issparse()
    inside = name.parts and not name.is_absolute() and ".." not in name.parts and "\0" not in member.name
    if not plain or not inside:
        raise BackupDamaged(
            "the back-up holds what no back-up of ours does",
            got=member.name,
            expected="files and folders below it",
        )
    return name


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo, *, max_bytes: int) -> bytes:
    _safe(member)
    stream = tar.extractfile(member)
    assert stream is not None  # it is a file
    if member.size > max_bytes:
        raise BackupDamaged(f"{member.name} of the back-up is too large", got=f"{member.size} bytes")
    return stream.read()


def _contents_of(page: bytes) -> Contents:
    try:
        content = parse_json(page)
    except ValueError as failure:
        raise BackupDamaged("the back-up's list cannot be read", got=failure, action=_ANOTHER) from failure
    return parse_settings(content, Contents, source=CONTENTS_FILE)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> StoredFile:
    """Write one file with its mode, from its first byte on; what was written."""
    stream = tar.extractfile(member)
    assert stream is not None  # it is a file
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest, n_bytes = hashlib.sha256(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as copy:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            n_bytes += len(block)
            copy.write(block)
        copy.flush()
        os.fchmod(copy.fileno(), member.mode & 0o700)
        _keep_time(copy.fileno(), member)
        os.fsync(copy.fileno())
    return StoredFile(sha256=digest.hexdigest(), n_bytes=n_bytes)


def _keep_time(descriptor: int, member: tarfile.TarInfo) -> None:
    try:
        os.utime(descriptor, (member.mtime, member.mtime))
    except (ValueError, OverflowError, OSError) as failure:
        got = f"{member.name}: {member.mtime}"
        raise BackupDamaged(
            "a file of the back-up has an impossible time", got=got, action=_ANOTHER
        ) from failure


def _require_usable(home: ServerHome, contents: Contents) -> None:
    """Raise BackupDamaged (FM-S508) where the restored parts do not belong together; ConfigurationError and its kin."""
    home.settings()
    home.federation()
    found = authority_fingerprint(read_authority(ca_files(home.pki).certificate))
    if found != contents.authority:
        raise BackupDamaged("the back-up is of another authority", got=found, expected=contents.authority)
    server = server_files(home.pki)
    try:
        certificate = x509.load_pem_x509_certificate(server.certificate.read_bytes())
        key = serialization.load_pem_private_key(server.private_key.read_bytes(), password=None)
        same = certificate.public_key() == key.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, OSError) as failure:
        raise BackupDamaged("the server's key cannot be read", got=failure, action=_ANOTHER) from failure
    if not same:
        raise BackupDamaged("the server's key is not that of its certificate", action=_ANOTHER)
    if (home.superlink / BUNDLE_FILE).exists():
        read_bundle(home.superlink)
    database = home.path / DATABASE
    if not database.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            ((answer,),) = connection.execute("PRAGMA integrity_check").fetchall()
    except (sqlite3.Error, ValueError) as failure:
        raise BackupDamaged("the SuperLink's database is damaged", got=failure, action=_ANOTHER) from failure
    if answer != "ok":
        raise BackupDamaged("the SuperLink's database is damaged", got=answer, action=_ANOTHER)
