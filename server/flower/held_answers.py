"""Answers of the SuperLink that wait for what is asked for, in place of many questions.

A node asks whether there is a message for it, and a run's application whether there is a reply; Flower 1.42 answers at
once, nearly always with nothing, and a question takes 10 ms of a processor. Here such an answer is held until the
message, or a reply, is there with all of its parts, or `HOLD_S` are over. A question is first put to Flower as it came,
which also checks who asks; only an answer without a message is held. Whoever asks a SuperLink that holds nothing, and
any node that asks this one more often, gets the same answers.

A message whose parts are still being handed in is held back as well: a node that finds one looks for its parts once a
second.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NODE_ASKS = "/v1/fleet/pull-messages"
APPLICATION_ASKS = "/v1/runtime/pull-messages"

HOLD_S = {NODE_ASKS: 2.0, APPLICATION_ASKS: 1.0}
"""How long an answer waits. A server that ends waits for its last answers; an application has deadlines to look to."""

PUSH_S = 30.0
"""Nobody is kept waiting for parts that have not come for so long: who hands them in has ended meanwhile."""

APPLICATION = 0
"""Stands for a run's application, where a node has its number."""


@dataclass
class _Push:
    """What is being handed in. missing: ids of its parts. waiting: who gets it. touched: when its last part came."""

    missing: set[str]
    waiting: Collection[int]
    message_id: str
    touched: float


@dataclass
class Arrivals:
    """Which messages and replies are there as a whole. Told by Flower's handlers, in threads of theirs.

    clock: seconds, of a clock that only goes forward.
    """

    clock: Callable[[], float] = time.monotonic
    _pushes: dict[str, _Push] = field(default_factory=dict)
    _replies: dict[str, float] = field(default_factory=dict)
    _events: dict[int, set[asyncio.Event]] = field(default_factory=lambda: defaultdict(set))
    _announcing: Counter[int] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _loop: asyncio.AbstractEventLoop | None = None

    @contextlib.contextmanager
    def announcing(self, waiting: Collection[int]) -> Iterator[None]:
        """While the context lasts something is announced for these, of which no part is there yet."""
        with self._lock:
            self._announcing.update(waiting)
        try:
            yield
        finally:
            with self._lock:
                self._announcing.subtract(waiting)

    def begin(
        self, session: str, missing: Collection[str], waiting: Collection[int], message_id: str = ""
    ) -> None:
        """A message is announced whose parts `missing` will come; message_id: of a reply."""
        with self._lock:
            self._forget_old()
            self._pushes[session] = _Push(set(missing), waiting, message_id, self.clock())
            self._settle(session)

    def part(self, session: str, object_id: str) -> None:
        """A part of a message is there."""
        with self._lock:
            if push := self._pushes.get(session):
                push.missing.discard(object_id)
                push.touched = self.clock()
                self._settle(session)

    def taken(self, message_id: str) -> None:
        """The application has a reply."""
        with self._lock:
            self._replies.pop(message_id, None)

    def in_pieces(self, who: int) -> bool:
        """Whether something is being handed in for `who`, of which a part is missing."""
        with self._lock:
            self._forget_old()
            return self._announcing[who] > 0 or any(who in push.waiting for push in self._pushes.values())

    def has_reply(self) -> bool:
        """Whether a reply is there as a whole that no application has taken."""
        with self._lock:
            self._forget_old()
            return bool(self._replies)

    @contextlib.contextmanager
    def watched(self, who: int) -> Iterator[asyncio.Event]:
        """An event that is set when something is there for `who` as a whole, while the context lasts."""
        event = asyncio.Event()
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._events[who].add(event)
        try:
            yield event
        finally:
            with self._lock:
                self._events[who].discard(event)
                if not self._events[who]:
                    del self._events[who]

    def _settle(self, session: str) -> None:
        push = self._pushes[session]
        if push.missing:
            return
        del self._pushes[session]
        if push.message_id:
            self._replies[push.message_id] = self.clock()
        for event in [event for who in push.waiting for event in self._events.get(who, ())]:
            cast(asyncio.AbstractEventLoop, self._loop).call_soon_threadsafe(event.set)

    def _forget_old(self) -> None:
        oldest = self.clock() - PUSH_S
        for session in [key for key, push in self._pushes.items() if push.touched < oldest]:
            del self._pushes[session]
        for reply in [key for key, since in self._replies.items() if since < oldest]:
            del self._replies[reply]


@dataclass(frozen=True)
class HeldAnswers:
    """ASGI middleware around Flower's application, which holds the answers to questions for messages."""

    app: ASGIApp
    arrivals: Arrivals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as Flower does; where that is nothing, later."""
        if scope["type"] != "http" or scope["path"] not in HOLD_S:
            await self.app(scope, receive, send)
            return
        body = await _body(receive)
        if body is None:
            return
        question = _Question(scope, body, asyncio.ensure_future(_end(receive)))
        try:
            for message in await self._answer(question):
                await send(message)
        finally:
            question.end.cancel()

    async def _answer(self, question: _Question) -> list[Message]:
        who = question.asks()
        if who is None:
            return await self._ask(question)
        ends = time.monotonic() + HOLD_S[question.scope["path"]]
        with self.arrivals.watched(who) as event:
            if who != APPLICATION and self.arrivals.in_pieces(who):
                await question.has_come(event, ends)
            event.clear()
            answer = await self._ask(question)
            if not _is_empty(answer) or (who == APPLICATION and self.arrivals.has_reply()):
                return answer
            return await self._ask(question) if await question.has_come(event, ends) else answer

    async def _ask(self, question: _Question) -> list[Message]:
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        scope = {
            **question.scope,
            "state": dict(question.scope.get("state", {})),
        }  # Flower's layers write into it
        await self.app(scope, question.replayed(), keep)
        return answer


@dataclass(frozen=True)
class _Question:
    """A request that can be put again. body: whole. end: done when its peer has gone."""

    scope: Scope
    body: bytes
    end: asyncio.Task[None]

    def asks(self) -> int | None:
        """The number of the node, or `APPLICATION`; None where the body names no node."""
        if self.scope["path"] == APPLICATION_ASKS:
            return APPLICATION
        with contextlib.suppress(DecodeError):
            return PullMessagesRequest.FromString(self.body).node.node_id or None
        return None

    def replayed(self) -> Receive:
        """What the application receives, from the beginning."""
        given = False

        async def receive() -> Message:
            nonlocal given
            if given:
                await asyncio.shield(self.end)
                return {"type": "http.disconnect"}
            given = True
            return {"type": "http.request", "body": self.body, "more_body": False}

        return receive

    async def has_come(self, event: asyncio.Event, ends: float) -> bool:
        """Wait for the event, until `ends` at most; False as well where the peer has gone: it gets no message."""
        waiting = asyncio.ensure_future(event.wait())
        try:
            left = max(ends - time.monotonic(), 0.0)
            await asyncio.wait({waiting, self.end}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        return event.is_set() and not self.end.done()


async def _body(receive: Receive) -> bytes | None:
    """The whole body of a request; None where its peer went before its end."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _end(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _is_empty(answer: list[Message]) -> bool:
    """Whether it is an answer without a message: of protocol buffers, no bytes at all."""
    status = [message["status"] for message in answer if message["type"] == "http.response.start"]
    return status == [200] and not any(message.get("body") for message in answer)


def tell_arrivals(arrivals: Arrivals) -> None:
    """Let Flower's handlers tell what is handed in and taken (flwr 1.42).

    Raises AttributeError where this Flower has no such handler: nothing is served then.
    """
    fleet, runtime = cast(Any, fleet_handlers), cast(Any, runtime_handlers)
    announce, answer = runtime.push_messages, fleet.push_messages
    take_part, take_reply_part = runtime.push_object, fleet.push_object
    confirm = runtime.confirm_message_received

    def push_messages(request: Any, *args: Any, **options: Any) -> Any:
        nodes = {message.metadata.dst_node_id for message in request.messages_list}
        with arrivals.announcing(nodes):
            response = announce(request, *args, **options)
            arrivals.begin(response.session_id, response.objects_to_push, nodes)
        return response

    def push_reply(request: Any, *args: Any, **options: Any) -> Any:
        response = answer(request, *args, **options)
        reply = request.messages_list[0].metadata.message_id
        arrivals.begin(response.session_id, response.objects_to_push, {APPLICATION}, reply)
        return response

    def told_of_part(handler: Callable[..., Any]) -> Callable[..., Any]:
        def push_object(request: Any, *args: Any, **options: Any) -> Any:
            response = handler(request, *args, **options)
            if response.stored:
                arrivals.part(request.session_id, request.object_id)
            return response

        return push_object

    def confirm_message_received(request: Any, *args: Any, **options: Any) -> Any:
        arrivals.taken(request.message_object_id)
        return confirm(request, *args, **options)

    runtime.push_messages, fleet.push_messages = push_messages, push_reply
    runtime.push_object, fleet.push_object = told_of_part(take_part), told_of_part(take_reply_part)
    runtime.confirm_message_received = confirm_message_received
