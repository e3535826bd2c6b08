"""How long the screen waits for a request, and who gives way where there are too many: uvicorn's protocol over h11.

uvicorn waits for ever for the end of a request, counts such a connection as one in use, and refuses everybody beyond
its bound. So here a request has to be there as a whole within a time. Where many connections wait for theirs, the one
that has waited longest is closed; where all are many, the oldest answer still under way is: a stream, which a browser
opens anew, or one that nobody reads. Whoever comes next finds room.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 10.0
"""From the connection, or the answer before, to the last byte of a request; the largest is a form of a few hundred."""

MAX_WAITING = 128
MAX_CONNECTIONS = 224
"""Below LIMIT: who comes is answered, and not refused."""

LIMIT = 256
"""uvicorn's own, which refuses."""

MAX_HEAD_BYTES = 16 * 1024
"""Of a request's line and headers. A browser sends one or two thousand."""


def patient_protocol(*, request_s: float = REQUEST_S) -> type[H11Protocol]:
    """The protocol of one server: its connections know of each other."""
    waiting: dict[H11Protocol, None] = {}  # in the order in which they began to
    answered: dict[H11Protocol, None] = {}

    class PatientProtocol(H11Protocol):
        """One connection: it waits for a request, or an answer is under way."""

        _ends: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait()
            if len(waiting) > MAX_WAITING:
                next(iter(waiting))._give_way()  # type: ignore[attr-defined]
            elif len(waiting) + len(answered) > MAX_CONNECTIONS:
                next(iter(answered))._give_way()  # type: ignore[attr-defined]

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def handle_events(self) -> None:
            super().handle_events()
            asked = self.cycle
            if self in waiting and asked is not None and not (asked.more_body or asked.response_complete):
                self._forget()
                answered[self] = None

        def on_response_complete(self) -> None:
            self._wait()
            super().on_response_complete()

        def _wait(self) -> None:
            self._forget()
            waiting[self] = None
            self._ends = self.loop.call_later(request_s, self._give_way)

        def _give_way(self) -> None:
            self._forget()
            self.transport.abort()

        def _forget(self) -> None:
            waiting.pop(self, None)
            answered.pop(self, None)
            if self._ends is not None:
                self._ends.cancel()
                self._ends = None

    return PatientProtocol
