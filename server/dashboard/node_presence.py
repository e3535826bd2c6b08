"""Which sites the SuperLink sees, asked for in the background so that no page waits for it."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from minet_core.errors import FedminetError
from server.admission.pki import ca_files
from server.flower.superlink_control import Node, SuperLinkControl
from server.processes.node_snapshot import read_nodes
from server.server_home import ServerHome, local_address

ASK_AGAIN_S = 10.0
"""An answer this old is renewed when it is next asked for: each costs a TLS handshake."""

FIRST_ANSWER_S = 2.0
"""How long the first page waits for the first answer."""


@dataclass(frozen=True)
class Sighting:
    """What the SuperLink said at `asked`; `nodes` is None where it did not answer."""

    asked: datetime.datetime
    nodes: Mapping[str, Node] | None


@dataclass
class NodePresence:
    """The last sighting, at most `ASK_AGAIN_S` older than the request before this one."""

    ask: Callable[[], Sighting]
    _last: Sighting | None = None
    _asked_at: float = 0.0
    _asking: threading.Thread | None = None
    _alone: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, home: ServerHome) -> NodePresence:
        """Of the SuperLink of `home`."""

        def ask() -> Sighting:
            nodes: list[Node] | None
            try:
                nodes = SuperLinkControl(local_address(home), ca=ca_files(home.pki).certificate).nodes()
            except (
                FedminetError,
                OSError,
                ValueError,
            ):  # no certificate yet, none that leads here, nobody there
                nodes = None
            return sighting_of(datetime.datetime.now(datetime.UTC), nodes)

        return cls(ask)

    @classmethod
    def from_files(cls, home: ServerHome) -> NodePresence:
        """As the started server wrote down what its SuperLink said (server.processes.node_snapshot)."""

        def ask() -> Sighting:
            asked, nodes = read_nodes(home, now=time.time()) or (datetime.datetime.now(datetime.UTC), None)
            return sighting_of(asked, nodes)

        return cls(ask)

    def latest(self) -> Sighting | None:
        """The last answer; a new one is asked for meanwhile where it is old. None while the first is awaited."""
        with self._alone:
            asking, old = self._asking, time.monotonic() - self._asked_at > ASK_AGAIN_S
            if asking is None or (old and not asking.is_alive()):
                self._asked_at = time.monotonic()
                asking = threading.Thread(target=self._ask, name="sightings", daemon=True)
                asking.start()
                self._asking = asking
        if self._last is None:
            asking.join(FIRST_ANSWER_S)
        return self._last

    def _ask(self) -> None:
        self._last = self.ask()


def sighting_of(asked: datetime.datetime, nodes: Sequence[Node] | None) -> Sighting:
    """By the nodes' names."""
    return Sighting(asked, None if nodes is None else {node.name: node for node in nodes})
