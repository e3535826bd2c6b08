"""TLS 1.2 or later with a certificate at either end, by the files of `receive` in site.yaml.

The one certificate serves where the site is called and where it calls, so it must be valid for both uses.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TypeVar

from minet_core.errors import FileMissing, InvalidSetting
from sites.settings.receive_settings import ReceiveSettings

Context = TypeVar("Context", bound=ssl.SSLContext)


class CallerContext(ssl.SSLContext):
    """One that keeps why the last handshake failed: pynetdicom passes over it. failure: None where it did not."""

    failure: str | None = None


class _NotingSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except ssl.SSLCertVerificationError as failure:
            self._note(failure.verify_message)
            raise
        except ssl.SSLError as failure:
            self._note(str(failure.reason or "the peer ended the handshake").lower().replace("_", " "))
            raise
        except OSError:  # it was cut, or there was no answer in time: a peer without TLS waits for the rest
            self._note("the peer does not answer a handshake")
            raise

    def _note(self, why: str) -> None:
        if isinstance(self.context, CallerContext):
            self.context.failure = why


CallerContext.sslsocket_class = _NotingSocket


def tls_of_receiver(settings: ReceiveSettings) -> ssl.SSLContext | None:
    """For who is called; None where TLS is not set. Raises FileMissing (FM-C103), InvalidSetting (FM-C102)."""
    return None if settings.certificate is None else _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), settings)


def tls_of_caller(settings: ReceiveSettings) -> CallerContext | None:
    """For who calls; the name or address that is called must be in the peer's certificate. As `tls_of_receiver`."""
    return None if settings.certificate is None else _load(CallerContext(ssl.PROTOCOL_TLS_CLIENT), settings)


def _load(context: Context, settings: ReceiveSettings) -> Context:
    assert settings.certificate is not None
    assert settings.private_key is not None
    assert settings.authority is not None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        # Without a passphrase of our own OpenSSL would ask for one at the terminal, and wait.
        context.load_cert_chain(_file(settings.certificate), _file(settings.private_key), password=str)
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
