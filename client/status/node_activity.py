"""What the site's node notes of its way with the server, in `status/node`, for those who look after it.

    admission.json   the server let this process in: node number, process number, when
    answered         its time of change: when the server last answered this node
    replies.json     the last replies that were handed over whole: the message they answer, and when

Read without importing Flower.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from minet_core.runtime.files.atomic_write import write_json, write_note
from minet_core.runtime.files.typed_page import Timestamp, read_typed

NOTES_VARIABLE = "FEDMINET_NODE_NOTES"
"""Environment variable with that folder, for the node's process."""

ADMISSION_FILE = "admission.json"
ANSWERED_FILE = "answered"
REPLIES_FILE = "replies.json"
KEPT_REPLIES = 16

ANSWER_STEP_S = 1.0
"""The time of the last answer is noted at most this often."""


@dataclass(frozen=True)
class Admission:
    """The server let a node in. since: seconds since 1970. process: the node's number in this system."""

    node_id: int
    process: int
    since: Timestamp


def note_admission(folder: Path, node_id: int) -> None:
    """Note that the server has let this process in as the node of this number."""
    write_json(
        folder / ADMISSION_FILE, {"node_id": str(node_id), "process": os.getpid(), "since": time.time()}
    )


def read_admission(folder: Path) -> Admission | None:
    """The last admission; None before the first."""
    try:
        return read_typed(folder / ADMISSION_FILE, Admission)
    except (OSError, ValueError):
        return None


class Answers:
    """Notes when the server answered, and which replies it has."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._noted: float | None = None
        self._announced: str | None = None

    def note_answer(self) -> None:
        """The server has answered a request of this node."""
        now = self._clock()
        if self._noted is None or now - self._noted >= ANSWER_STEP_S:
            self._noted = now
            (self._folder / ANSWERED_FILE).touch()

    def announce(self, message: str) -> None:
        """The server has been told of a reply to `message`; its content is still to be handed over."""
        self._announced = message

    def note_handed_over(self) -> None:
        """All of the announced reply is at the server."""
        if self._announced is None:
            return
        replies = {**read_replies(self._folder), self._announced: time.time()}
        self._announced = None
        newest = sorted(replies.items(), key=lambda reply: reply[1])[-KEPT_REPLIES:]
        write_note(self._folder / REPLIES_FILE, dict(newest))


def last_answer(folder: Path) -> float | None:
    """When the server last answered a node of this site, seconds since 1970; None where it never did."""
    try:
        return (folder / ANSWERED_FILE).stat().st_mtime
    except OSError:
        return None


def read_replies(folder: Path) -> dict[str, float]:
    """When the reply to a message was handed over, by message."""
    try:
        return read_typed(folder / REPLIES_FILE, dict[str, Timestamp])
    except (OSError, ValueError):
        return {}
