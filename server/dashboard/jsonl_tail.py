"""A file of JSON lines, read on while another process appends to it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.runs.records import EventLine, RoundLine, parse_line


@dataclass
class JsonlTail:
    """The records of `path` so far; `read` looks at what was appended since the last call and at nothing else.

    A last line that is not whole yet is left for the next call. A file that was replaced or cut short (as
    `RunDirectory.mend` does after a kill) is read again from its beginning.
    """

    path: Path
    kind: type[RoundLine] | type[EventLine]
    _records: list[dict[str, Any]] = field(default_factory=list)
    _offset: int = 0
    _inode: int = 0

    def read(self) -> list[dict[str, Any]]:
        """Every whole line, oldest first. Raises ValueError for a line that says what none may."""
        try:
            stream = self.path.open("rb")
        except FileNotFoundError:
            self._start_again(0)
            return []
        with stream:
            found = _facts(stream.fileno())
            if found[0] != self._inode or found[1] < self._offset:
                self._start_again(found[0])
            stream.seek(self._offset)
            content = stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        new = [parse_line(line, self.kind) for line in whole.split(b"\n")[:-1]]
        self._records = [*self._records, *new]
        self._offset += len(whole)
        return self._records

    def _start_again(self, inode: int) -> None:
        self._records, self._offset, self._inode = [], 0, inode


def _facts(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_ino, status.st_size
