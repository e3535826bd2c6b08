"""The federation's certificates, tried on real TLS connections over loopback."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from minet_core.runtime.errors import ConfigurationError, FileMissing
from server.pki import KeyPair, ca_files, expires_at, issue_server_certificate, make_ca

HOSTS = ("127.0.0.1", "localhost", "coordinator.example.org")


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    make_ca(tmp_path / "pki", name="trial")
    return tmp_path / "pki"


@contextlib.contextmanager
def _server(files: KeyPair) -> Iterator[int]:
    """A TLS server on loopback that accepts connections until the context is left."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.private_key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()
        listener.settimeout(0.1)

        def accept() -> None:
            while not ended.is_set():
                with contextlib.suppress(OSError):
                    raw, _ = listener.accept()
                    with raw, contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True):
                        pass

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            thread.join()


def _connect(port: int, ca: Path, *, name: str) -> str | None:
    context = ssl.create_default_context(cafile=str(ca))
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # what Python 3.13 does by default
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname=name) as secured,
    ):
        return secured.version()


@pytest.mark.parametrize("name", HOSTS)
def test_the_chain_verifies_strictly_for_every_name(pki: Path, name: str) -> None:
    files = issue_server_certificate(pki, hosts=HOSTS)
    with _server(files) as port:
        assert _connect(port, ca_files(pki).certificate, name=name) == "TLSv1.3"


def test_a_foreign_authority_is_refused(pki: Path, tmp_path: Path) -> None:
    make_ca(tmp_path / "foreign", name="trial")
    foreign = issue_server_certificate(tmp_path / "foreign", hosts=HOSTS)
    with _server(foreign) as port, pytest.raises(ssl.SSLCertVerificationError):
        _connect(port, ca_files(pki).certificate, name="localhost")


def test_an_expired_certificate_is_refused(pki: Path) -> None:
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=100)
    expired = issue_server_certificate(pki, hosts=HOSTS, days=90, now=long_ago)
    with _server(expired) as port, pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        _connect(port, ca_files(pki).certificate, name="localhost")


@pytest.mark.parametrize("name", ["127.0.0.2", "example.org"])
def test_a_wrong_name_is_refused(pki: Path, name: str) -> None:
    files = issue_server_certificate(pki, hosts=HOSTS)
    with _server(files) as port, pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        _connect(port, ca_files(pki).certificate, name=name)


def test_a_server_certificate_cannot_issue_another(pki: Path, tmp_path: Path) -> None:
    files = issue_server_certificate(pki, hosts=HOSTS)
    rogue = tmp_path / "rogue"
    rogue.mkdir()
    (rogue / "ca.pem").write_bytes(files.certificate.read_bytes())
    (rogue / "ca.key").write_bytes(files.private_key.read_bytes())
    issued = issue_server_certificate(rogue, hosts=HOSTS)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(issued.certificate.read_bytes() + files.certificate.read_bytes())
    with _server(KeyPair(chain, issued.private_key)) as port, pytest.raises(ssl.SSLCertVerificationError):
        _connect(port, ca_files(pki).certificate, name="localhost")


def test_private_keys_are_readable_by_their_owner_alone(pki: Path) -> None:
    files = issue_server_certificate(pki, hosts=HOSTS)
    for path in (files.private_key, ca_files(pki).private_key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_validity_is_ninety_days_and_two_years(pki: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    files = issue_server_certificate(pki, hosts=HOSTS)
    assert (expires_at(files.certificate) - now).days in (89, 90)
    assert (expires_at(ca_files(pki).certificate) - now).days in (729, 730)


def test_an_authority_is_never_overwritten(pki: Path) -> None:
    before = ca_files(pki).certificate.read_bytes()
    with pytest.raises(ConfigurationError, match="already here"):
        make_ca(pki, name="another")
    assert ca_files(pki).certificate.read_bytes() == before


def test_a_certificate_needs_the_authority(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        issue_server_certificate(tmp_path, hosts=HOSTS)
