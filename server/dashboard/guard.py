"""What every request must pass and every response carries, whatever route it takes.

A request for another host is refused, so that a page elsewhere whose name is pointed at this address (DNS rebinding)
reads nothing; one that changes something must come from a page of this host. A response forbids the browser to load
from anywhere else, to run a script that is not the screen's own, and to show it in a frame.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
# referrer-policy: no-referrer would make a browser send `Origin: null` with the forms of this screen itself.
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
READING = ("GET", "HEAD")


@dataclass
class Guard:
    """ASGI middleware. hosts: the names, without port, that this server is reached by."""

    app: ASGIApp
    hosts: Collection[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        if host_name(headers.get("host", "")) not in self.hosts:
            refusal = PlainTextResponse("This server has another name.\n", status_code=421)
            await refusal(scope, receive, guarded)
        elif scope["method"] not in READING and not _from_here(headers):
            refusal = PlainTextResponse("The request comes from another page.\n", status_code=403)
            await refusal(scope, receive, guarded)
        else:
            await self.app(scope, receive, guarded)


def host_name(header: str) -> str:
    """The name in a Host header, without its port, in lower case; empty for what is none."""
    try:
        return (urlsplit(f"//{header}").hostname or "") if "@" not in header else ""
    except ValueError:
        return ""


def is_loopback(name: str) -> bool:
    """Whether a bind address or a host's name is this machine's own."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _from_here(headers: Headers) -> bool:
    """Whether a browser says that the request comes from a page of this host; who is no browser says nothing."""
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc == headers.get("host")
    return headers.get("sec-fetch-site", "none") in ("same-origin", "none")
