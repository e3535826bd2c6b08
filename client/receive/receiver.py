"""A DICOM Storage SCP for MR images, with an allow-list of peers and limits on what they may send.

Success is answered when the object is on the disk and no sooner. Nothing of an object or of a peer is logged: counts,
and the reasons that stand here. pynetdicom's own log, which has identifiers in it, is turned off.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socketserver
import ssl
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import Any

from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from client.receive.inbox import Inbox
from minet_core.errors import FileMissing, InvalidSetting, PortInUse
from sites.scans.dicom.frames import CLASSIC, ENHANCED
from sites.settings.receive_settings import ReceiveSettings

SUCCESS, OUT_OF_RESOURCES, REFUSED = 0x0000, 0xA700, 0xC001
COMMAND_BYTES = 1 << 16
"""Beside the object itself: a command, and the headers of its fragments."""
PDU_HEAD_BYTES = 1 << 16
"""A request for association may be longer than the PDU that is agreed in it."""

_SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    JPEG2000,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
]
"""What ingest reads, but for explicit big endian, which is retired; deflated objects it does not read."""
_LOG = logging.getLogger("fedminet.site")


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
    """One Storage SCP. counts: what came, by our own words."""

    def __init__(self, settings: ReceiveSettings, inbox: Inbox) -> None:
        _require_peers(settings)
        self.counts: Counter[str] = Counter()
        self._settings, self._inbox = settings, inbox
        self._networks = [ipaddress.ip_network(one) for one in settings.peers]
        self._of_association: Counter[int] = Counter()
        self._arrived: Counter[int] = Counter()
        self._guard = threading.Lock()

    @contextlib.contextmanager
    def running(self) -> Iterator[int]:
        """Receive until the block is left; the port. Raises PortInUse (FM-S501), RunBusy (FM-S507), FileMissing."""
        settings, context = self._settings, _tls(self._settings)
        _be_silent()
        application = AE(ae_title=settings.title)
        application.require_called_aet = True
        application.require_calling_aet = list(settings.calling_titles)
        application.maximum_associations = settings.max_associations
        application.maximum_pdu_size = settings.max_pdu_bytes
        application.acse_timeout = application.dimse_timeout = application.network_timeout = (
            settings.timeout_s
        )
        application.add_supported_context(Verification)
        for sop_class in (CLASSIC, *sorted(ENHANCED)):
            application.add_supported_context(UID(sop_class), _SYNTAXES)
        handlers: Any = [
            (evt.EVT_CONN_OPEN, self._bound),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_REJECTED, lambda _: self._count("associations refused")),
            (evt.EVT_CONN_CLOSE, self._closed),
        ]
        with self._inbox.alone():
            address = (settings.address, settings.port)
            try:
                server: Any = application.make_server(address, evt_handlers=handlers, server_class=_Server)
            except OSError as failure:
                raise PortInUse(
                    "the receiver cannot listen",
                    got=f"{settings.address}:{settings.port}, {failure.strerror}",
                    action="Choose another receive.port or receive.address in site.yaml",
                ) from failure
            server.is_peer, server.failed = self._is_peer, lambda: self._count("connections that failed")
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
            self._count("connections refused by address")
        return known

    def _bound(self, event: Any) -> None:
        """Hold what a peer sends to the limits before it is in memory."""
        socket, key = event.assoc.dul.socket, id(event.assoc)
        socket.socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        receive, limit = socket.recv, self._settings.max_object_bytes + COMMAND_BYTES
        longest = max(self._settings.max_pdu_bytes, PDU_HEAD_BYTES) + 6

        def bounded(n_bytes: int) -> bytearray:
            self._arrived[key] += n_bytes
            if n_bytes > longest or self._arrived[key] > limit:
                self._count("connections cut for length")
                raise OSError("longer than is taken")
            found: bytearray = receive(n_bytes)
            return found

        socket.recv = bounded

    def _store(self, event: Any) -> int:
        key, request = id(event.assoc), event.request
        self._arrived[key] = 0
        self._of_association[key] += 1
        if self._of_association[key] > self._settings.max_objects:
            return self._refuse("objects refused for their number", OUT_OF_RESOURCES)
        if str(request.AffectedSOPClassUID) not in {CLASSIC, *ENHANCED}:
            return self._refuse("objects refused for their kind", REFUSED)
        try:
            content = event.encoded_dataset()
            if self._inbox.free_bytes() - len(content) < self._settings.min_free_bytes:
                return self._refuse("objects refused for want of room", OUT_OF_RESOURCES)
            self._inbox.put(str(request.AffectedSOPInstanceUID), content)
        except OSError:
            return self._refuse("objects that could not be written", OUT_OF_RESOURCES)
        except Exception:  # what its text says may be of a patient
            return self._refuse("objects that could not be read", REFUSED)
        self._count("objects received")
        return SUCCESS

    def _echo(self, event: Any) -> int:
        self._arrived[id(event.assoc)] = 0
        self._count("echoes")
        return SUCCESS

    def _closed(self, event: Any) -> None:
        key = id(event.assoc)
        n_objects = self._of_association.pop(key, 0)
        self._arrived.pop(key, None)
        _LOG.info(
            "an association ended: %d objects; %d received in all", n_objects, self.counts["objects received"]
        )

    def _refuse(self, why: str, status: int) -> int:
        self._count(why)
        return status

    def _count(self, what: str) -> None:
        with self._guard:
            self.counts[what] += 1
            if self.counts[what] == 1 and "received" not in what and what != "echoes":
                _LOG.warning("first of its kind: %s", what)


def _require_peers(settings: ReceiveSettings) -> None:
    for name in ("calling_titles", "peers"):
        if not getattr(settings, name):
            raise InvalidSetting(
                "nobody may send to this site",
                got=f"receive.{name} is empty",
                action=f"List who may send in receive.{name} of site.yaml",
            )


def _tls(settings: ReceiveSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or later with a certificate asked of the peer; None where it is not set. Raises FileMissing (FM-C103)."""
    if settings.certificate is None or settings.private_key is None or settings.authority is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(_file(settings.certificate), _file(settings.private_key))
        context.load_verify_locations(_file(settings.authority))
    except ssl.SSLError as failure:
        raise InvalidSetting(
            "the receiver's certificate, key or authority is none", got=failure.reason
        ) from failure
    return context


def _file(path: Path) -> Path:
    if not path.is_file():
        raise FileMissing(
            "a file of the receiver's TLS is missing", got=path, action="See receive in site.yaml"
        )
    return path


def _be_silent() -> None:
    """Turn off what writes identifiers: pynetdicom's and pydicom's logs, their warnings, and traces of threads."""
    for name in ("pynetdicom", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        logging.getLogger(name).propagate = False
        warnings.filterwarnings("ignore", module=rf"{name}\b.*")
    threading.excepthook = _log_thread_failure


def _log_thread_failure(failure: threading.ExceptHookArgs) -> None:
    _LOG.error("a connection ended by %s", failure.exc_type.__name__)
