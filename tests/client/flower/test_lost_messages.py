"""When a node signs off and on again because a message may be lost; tests/e2e/test_kills.py loses a real one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    ActivateNodeResponse,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.supercore.run import RunNotRunningException

from client.flower.lost_messages import ATTEMPTS, LostMessages

URL = httpx.Request("POST", "https://coordinator:9443")


def refused(status: int) -> httpx.HTTPStatusError:
    return httpx.HTTPStatusError("refused", request=URL, response=httpx.Response(status, request=URL))


class Server:
    """Flower's client of the server. failures: by the kind of a request, those of the next ones in turn."""

    def __init__(self, **failures: list[Exception]) -> None:
        self.asked: list[str] = []
        self.failures = failures

    def _unary_unary(self, *, request: Any, **_options: Any) -> Any:
        kind = type(request).__name__.removesuffix("Request")
        self.asked.append(kind)
        if left := self.failures.get(kind):
            raise left.pop(0)
        return ActivateNodeResponse(node_id=7) if kind == "ActivateNode" else None

    def ActivateNode(self, request: Any) -> Any:  # noqa: N802
        return self._unary_unary(request=request)

    def DeactivateNode(self, request: Any) -> Any:  # noqa: N802
        assert request.node_id == 7
        return self._unary_unary(request=request)


def signed_on(**failures: list[Exception]) -> tuple[LostMessages, Any]:
    lost = LostMessages()
    client = lost.watched(Server)()
    client.ActivateNode(ActivateNodeRequest(heartbeat_interval=10))
    client.failures = failures
    client.asked.clear()
    return lost, client


def fail(client: Any, request: Any, failure: Exception) -> None:
    client.failures = {type(request).__name__.removesuffix("Request"): [failure]}
    with pytest.raises(type(failure)):
        client._unary_unary(request=request)
    client.asked.clear()
    client.failures = {}


@pytest.mark.parametrize(
    ("request_", "failure", "suspected"),
    [
        (PullMessagesRequest(), httpx.ReadError("broken off"), True),
        (PullMessagesRequest(), httpx.ReadTimeout("no answer"), True),
        (PullMessagesRequest(), httpx.RemoteProtocolError("closed"), True),
        (PullMessagesRequest(), refused(502), True),
        (PullMessagesRequest(), httpx.ConnectError("the server is away"), False),
        (PullMessagesRequest(), refused(401), False),
        (PushMessagesRequest(), httpx.ReadError("broken off"), False),  # Flower hands it over again
        (PushMessagesRequest(), refused(503), False),  # and after this as well
        (PushMessagesRequest(), refused(403), False),  # the run has ended
        (PushMessagesRequest(), refused(500), True),
        (DeactivateNodeRequest(), httpx.ReadError("broken off"), False),
    ],
)
def test_what_may_be_lost_is_asked_for_again_and_once(
    request_: Any, failure: Exception, suspected: bool
) -> None:
    lost, client = signed_on()
    lost.ask_again()
    assert client.asked == []  # the negative control: nothing has happened yet
    fail(client, request_, failure)
    lost.ask_again()
    assert client.asked == (["DeactivateNode", "ActivateNode"] if suspected else [])
    lost.ask_again()
    assert len(client.asked) == (2 if suspected else 0)


def test_a_sign_of_life_between_sign_off_and_sign_on_is_overcome() -> None:
    lost, client = signed_on()
    fail(client, PullMessagesRequest(), httpx.ReadError("broken off"))
    client.failures = {"ActivateNode": [refused(400), refused(400)]}
    lost.ask_again()
    assert client.asked == ["DeactivateNode", "ActivateNode"] * ATTEMPTS


def test_a_server_that_is_away_again_is_asked_at_the_next_idle_look() -> None:
    lost, client = signed_on()
    fail(client, PullMessagesRequest(), httpx.ReadError("broken off"))
    for failures in (
        {"DeactivateNode": [httpx.ConnectError("away")]},
        {"ActivateNode": [httpx.ConnectError("away")]},
        {"DeactivateNode": [refused(400)]},  # it is off already
    ):
        client.failures = failures
        lost.ask_again()
    assert client.asked == ["DeactivateNode"] + ["DeactivateNode", "ActivateNode"] * 2
    lost.ask_again()
    assert len(client.asked) == 5


@pytest.mark.parametrize("name", ["pull_objects", "push_object_contents_from_iterable"])
def test_a_transfer_that_is_given_up_counts_as_lost(name: str) -> None:
    def transfer(failure: Exception | None) -> str:
        if failure is not None:
            raise failure
        return "done"

    loop = SimpleNamespace(
        __name__="loop", pull_objects=transfer, push_object_contents_from_iterable=transfer
    )
    lost, client = signed_on()
    lost.watch_transfers(loop)
    assert getattr(loop, name)(None) == "done"
    with pytest.raises(RunNotRunningException):
        getattr(loop, name)(RunNotRunningException())
    lost.ask_again()
    assert client.asked == []
    with pytest.raises(ValueError, match="parts"):
        getattr(loop, name)(ValueError("parts do not come"))
    lost.ask_again()
    assert client.asked == ["DeactivateNode", "ActivateNode"]
