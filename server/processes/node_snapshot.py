"""What the coordinator's screen needs beside the runs, where it is a container that reads files alone.

    screen/ca.pem, server.pem, crl.pem   copies of the public files in pki/, for the days they are valid
    screen/nodes.json                    which nodes the SuperLink sees, and when it was asked

Brought up to date while the server runs. Nothing secret is in it: a screen that was broken into has no key, no network
to the SuperLink, whose control interface asks for no password, and nothing that it could write to.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from pydantic import FiniteFloat, TypeAdapter

from minet_core.runtime.files.atomic_write import write_json
from server.flower.superlink_control import Node
from server.processes.proxy_files import update_copies
from server.server_home import ServerHome

CERTIFICATES = ("ca.pem", "server.pem", "crl.pem")
NODES_FILE = "nodes.json"

ASK_EVERY_S = 10.0
"""An answer of the SuperLink costs a TLS handshake."""

OLD_AFTER_S = 60.0
"""A page of nodes this old is that of a server which no longer asks."""


@dataclass(frozen=True)
class _Nodes:
    asked: FiniteFloat
    nodes: list[Node]


_NODES = TypeAdapter(_Nodes)


@dataclass
class ScreenFiles:
    """Keeps the folder; `update` is called about once a second."""

    home: ServerHome
    clock: Callable[[], float] = time.monotonic
    _asked: float | None = None

    def update(self, nodes: Callable[[], Sequence[Node]] | None) -> None:
        """nodes: asks the SuperLink; None where it does not answer. Raises as `nodes` does, and DiskFull (FM-S504)."""
        update_copies(self.home.pki, self.home.screen, CERTIFICATES)
        now = self.clock()
        if nodes is None or (self._asked is not None and now - self._asked < ASK_EVERY_S):
            return
        self._asked = now
        write_json(
            self.home.screen / NODES_FILE, {"asked": time.time(), "nodes": [asdict(node) for node in nodes()]}
        )


def read_nodes(home: ServerHome, *, now: float) -> tuple[datetime.datetime, list[Node]] | None:
    """When the SuperLink was asked last, and what it saw; None where that is too long ago. now: seconds since 1970."""
    try:
        page = _NODES.validate_json((home.screen / NODES_FILE).read_bytes(), strict=True)
        asked, *_ = (
            datetime.datetime.fromtimestamp(moment, datetime.UTC)
            for moment in (page.asked, *(node.online_until or 0.0 for node in page.nodes))
        )
    except (OSError, ValueError, OverflowError):
        return None
    return None if now - page.asked > OLD_AFTER_S else (asked, page.nodes)
