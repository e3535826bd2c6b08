"""The site's end of TLS: the server's certificate held to the kit's authority, and the site's own one shown.

A certificate that was renewed is used without a restart: every connection is made with a context of its own, read from
the files as they are then. A connection that is open goes on with the certificate that it was opened with; the
coordinator's proxy closes each within minutes.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CERTIFICATE_OPTION, KEY_OPTION = "--client-certificate", "--client-key"
"""Options of `client.flower.programs supernode`, beside Flower's own."""


@dataclass(frozen=True)
class TlsFiles:
    """Where the site's TLS files are; the link `kit` in their paths is followed anew each time."""

    authority: Path
    certificate: Path
    private_key: Path


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """A context from the files as they are now: TLS 1.2 or later, strict about the server's chain and name.

    Raises OSError and ssl.SSLError (which is one) where a file is missing or does not fit the others.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cafile=str(files.authority))
    context.load_cert_chain(files.certificate, files.private_key)
    return context


class RenewedContext(ssl.SSLContext):
    """A context for httpx, which keeps one for its life: each handshake is made by a new context from the files.

    Not by loading them into this one: OpenSSL does not let a context be changed while another thread shakes hands.
    """

    files: TlsFiles
    protocols: list[str]

    def __new__(cls, files: TlsFiles) -> RenewedContext:
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        context.files = files
        context.protocols = []
        return context

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Kept for the contexts that shake hands."""
        self.protocols = list(alpn_protocols)

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        """As SSLContext's: a connection to the server, or through a proxy that let it pass (CONNECT)."""
        return self._now().wrap_socket(*arguments, **options)

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """As SSLContext's: a connection within one to a proxy that speaks TLS itself."""
        return self._now().wrap_bio(*arguments, **options)

    def _now(self) -> ssl.SSLContext:
        context = tls_context(self.files)
        if self.protocols:
            context.set_alpn_protocols(self.protocols)
        return context
