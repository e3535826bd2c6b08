"""A file that stands for a lock, on file systems without locks: made by whoever holds it, and removed at the end.

It names its holder: the machine's boot, the process and when that began. One whose process has ended is taken over by
the next on the same machine. Of another machine, or of another container there, nobody can tell from here whether its
process lives: it counts as held until it is removed.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from minet_core.runtime.json_text import NOT_AS_WRITTEN, parse_json

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_UNREADABLE_S = 5.0
"""A file without a holder is being written, or its writer was ended in that moment: older, it is nobody's."""


def holder_beside(locked: Path) -> str:
    """Who holds a lock that a file stands for, and what to do where that process is no more: for a message.

    Parameters
    ----------
    locked
        The file whose lock is meant.

    Returns
    -------
    str
        Part of a sentence; empty where no file stands for the lock.
    """
    beside = LockBeside(locked)
    content = _read(beside.path)
    if content is None:
        return ""
    try:
        holder = parse_json(content)
        who = f"process {int(holder['process'])} on {str(holder['host'])[:80]}"
    except NOT_AS_WRITTEN:
        who = "a process that did not say its name"
    return f": {who}; where it runs no more, remove {beside.path}"


class LockBeside:
    """`.<name>.held` beside the file whose lock it stands for.

    Parameters
    ----------
    locked
        The file whose lock is meant.
    """

    def __init__(self, locked: Path) -> None:
        self.path = locked.with_name(f".{locked.name.removeprefix('.')}.held")
        self._content = b""
        self._process = 0

    def take(self) -> bool:
        """Make the file unless a holder's is there; whether it was made.

        Raises
        ------
        OSError
            Where it cannot be made for another reason.
        """
        for _ in range(2):  # again after one that was left behind
            if self._made():
                return True
            if self.is_held():
                return False
            self._remove_left_behind()
        return False

    def remove(self) -> None:
        """Let go: only in the process that took it, and only what it wrote."""
        if self._process != os.getpid():
            return
        atexit.unregister(self.remove)
        self._process = 0
        if _read(self.path) == self._content:
            self.path.unlink(missing_ok=True)

    def is_held(self) -> bool:
        """Whether the file is there and its process lives, or may."""
        content = _read(self.path)
        return content is not None and _may_live(content, self.path)

    def _made(self) -> bool:
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            return False
        self._content = json.dumps(
            {**_this_process(), "host": socket.gethostname(), "since": time.time()}
        ).encode()
        try:
            os.write(descriptor, self._content)
        except OSError:
            self.path.unlink()
            raise
        finally:
            os.close(descriptor)
        self._process = os.getpid()
        atexit.register(self.remove)
        return True

    def _remove_left_behind(self) -> None:
        """Move it aside first: where another process has just taken it over, it is given back."""
        aside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return
        content = _read(aside)
        if content is not None and _may_live(content, aside):
            aside.rename(self.path)
        else:
            aside.unlink(missing_ok=True)


def _this_process() -> dict[str, Any]:
    return {
        "boot": _BOOT.read_text().strip(),
        "processes": str(Path("/proc/self/ns/pid").readlink()),
        "process": os.getpid(),
        "began": _began(os.getpid()),
    }


def _began(process: int) -> str | None:
    """When a process began [clock ticks after boot]: its number may be another's by now. None: it has ended."""
    try:
        content = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = content.rpartition(")")[
        2
    ].split()  # from the third on (proc_pid_stat(5)); the name may hold anything
    return None if fields[0] in "ZX" else fields[19]


def _may_live(content: bytes, path: Path) -> bool:
    try:
        holder = parse_json(content)
        process, began = int(holder["process"]), holder["began"]
        here = {key: holder[key] for key in ("boot", "processes")}
    except NOT_AS_WRITTEN:
        try:
            return time.time() - path.stat().st_mtime < _UNREADABLE_S
        except FileNotFoundError:
            return False
    this = _this_process()
    if here != {key: this[key] for key in here}:
        return True
    return bool(_began(process) == began)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
