"""TLS 1.2 or later with a certificate at either end, by the files of `receive` in site.yaml."""

from __future__ import annotations

import ssl
from pathlib import Path

from minet_core.errors import FileMissing, InvalidSetting
from sites.settings.receive_settings import ReceiveSettings


def tls_of_receiver(settings: ReceiveSettings) -> ssl.SSLContext | None:
    """For who is called; None where TLS is not set. Raises FileMissing (FM-C103), InvalidSetting (FM-C102)."""
    return _context(settings, ssl.PROTOCOL_TLS_SERVER)


def tls_of_caller(settings: ReceiveSettings) -> ssl.SSLContext | None:
    """For who calls; the name or address that is called must be in the peer's certificate. As `tls_of_receiver`."""
    return _context(settings, ssl.PROTOCOL_TLS_CLIENT)


def _context(settings: ReceiveSettings, protocol: int) -> ssl.SSLContext | None:
    if settings.certificate is None or settings.private_key is None or settings.authority is None:
        return None
    context = ssl.SSLContext(protocol)
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
