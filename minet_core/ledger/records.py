"""A ledger: what was asked, what left, and what operators did, in lines that hold each other.

    ledger.jsonl   one JSON object a line, in one canonical form, only ever appended to and fsynced
    ledger.head    number and SHA-256 of the last line: with it, a missing end is seen on this machine
    ledger.lock    held by the process that appends: a site has several

A line has its number `n`, the `time` (UTC), the `event`, its details, `prev`, the SHA-256 of the line before, and
`sha256`, that of itself. Whoever changes a line has to change every later one and the head; that is seen by whoever
holds a head from before. So the two ends hold each other's: a request carries the coordinator's, a reply the site's.

A line that a killed writer left half is removed by the next writer, which says so in a record `mended`.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minet_core.errors import LedgerDamaged, RunBusy
from minet_core.runtime.files.file_failures import failure_of
from minet_core.runtime.files.file_lock import locked_within

LEDGER_FILE = "ledger.jsonl"
HEAD_FILE = "ledger.head"
LOCK_FILE = "ledger.lock"

NO_HEAD = "0" * 64
"""What stands before the first line."""

HEAD = re.compile(r"[0-9a-f]{64}")

LOCK_PATIENCE_S = 30.0
"""An append takes milliseconds; a disk that is busy, some seconds."""

_MAX_LINE_BYTES = 1 << 16
"""Bytes; the longest record, a test's figures, has 2 KB."""


@dataclass(frozen=True)
class Head:
    """The last line of a ledger; n is 0 and sha256 NO_HEAD where it is empty."""

    n: int = 0
    sha256: str = NO_HEAD


@dataclass(frozen=True)
class Verified:
    """What a verification found. problems: none in a whole ledger. notes: half lines of killed writers, mended."""

    head: Head
    problems: tuple[str, ...]
    notes: tuple[str, ...]


class Ledger:
    """The ledger in a folder. Any number of processes may append.

    Parameters
    ----------
    folder
        Made at the first look where it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER_FILE
        self._head = folder / HEAD_FILE
        self._lock = folder / LOCK_FILE

    @classmethod
    def at_file(cls, path: Path) -> Ledger:
        """A ledger by its file, as one that was sent; it is read and never appended to.

        Parameters
        ----------
        path
            Of a ledger under any name.

        Returns
        -------
        Ledger
            Its head and its lock are those of the file's folder.
        """
        ledger = cls(path.parent)
        ledger.path = path
        return ledger

    def append(self, event: str, **details: Any) -> Head:
        """Write a record; it is on the disk when this returns.

        Parameters
        ----------
        event
            What happened, a word or two.
        **details
            JSON values.

        Returns
        -------
        Head
            Number and SHA-256 of the record.

        Raises
        ------
        LedgerDamaged
            FM-S523, where the end does not hold together; nothing is written then.
        FileNotWritten
            FM-S509 or its kind, such as DiskFull (FM-S504), where the record cannot be written.
        RunBusy
            FM-S507, where another process does not let go.
        """
        with self._alone():
            last, half = self._end()
            if half:
                os.truncate(self.path, self.path.stat().st_size - len(half))
                dropped = hashlib.sha256(half).hexdigest()
                last = self._write(last, "mended", {"dropped_bytes": len(half), "dropped_sha256": dropped})
            return self._write(last, event, details)

    def head(self) -> Head:
        """The last whole line.

        Returns
        -------
        Head
            Of number 0 where the ledger is empty.

        Raises
        ------
        LedgerDamaged
            FM-S523, where the end does not hold together.
        RunBusy
            FM-S507, where another process does not let go.
        """
        with self._alone():
            return self._end()[0]

    def records(self) -> Iterator[dict[str, Any]]:
        """The records, whether they hold together or not.

        Yields
        ------
        dict
            Oldest first; a half line at the end is left out.

        Raises
        ------
        LedgerDamaged
            FM-S523, for a line that is no record.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.endswith(b"\n"):
                    return  # being written, or left half
                record = _parsed(line[:-1])
                if record is None:
                    raise _damaged(f"line {number} is no record")
                yield record

    def verify(self, *, held: Collection[str] = ()) -> Verified:
        """Whether every line is as it was written, and none is missing.

        Parameters
        ----------
        held
            Heads that the other end was told.

        Returns
        -------
        Verified
            The last line that holds, and what is wrong.

        Raises
        ------
        RunBusy
            FM-S507, where another process does not let go.
        """
        with self._alone():
            content = self.path.read_bytes() if self.path.exists() else b""
            noted = self._head.read_bytes() if self._head.exists() else b""
        return _verified(content, noted, held)

    def _write(self, last: Head, event: str, details: Mapping[str, Any]) -> Head:
        record = {**details, "n": last.n + 1, "time": _now(), "event": event, "prev": last.sha256}
        record["sha256"] = _digest(record)
        line = _canonical(record) + b"\n"
        if len(line) > _MAX_LINE_BYTES:
            raise ValueError(f"a record of {len(line)} bytes")
        before = self.path.stat().st_size if self.path.exists() else 0
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "ab") as stream:
                stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())
            if last.n == 0:
                _fsync_folder(self.path.parent)
        except OSError as failure:
            with contextlib.suppress(OSError):
                os.truncate(self.path, before)
            raise failure_of(failure, f"{self.path} could not be appended to", path=self.path) from failure
        head = Head(last.n + 1, str(record["sha256"]))
        self._note(head)
        return head

    def _note(self, head: Head) -> None:
        """Replace the head's file. Not fsynced: an older one shows less of what is missing, and nothing false."""
        temporary = self._head.with_name(f".{HEAD_FILE}.{os.getpid()}.partial")
        with contextlib.suppress(OSError):  # the record itself is on the disk
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(_head_line(head))
            temporary.replace(self._head)

    def _end(self) -> tuple[Head, bytes]:
        """The last whole line, and the half one behind it, empty as a rule. Raises LedgerDamaged (FM-S523)."""
        content = _tail(self.path)
        end = content.rfind(b"\n") + 1
        whole, half = content[:end], content[end:]
        last = Head()
        if whole:
            line = whole[whole.rfind(b"\n", 0, -1) + 1 : -1]
            record = _parsed(line)
            if record is None or record["sha256"] != _digest(record) or _canonical(record) != line:
                raise _damaged("its last line is not as it was written")
            last = Head(record["n"], record["sha256"])
        elif half and len(half) >= _MAX_LINE_BYTES:
            raise _damaged("its last line has no end")
        noted = _parsed_head(self._head.read_bytes()) if self._head.exists() else Head()
        if noted is None or noted.n > last.n or (noted.n == last.n and noted != last):
            raise _damaged("its end is missing: the head that was noted here is not in it")
        return last, half

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as failure:
            raise failure_of(failure, f"{self._lock} could not be opened", path=self._lock) from failure
        try:
            if not locked_within(descriptor, LOCK_PATIENCE_S):
                raise RunBusy("another process holds the ledger", got=self.path)
            yield
        finally:
            os.close(descriptor)


def _verified(content: bytes, noted: bytes, held: Collection[str]) -> Verified:
    lines = content.split(b"\n")
    problems, notes, last = list[str](), list[str](), Head()
    known = {NO_HEAD}
    if lines.pop():
        problems.append(f"line {len(lines) + 1} has no end: its writer was killed, or the file was cut")
    at = {0: NO_HEAD}
    for number, line in enumerate(lines, start=1):
        problem, record = _problem_of(line, number, last)
        if problem is not None:
            problems.append(problem)
        if record is None:
            break
        last = Head(number, record["sha256"])
        at[number] = last.sha256
        known.add(last.sha256)
        if record["event"] == "mended":
            notes.append(f"line {number}: a half line of {record.get('dropped_bytes')} bytes was removed")
    head = _parsed_head(noted) if noted else (Head() if not content else None)
    if head is None:
        problems.append("the noted head is missing or damaged")
    elif at.get(head.n) != head.sha256:
        problems.append(f"the end is missing or another one: the noted head is of line {head.n}")
    for strange in sorted(set(held) - known):
        problems.append(f"the head {strange[:16]}..., which the other end holds, is of no line here")
    return Verified(last, tuple(problems), tuple(notes))


def _problem_of(line: bytes, number: int, last: Head) -> tuple[str | None, dict[str, Any] | None]:
    """What is wrong with a line after `last`, and its record, None where nothing can follow it."""
    record = _parsed(line)
    if record is None or _canonical(record) != line:
        return f"line {number} is no record as it was written", None
    if record["sha256"] != _digest(record):
        return f"line {number} was changed", None
    if record["n"] != number or record["prev"] != last.sha256:
        return f"line {number} does not follow the one before it: lines were removed, moved or added", None
    return None, record


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("n"), int):
        return None
    texts = ("time", "event", "prev", "sha256")
    return record if all(isinstance(record.get(key), str) for key in texts) else None


def _head_line(head: Head) -> bytes:
    return f"{head.n} {head.sha256}\n".encode("ascii")


def _parsed_head(content: bytes) -> Head | None:
    found = re.fullmatch(rb"([0-9]{1,15}) ([0-9a-f]{64})\n", content)
    if found is None:
        return None
    head = Head(int(found[1]), found[2].decode("ascii"))
    return head if _head_line(head) == content else None


def _canonical(record: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError):
        return b""
    return text.encode("ascii")


def _digest(record: Mapping[str, Any]) -> str:
    content = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(_canonical(content)).hexdigest()


def _tail(path: Path) -> bytes:
    """The end of a file, long enough to hold its last whole line and a half one."""
    if not path.exists():
        return b""
    with path.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - 2 * _MAX_LINE_BYTES))
        return stream.read()


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damaged(why: str) -> LedgerDamaged:
    return LedgerDamaged(
        "the ledger does not hold together",
        got=why,
        action="Keep its files as they are, elsewhere; tell the other end, whose ledger holds this one's heads; "
        "a new ledger begins where none is",
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
