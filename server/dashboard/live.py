"""The page of a run as it changes: worked out once for all who look, and sent as server-sent events.

event: happened   one line of events.jsonl; its id is the line's number, so a stream that broke goes on after it
event: view       the parts of the page that changed since this stream last sent them, as JSON
event: end        the run has ended and nothing will change any more
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from minet_core.errors import FedminetError
from server.dashboard.node_presence import NodePresence
from server.dashboard.rendering import announcement, page_title, run_sections
from server.dashboard.run_reader import RunReader
from server.dashboard.run_view import RunView

LOOK_EVERY_S = 0.5
RENEW_EVERY_S = 5.0
"""What changes without a record, the time left and who works on the run, is worked out anew this often."""

BEAT_EVERY_S = 10.0
"""A stream with nothing to say sends a comment, so that a reader who left is noticed."""

RECONNECT_MS = 2000


@dataclass
class LivePage:
    """The page of one run; `shown` renders only where something has changed."""

    reader: RunReader
    sightings: NodePresence
    may_control: bool
    _key: object = None
    _shown: tuple[RunView, dict[str, str]] | None = None
    _alone: threading.Lock = field(default_factory=threading.Lock)

    def shown(self) -> tuple[RunView, dict[str, str]]:
        """The run as it stands and the parts of its page. Raises HostError (FM-S500) where it cannot be read."""
        sighting = self.sightings.latest()
        with self._alone:
            key = (self.reader.mark(), sighting, int(time.monotonic() / RENEW_EVERY_S))
            if self._shown is None or key != self._key:
                view = self.reader.view()
                self._shown = view, run_sections(view, sighting, may_control=self.may_control)
                self._key = key
            return self._shown


async def stream(page: LivePage, *, after: int, closing: Callable[[], bool]) -> AsyncGenerator[str]:
    """The server-sent events of one reader, who has had the first `after` events."""
    yield f"retry: {RECONNECT_MS}\n\n"
    sent: dict[str, str] = {}
    told, beat = after, time.monotonic()
    while not closing():
        try:
            view, sections = await asyncio.to_thread(page.shown)
        except FedminetError:
            return  # the page itself says so when it is asked for again
        told = min(told, len(view.events))
        for number, event in enumerate(view.events[told:], told + 1):
            yield _message("happened", {"say": announcement(event)}, number=number)
        told = len(view.events)
        changed = {name: html for name, html in sections.items() if sent.get(name) != html}
        if changed:
            sent |= changed
            yield _message(
                "view", {"title": page_title(view) + " | fedminet", "sections": changed}, number=told
            )
            beat = time.monotonic()
        if view.ended and not view.worked_on:
            yield _message("end", {}, number=told)
            return
        if time.monotonic() - beat > BEAT_EVERY_S:
            beat = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(LOOK_EVERY_S)


def _message(event: str, data: object, *, number: int) -> str:
    """One message; JSON has no line break of its own, so nothing in the data can end it."""
    return f"id: {number}\nevent: {event}\ndata: {json.dumps(data)}\n\n"
