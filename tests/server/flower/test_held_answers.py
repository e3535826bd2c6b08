"""Answers that wait for what is asked for: behind the middleware stands an application that says what it has."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx
import pytest
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.proto.node_pb2 import Node
from starlette.types import Message, Receive, Scope, Send

from server.flower import held_answers
from server.flower.held_answers import APPLICATION, APPLICATION_ASKS, NODE_ASKS, PUSH_S, Arrivals, HeldAnswers

LONG_S = 30.0
"""A hold that no stall of the machine outlasts: what is answered before it was answered by an event."""

SHORT_S = 0.3
NODE, OTHER = 7, 8
QUESTION = PullMessagesRequest(node=Node(node_id=NODE)).SerializeToString()


@dataclass
class SuperLink:
    """Answers with what is in `messages`, which it then gives away; counts what it was asked."""

    messages: list[bytes] = field(default_factory=list)
    status: int = 200
    asked: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        assert message["body"] == QUESTION
        self.asked += 1
        scope["state"]["written"] = True
        content = self.messages.pop() if self.messages else b""
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": content})


Answered = tuple[int, bytes, float]


def ask(
    superlink: SuperLink,
    arrivals: Arrivals,
    meanwhile: Callable[[], Awaitable[None]] | None = None,
    *,
    path: str = NODE_ASKS,
    hold: float = LONG_S,
) -> Answered:
    """Status, content and seconds of an answer that is held for `hold` at most, while something happens."""

    async def run() -> Answered:
        transport = httpx.ASGITransport(HeldAnswers(superlink, arrivals))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            began = time.monotonic()
            asking = asyncio.ensure_future(client.post(path, content=QUESTION))
            if meanwhile is not None:
                await meanwhile()
            answer = await asking
            return answer.status_code, answer.content, time.monotonic() - began

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_answers, "HOLD_S", {NODE_ASKS: hold, APPLICATION_ASKS: hold})
        return asyncio.run(run())


async def until_asked(superlink: SuperLink) -> None:
    """Wait until the question has been put to the SuperLink, and has been answered with nothing."""
    while not superlink.asked:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)


@pytest.mark.parametrize(("path", "who"), [(NODE_ASKS, NODE), (APPLICATION_ASKS, APPLICATION)])
def test_who_asks_early_is_answered_when_all_parts_are_there(path: str, who: int) -> None:
    superlink, arrivals = SuperLink(), Arrivals()
    moments = []

    async def hand_in() -> None:
        await until_asked(superlink)
        superlink.messages.append(b"message")
        arrivals.begin("session", ["one", "two"], {who})
        for part in ("one", "two"):
            await asyncio.sleep(0.1)
            moments.append(superlink.asked)
            await asyncio.to_thread(arrivals.part, "session", part)  # as a handler does, in a thread

    status, content, seconds = ask(superlink, arrivals, hand_in, path=path)
    assert (status, content) == (200, b"message")
    assert moments == [1, 1]
    assert 0.2 <= seconds < LONG_S


def test_a_node_that_asks_in_the_middle_is_not_given_a_message_in_pieces() -> None:
    superlink, arrivals = SuperLink([b"message"]), Arrivals()
    arrivals.begin("session", ["one"], {NODE})

    async def hand_in() -> None:
        await asyncio.sleep(0.2)
        assert superlink.asked == 0
        arrivals.part("session", "one")

    _, content, seconds = ask(superlink, arrivals, hand_in)
    assert content == b"message"
    assert 0.2 <= seconds < LONG_S


def test_nothing_is_answered_after_the_hold() -> None:
    superlink = SuperLink()
    _, content, seconds = ask(superlink, Arrivals(), hold=SHORT_S)
    assert content == b""
    assert seconds >= SHORT_S
    assert superlink.asked == 1


def test_the_message_of_another_node_ends_no_hold() -> None:
    superlink, arrivals = SuperLink(), Arrivals()

    async def hand_in() -> None:
        await until_asked(superlink)
        arrivals.begin("session", [], {OTHER})

    status, content, seconds = ask(superlink, arrivals, hand_in, hold=SHORT_S)
    assert (status, content, superlink.asked) == (200, b"", 1)
    assert seconds >= SHORT_S


def test_a_refusal_is_answered_at_once() -> None:
    superlink = SuperLink(status=401)
    status, content, seconds = ask(superlink, Arrivals())
    assert (status, content, superlink.asked) == (401, b"", 1)
    assert seconds < LONG_S


def test_a_reply_that_lies_there_lets_the_application_look_at_once() -> None:
    """It came as a whole between two of its looks, and no later event tells of it."""
    superlink, arrivals = SuperLink(), Arrivals()
    arrivals.begin("session", [], {APPLICATION}, "reply")
    assert ask(superlink, arrivals, path=APPLICATION_ASKS)[2] < LONG_S
    arrivals.taken("reply")
    assert ask(superlink, arrivals, path=APPLICATION_ASKS, hold=SHORT_S)[2] >= SHORT_S


def test_a_node_that_went_away_takes_no_message_with_it() -> None:
    superlink, arrivals = SuperLink(), Arrivals()

    async def run() -> None:
        gone = asyncio.Event()
        received = iter([{"type": "http.request", "body": QUESTION, "more_body": False}])

        async def receive() -> Message:
            if (first := next(received, None)) is not None:
                return first
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(_message: Message) -> None:
            pass

        scope = {"type": "http", "path": NODE_ASKS, "state": {}}
        answering = asyncio.ensure_future(HeldAnswers(superlink, arrivals)(scope, receive, send))
        await asyncio.sleep(0.1)
        gone.set()
        await asyncio.sleep(0.05)
        superlink.messages.append(b"message")
        arrivals.begin("session", [], {NODE})
        await answering
        assert "written" not in scope["state"]

    asyncio.run(run())
    assert superlink.messages == [b"message"]


def test_nobody_waits_for_parts_that_stopped_coming() -> None:
    now = [0.0]
    arrivals = Arrivals(clock=lambda: now[0])
    arrivals.begin("session", ["one", "two"], {NODE})
    now[0] += PUSH_S - 1
    arrivals.part("session", "one")
    now[0] += PUSH_S - 1
    assert arrivals.in_pieces(NODE)
    now[0] += 2
    assert not arrivals.in_pieces(NODE)
    with arrivals.announcing({NODE}):
        assert arrivals.in_pieces(NODE)
    assert not arrivals.in_pieces(NODE)


def test_this_release_of_flower_has_the_handlers_that_tell() -> None:
    """In a process of its own: they are changed for good."""
    code = (
        "from server.flower.held_answers import Arrivals, tell_arrivals\n"
        "from flwr.superlink.servicer.fleet import fleet_handlers as fleet\n"
        "from flwr.superlink.servicer.runtime import runtime_handlers as runtime\n"
        "tell_arrivals(Arrivals())\n"
        "print({one.__module__ for one in (fleet.push_messages, fleet.push_object, runtime.push_messages,\n"
        "    runtime.push_object, runtime.confirm_message_received)})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'server.flower.held_answers'}"
