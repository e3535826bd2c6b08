"""Files that are whole or not there: written under a temporary name, fsynced, renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from minet_core.runtime.files.file_failures import failure_of


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it is fsynced and takes `path`'s place.

    An interrupted write leaves the former file untouched and no half file.

    Parameters
    ----------
    path
        Of the file; its folder is made where it is not there.

    Yields
    ------
    Path
        Where the block writes the file, whole.

    Raises
    ------
    DiskFull
        FM-S504, for want of room.
    FileNotWritten
        FM-S509 or another of its kinds, where the file system refuses for another reason.
    """
    with _replacing(path, durable=True) as temporary:
        yield temporary


@contextlib.contextmanager
def _replacing(path: Path, *, durable: bool) -> Iterator[Path]:
    """`replacing`, which waits for the disk only where that is asked for."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(
            missing_ok=True
        )  # of a killed process of this number, as a container's first has it again
        yield temporary
        if durable:
            _fsync(temporary)
        temporary.replace(path)
        if durable:
            _fsync_folder(path.parent)
    except OSError as failure:
        raise failure_of(failure, f"{path} could not be written", path=path) from failure
    except SafetensorError as failure:
        told = re.search(
            r"\(os error (\d+)\)", str(failure)
        )  # how safetensors says what the file system said
        if told is None:
            raise
        of_system = OSError(int(told[1]), os.strerror(int(told[1])))
        raise failure_of(of_system, f"{path} could not be written", path=path) from failure
    finally:
        with contextlib.suppress(OSError):  # it may never have been made: the failure above is the one to see
            temporary.unlink(missing_ok=True)


def take_place(temporary: Path, path: Path) -> None:
    """Give a file that is whole and fsynced its name, durably.

    Parameters
    ----------
    temporary
        Where it is, in the folder of `path`.
    path
        Its name; replaced where it is there.

    Raises
    ------
    FileNotWritten
        As `replacing`.
    """
    try:
        temporary.replace(path)
        _fsync_folder(path.parent)
    except OSError as failure:
        raise failure_of(failure, f"{path} could not be written", path=path) from failure


def write_text(path: Path, text: str) -> None:
    """Write a text file durably.

    Parameters
    ----------
    path
        Of the file; replaced where it is there.
    text
        Written as UTF-8.

    Raises
    ------
    FileNotWritten
        As `replacing`.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_private(path: Path, content: bytes) -> None:
    """Write a file durably that only its owner may read, from its first byte on.

    Parameters
    ----------
    path
        Of the file, of mode 0600; replaced where it is there.
    content
        All of it.

    Raises
    ------
    FileNotWritten
        As `replacing`.
    """
    with replacing(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file durably.

    Parameters
    ----------
    path
        Of the file; replaced where it is there.
    content
        Plain values, lists and mappings.

    Raises
    ------
    ValueError
        For NaN and infinity, since they are not JSON.
    FileNotWritten
        As `replacing`.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_note(path: Path, content: Any) -> None:
    """Write a JSON file whole, and do not wait for the disk.

    For what says how things stand, is written anew all the time, and is gone on from by nothing: after a power cut it
    may be the former one, or empty.

    Parameters
    ----------
    path
        Of the file; replaced where it is there.
    content
        Plain values, lists and mappings.

    Raises
    ------
    ValueError
        For NaN and infinity, since they are not JSON.
    FileNotWritten
        As `replacing`.
    """
    text = json.dumps(content, allow_nan=False) + "\n"
    with _replacing(path, durable=False) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON line to a file and fsync it.

    Parameters
    ----------
    path
        Of the file; made where it is not there.
    record
        JSON values.

    Raises
    ------
    ValueError
        For NaN and infinity, since they are not JSON.
    FileNotWritten
        As `replacing`; no part of the line is left.
    """
    line = json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n"
    before = None
    try:
        before = path.stat().st_size if path.exists() else 0
        with path.open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as failure:
        if before is not None:
            with contextlib.suppress(OSError):
                os.truncate(path, before)  # a part of a line would spoil the next one
        raise failure_of(failure, f"{path} could not be appended to", path=path) from failure


def mend_lines(path: Path) -> None:
    """Remove the last line of a file of lines where its writer was ended in the middle of it.

    Parameters
    ----------
    path
        Of the file; one that is not there is left so.

    Raises
    ------
    FileNotWritten
        As `replacing`.
    """
    if _ends_whole(path):
        return
    content = path.read_bytes()
    with replacing(path) as temporary:
        temporary.write_bytes(content[: content.rfind(b"\n") + 1])


def status_of(path: Path) -> os.stat_result | None:
    """What the file system says of a file or folder.

    For what another process may remove at any time: to ask first whether it exists would be one moment too early.

    Parameters
    ----------
    path
        Links are followed.

    Returns
    -------
    os.stat_result or None
        None where it is not there, or no longer.
    """
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Parameters
    ----------
    path
        Read from start to end.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _ends_whole(path: Path) -> bool:
    """Whether a file of lines is not there, is empty, or has an end after its last line."""
    if not path.exists():
        return True
    with path.open("rb") as stream:
        if stream.seek(0, os.SEEK_END) == 0:
            return True
        stream.seek(-1, os.SEEK_END)
        return stream.read() == b"\n"


def _fsync_folder(path: Path) -> None:
    """Some shares cannot fsync a folder, and keep its names without."""
    try:
        _fsync(path)
    except OSError as failure:
        if failure.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
