"""Serving the screen until a signal ends it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from types import FrameType

import uvicorn

from minet_core.errors import InvalidSetting
from minet_core.runtime.processes.child_processes import require_port_free
from server.dashboard.app import build_app
from server.dashboard.control_routes import Access
from server.dashboard.guard import is_loopback
from server.dashboard.password import Password
from server.dashboard.request_timeouts import LIMIT, MAX_HEAD_BYTES, REQUEST_S, patient_protocol
from server.server_home import ServerHome, endpoint

PORT = 9480
EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  compared with, never bound by default
CLOSING_S = 8
"""How long open requests may take to end; the streams end by themselves at once."""


@dataclass(frozen=True)
class Binding:
    """Where the screen listens, and what it reads. hosts: further names that it is reached by, as a proxy's.

    files_only: it asks no SuperLink.
    """

    address: str = "127.0.0.1"
    port: int = PORT
    hosts: Collection[str] = ()
    files_only: bool = False

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it, if it listens there."""
        return f"http://{endpoint(self.address, self.port)}/"


class _Server(uvicorn.Server):
    """uvicorn's server, whose streams know that it is about to end."""

    ending = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal."""
        self.ending = True
        super().handle_exit(sig, frame)


def binding_of(address: str, port: int, hosts: Collection[str], *, plain_http: bool) -> Binding:
    """Raises InvalidSetting (FM-C102) for an address beyond this machine that was not asked for by its own option."""
    if not is_loopback(address) and not plain_http:
        raise InvalidSetting(
            "the screen would be reached from other machines without TLS",
            got=address,
            expected="127.0.0.1, with a proxy that terminates TLS on this machine",
            action="Add --plain-http where the proxy is on another machine or in another container",
        )
    return Binding(address, port, hosts)


def serve_dashboard(home: ServerHome, binding: Binding, *, allow_control: bool) -> None:
    """Serve the screen of `home` until a signal.

    Raises PortInUse (FM-S501), FileMissing (FM-C103) where control is allowed and no password is set.
    """
    access = Access(Password.of(home)) if allow_control else None
    require_port_free(binding.address, binding.port)
    server_of(home, binding, access=access).run()


def server_of(
    home: ServerHome, binding: Binding, *, access: Access | None, request_s: float = REQUEST_S
) -> uvicorn.Server:
    """The server, not yet started. request_s: how long a whole request is waited for."""
    own = () if binding.address in EVERY_ADDRESS else (binding.address,)
    server: _Server
    app = build_app(
        home,
        hosts=(*own, *binding.hosts),
        access=access,
        files_only=binding.files_only,
        closing=lambda: server.ending or server.should_exit,
    )
    server = _Server(
        uvicorn.Config(
            app,
            host=binding.address,
            port=binding.port,
            log_level=logging.WARNING,
            log_config=None,  # the log is the command's (minet_core.runtime.logs)
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing here rests on who a proxy says the reader is
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=CLOSING_S,
            http=patient_protocol(request_s=request_s),
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            limit_concurrency=LIMIT,
        )
    )
    return server
