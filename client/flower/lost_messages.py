"""What a node may have lost on its way from or to the server, and how the server comes to ask for it again.

Flower's server gives a message out once: from the moment that a node's question is taken the message counts as
delivered. Where the connection breaks then, or the server is killed before its answer has left, nobody has the
message, and the server waits until the round's deadline for a reply that nobody works on. So it is with a request
whose parts do not come, and with a reply that could not be handed over.

A node that may have lost something signs off and on again as soon as it has nothing to do. The server application asks
a node anew that was signed on since it was asked (server.rounds.exchange), and a site answers what it has answered
before from its disk (client.rounds.round_cache). Where nothing was lost after all this costs two short questions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import httpx
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.supercore.run import RunNotRunningException

from minet_core.errors import HostError

NEVER_ARRIVED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""Failures of a question that the server has not had."""

PASSED_ON = frozenset({httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT})
"""Answers of a proxy between, where the server may have had the question. Flower asks again after them."""

ATTEMPTS = 3
"""To sign on again: a sign of life that another thread gives between the two questions signs the node on by itself,
and the server then refuses the second."""

_LOG = logging.getLogger(__name__)


class LostMessages:
    """Whether this node may have lost a message, and its way to say so."""

    def __init__(self) -> None:
        self._suspected = False
        self._signed_on: tuple[Any, ActivateNodeRequest, int] | None = None

    def watched(self, client: Any) -> Any:
        """A kind of Flower's client of the server which notes what may have been lost. client: its class."""
        lost = self

        class WatchedClient(client):  # type: ignore[misc]
            def _unary_unary(self, *, request: Any, **options: Any) -> Any:
                try:
                    response = super()._unary_unary(request=request, **options)
                except httpx.HTTPError as failure:
                    lost._note_failure(request, failure)
                    raise
                if isinstance(request, ActivateNodeRequest):
                    lost._signed_on = (self, request, response.node_id)
                return response

        return WatchedClient

    def watch_transfers(self, loop: Any) -> None:
        """Note what a node's loop gives up of a request or of a reply. loop: the module that has the loop."""
        for name in ("pull_objects", "push_object_contents_from_iterable"):
            if not hasattr(loop, name):
                raise HostError(
                    f"{loop.__name__} of the installed Flower has no {name}", expected="flwr 1.42"
                )
            setattr(loop, name, self._noting(getattr(loop, name)))

    def ask_again(self) -> None:
        """Sign off and on where something may be lost; for a node that has nothing to do."""
        if not self._suspected or self._signed_on is None:
            return
        client, request, node_id = self._signed_on
        for _ in range(ATTEMPTS):
            try:
                client.DeactivateNode(DeactivateNodeRequest(node_id=node_id))
            except httpx.HTTPStatusError:
                pass  # it is off already, as after an attempt that got no further
            except httpx.TransportError:
                return  # the server is away; the next idle look comes here again
            try:
                client.ActivateNode(request)
            except httpx.HTTPStatusError:
                continue
            except httpx.TransportError:
                return
            self._suspected = False
            _LOG.warning("a message may have been lost on its way; the server is asked for it again")
            return

    def _noting(self, transfer: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **options: Any) -> Any:
            try:
                return transfer(*args, **options)
            except RunNotRunningException:
                raise  # nobody waits for it any longer
            except Exception:  # whatever it was, Flower drops the message and goes on
                self._suspected = True
                raise

        return noted

    def _note_failure(self, request: Any, failure: httpx.HTTPError) -> None:
        """Flower asks again for a message after what may pass, and gets another answer; a reply it hands over again."""
        refused = failure.response.status_code if isinstance(failure, httpx.HTTPStatusError) else None
        if isinstance(request, PullMessagesRequest):
            if refused is None:
                self._suspected |= not isinstance(failure, NEVER_ARRIVED)
            else:
                self._suspected |= refused in PASSED_ON
        elif isinstance(request, PushMessagesRequest) and refused is not None:
            self._suspected |= refused not in {*PASSED_ON, httpx.codes.FORBIDDEN}  # 403: the run has ended
