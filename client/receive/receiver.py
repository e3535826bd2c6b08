"""A DICOM Storage SCP for MR images, with an allow-list of peers and limits on what they may send.

What is taken and how stands in `intake.py`; this is who is heard. pynetdicom's own log, which has identifiers in it, is
turned off.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socketserver
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from client.receive.commitment import Commitment
from client.receive.inbox import Inbox
from client.receive.intake import KINDS, SUCCESS, SYNTAXES, Intake
from client.receive.silence import be_silent
from client.receive.tls import tls_of_receiver
from minet_core.errors import InvalidSetting, PortInUse
from sites.settings.receive_settings import ReceiveSettings


class _Server(ThreadedAssociationServer):
    """Looks at the address first, and then, in a thread of the connection's own, shakes hands: a peer that says nothing
    holds up no other. pynetdicom's own server does both the other way round.
    """

    daemon_threads = True
    is_peer: Callable[[str], bool]
    failed: Callable[[], None]
    tls: ssl.SSLContext | None
    timeout_s: float

    def verify_request(self, _request: object, client_address: tuple[Any, ...]) -> bool:
        return self.is_peer(str(client_address[0]))

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(self.timeout_s)
        if self.tls is not None:
            request = self.tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, _request: object, _client_address: object) -> None:
        """Count it: the trace has the peer's address in it."""
        self.failed()


class Receiver:
    """One Storage SCP, which commits where site.yaml says so."""

    def __init__(self, settings: ReceiveSettings, inbox: Inbox) -> None:
        _require_peers(settings)
        self._settings, self._inbox = settings, inbox
        self._intake = Intake(settings, inbox)
        self._commitment = Commitment(settings, inbox, self._intake.count)
        self._networks = [ipaddress.ip_network(one) for one in settings.peers]

    @property
    def counts(self) -> Counter[str]:
        """What came, by our own words."""
        return self._intake.counts

    @contextlib.contextmanager
    def running(self) -> Iterator[int]:
        """Receive until the block is left; the port. Raises PortInUse (FM-S501), RunBusy (FM-S507), FileMissing."""
        settings, context, intake = self._settings, tls_of_receiver(self._settings), self._intake
        be_silent()
        application = AE(ae_title=settings.title)
        application.require_called_aet = True
        application.require_calling_aet = list(settings.calling_titles)
        application.maximum_associations = settings.max_associations
        application.maximum_pdu_size = settings.max_pdu_bytes
        application.acse_timeout = application.dimse_timeout = application.network_timeout = (
            settings.timeout_s
        )
        application.add_supported_context(Verification)
        for sop_class in KINDS:
            application.add_supported_context(UID(sop_class), SYNTAXES)
        if settings.commitment:
            application.add_supported_context(StorageCommitmentPushModel)
        handlers: Any = [
            (evt.EVT_CONN_OPEN, intake.bound),
            (evt.EVT_C_STORE, intake.store),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_N_ACTION, self._asked_to_commit),
            (evt.EVT_REJECTED, lambda _: intake.count("associations refused")),
            (evt.EVT_CONN_CLOSE, intake.closed),
        ]
        with self._inbox.alone(), self._commitment.reporting():
            address = (settings.address, settings.port)
            try:
                server: Any = application.make_server(address, evt_handlers=handlers, server_class=_Server)
            except OSError as failure:
                raise PortInUse(
                    "the receiver cannot listen",
                    got=f"{settings.address}:{settings.port}, {failure.strerror}",
                    action="Choose another receive.port or receive.address in site.yaml",
                ) from failure
            server.is_peer, server.failed = self._is_peer, lambda: intake.count("connections that failed")
            server.tls, server.timeout_s = context, settings.timeout_s
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
            thread.start()
            try:
                yield int(server.server_address[1])
            finally:
                socketserver.BaseServer.shutdown(server)  # pynetdicom's own is for a server that it started
                server.server_close()
                for association in application.active_associations:
                    association.abort()

    def _is_peer(self, host: str) -> bool:
        address = ipaddress.ip_address(host.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None) or address
        known = any(mapped in network for network in self._networks)
        if not known:
            self._intake.count("connections refused by address")
        return known

    def _echo(self, event: Any) -> int:
        self._intake.has_whole_message(event)
        self._intake.count("echoes")
        return SUCCESS

    def _asked_to_commit(self, event: Any) -> tuple[int, None]:
        self._intake.has_whole_message(event)
        return self._commitment.asked(event)


def _require_peers(settings: ReceiveSettings) -> None:
    for name in ("calling_titles", "peers"):
        if not getattr(settings, name):
            raise InvalidSetting(
                "nobody may send to this site",
                got=f"receive.{name} is empty",
                action=f"List who may send in receive.{name} of site.yaml",
            )
