"""What the SuperLink's port answers to whom: the sites' calls to everybody, all else to who has the credential here.

"Here" is this machine, or this container: a peer on loopback, or at the very address that it connected to. The proxy
and whoever else comes over a network is answered the sites' calls alone, with whatever credential.

Flower serves three interfaces on one port. The sites' is held by their registered keys. The control interface starts
runs of any bundle for anybody, and the runtime interface hands out models; neither asks who is there. A path that is
not named here is refused: what a later Flower adds is closed until somebody has looked at it.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import re
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.flower.control_credential import HEADER

FLEET_CALL = re.compile(r"/v1/fleet/(?!(?:un)?register-node\Z)[a-z-]+")
"""A call of a registered node. The two that are left out are those of a node that nobody has registered."""

HEALTH = "/health"

MAX_FLEET_BYTES = 8 * 2**20
"""Of the body of a site's call, as at the proxy (docker/nginx): Flower sends a model in parts of 5 MiB."""


class _TooLarge(Exception):
    """A body went past its bound while it was read."""


@dataclass(frozen=True)
class InterfaceGuard:
    """ASGI middleware around Flower's application."""

    app: ASGIApp
    credential: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it before Flower sees it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif self._shown(scope) or (scope["method"], scope["path"]) == ("GET", HEALTH):
            await self.app(scope, receive, send)
        elif scope["method"] == "POST" and FLEET_CALL.fullmatch(scope["path"]):
            await self._bounded(scope, receive, send)
        else:
            await PlainTextResponse("Not without the credential.\n", 403)(scope, receive, send)

    def _shown(self, scope: Scope) -> bool:
        shown = Headers(scope=scope).getlist(HEADER)
        return (
            _is_here(scope)
            and len(shown) == 1
            and hmac.compare_digest(shown[0].encode(), self.credential.encode())
        )

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        declared = Headers(scope=scope).get("content-length", "0")
        n_bytes, answered, too_large = 0, False, False

        async def counted() -> Message:
            nonlocal n_bytes, too_large
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > MAX_FLEET_BYTES:
                too_large = True
                raise _TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal answered
            if (
                answered or not too_large
            ):  # else it is the application's word for an exception that it does not know
                answered = True
                await send(message)

        if not declared.isdecimal() or int(declared) > MAX_FLEET_BYTES:
            await PlainTextResponse("Too large.\n", 413)(scope, receive, send)
            return
        with contextlib.suppress(_TooLarge):
            await self.app(scope, counted, noted)
        if too_large and not answered:
            await PlainTextResponse("Too large.\n", 413)(scope, receive, send)


def _is_here(scope: Scope) -> bool:
    """Whether the peer is on this machine. TCP's answers go to the address it shows, so it can show no other's."""
    client, server = scope.get("client"), scope.get("server")
    if client is None:
        return False
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return False
    return address.is_loopback or (server is not None and client[0] == server[0])
