"""Associations that the site opens itself: to report a commitment, to fetch, to send.

A request without an answer is asked again, in an association of its own (`ATTEMPTS`): every request of the site may be
repeated.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from client.receive.silence import be_silent
from client.receive.steady_requests import make_steady
from client.receive.tls import CallerContext, tls_of_caller
from minet_core.errors import DicomPeerUnreachable, InvalidSetting
from sites.settings.receive_settings import Endpoint, ReceiveSettings, Title

ATTEMPTS = 3
_PEER = re.compile(r"(?P<title>[^@]+)@(?P<host>\[[^]]+\]|[^:@]+):(?P<port>\d+)")


@dataclass(frozen=True)
class Peer:
    """Who is called."""

    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Peer:
        """From "AE@host:port". Raises InvalidSetting (FM-C102)."""
        found = _PEER.fullmatch(text)
        try:
            if found is None:
                raise ValueError
            title = TypeAdapter(Title).validate_python(found["title"])
            TypeAdapter(Endpoint).validate_python(f"{found['host']}:{found['port']}")
            peer = cls(title, found["host"].strip("[]"), int(found["port"]))
            if not 1 <= peer.port <= 65535:
                raise ValueError
        except (ValueError, ValidationError):
            raise InvalidSetting(
                "a DICOM peer is not said", got=text, expected="AE@host:port, as PACS@10.1.2.9:104"
            ) from None
        return peer

    def __str__(self) -> str:
        return f"{self.title}@{self.host}:{self.port}"


@dataclass(frozen=True)
class Caller:
    """Who calls: its AE title, how long it waits, and its TLS; None: none."""

    title: str = "FEDMINET"
    timeout_s: float = 60.0
    tls: CallerContext | None = None

    @classmethod
    def of_site(cls, settings: ReceiveSettings, *, timeout_s: float, tls: bool) -> Caller:
        """The site. Raises InvalidSetting (FM-C102) where TLS is wanted and `receive` has no certificate."""
        context = tls_of_caller(settings) if tls else None
        if tls and context is None:
            raise InvalidSetting(
                "there is no certificate for TLS",
                got="receive.certificate is null",
                action="Set certificate, private_key and authority of receive in site.yaml",
            )
        return cls(settings.title, timeout_s, context)


@contextlib.contextmanager
def associated(
    caller: Caller,
    peer: Peer,
    contexts: Sequence[PresentationContext],
    *,
    roles: Sequence[Any] = (),
    handlers: Sequence[Any] = (),
) -> Iterator[Association]:
    """An association for the block. Raises DicomPeerUnreachable (FM-S524) where there is none."""
    be_silent()
    application = AE(ae_title=caller.title)
    application.acse_timeout = application.dimse_timeout = application.network_timeout = caller.timeout_s
    application.connection_timeout = caller.timeout_s
    opened: list[Any] = []
    if caller.tls is not None:
        caller.tls.failure = None

    def keep(event: Any) -> None:
        opened.append(event.assoc.dul.socket.socket)
        opened[0].setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)

    association = application.associate(
        peer.host,
        peer.port,
        contexts=list(contexts),
        ae_title=peer.title,
        ext_neg=list(roles),
        tls_args=None if caller.tls is None else (caller.tls, peer.host),
        evt_handlers=[*handlers, (evt.EVT_CONN_OPEN, keep)],
    )
    try:
        if not association.is_established:
            raise _unreachable(
                peer,
                was_open=bool(opened),
                rejected=association.is_rejected,
                tls=None if caller.tls is None else caller.tls.failure,
            )
        make_steady(association)
        yield association
        if association.is_established:
            association.release()
    finally:
        if association.is_established:
            association.abort()
        if association.ident is not None:
            association.join(5)
        for one in opened:  # pynetdicom leaves that of a refused or cut association to the garbage collection
            one.close()


def _unreachable(peer: Peer, *, was_open: bool, rejected: bool, tls: str | None) -> DicomPeerUnreachable:
    if tls is not None:
        return DicomPeerUnreachable(
            "no TLS with a DICOM peer",
            got=f"{peer}: {tls}",
            expected="a certificate by receive.authority, for the name or address that is called",
            action="Compare the peer's certificate and its authority, and whether that port speaks TLS at all",
        )
    if rejected:
        return DicomPeerUnreachable(
            "a DICOM peer refuses the association",
            got=peer,
            action="Enter this site's AE title and address there, and compare the peer's own title",
        )
    return DicomPeerUnreachable(
        "a DICOM peer does not speak with this site" if was_open else "a DICOM peer does not answer",
        got=peer,
        action="Compare its address, its port and its TLS with what it has",
    )
