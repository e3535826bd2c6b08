"""The federation's certificates, tried on real TLS connections over loopback."""

from __future__ import annotations

import contextlib
import datetime
import shutil
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from minet_core.errors import ConfigurationError, DiskFull, FileMissing, InvalidSetting
from server.admission import pki as pki_module
from server.admission.pki import (
    Authority,
    KeyPair,
    ca_files,
    change_passphrase,
    expires_at,
    issue_server_certificate,
    issue_site_certificate,
    make_ca,
    open_authority,
    server_files,
    settle_server_key,
)

PASSPHRASE = "four words of a trial"
HOSTS = ("127.0.0.1", "localhost", "coordinator.example.org")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_ca(tmp_path_factory.mktemp("made") / "pki", name="trial", passphrase=PASSPHRASE)


@pytest.fixture
def authority(tmp_path: Path, made: Authority) -> Authority:
    """A copy: a key under a passphrase is meant to take its time."""
    shutil.copytree(made.folder, tmp_path / "pki")
    return replace(made, folder=tmp_path / "pki")


@pytest.fixture
def pki(authority: Authority) -> Path:
    return authority.folder


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
def test_the_chain_verifies_strictly_for_every_name(pki: Path, authority: Authority, name: str) -> None:
    files = issue_server_certificate(authority, hosts=HOSTS)
    with _server(files) as port:
        assert _connect(port, ca_files(pki).certificate, name=name) == "TLSv1.3"


def test_a_foreign_authority_is_refused(pki: Path, authority: Authority, tmp_path: Path) -> None:
    other = make_ca(tmp_path / "foreign", name="trial", passphrase=PASSPHRASE)
    foreign = issue_server_certificate(other, hosts=HOSTS)
    with _server(foreign) as port, pytest.raises(ssl.SSLCertVerificationError):
        _connect(port, ca_files(pki).certificate, name="localhost")


def test_an_expired_certificate_is_refused(pki: Path, authority: Authority) -> None:
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=100)
    expired = issue_server_certificate(authority, hosts=HOSTS, days=90, now=long_ago)
    with _server(expired) as port, pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        _connect(port, ca_files(pki).certificate, name="localhost")


@pytest.mark.parametrize("name", ["127.0.0.2", "example.org"])
def test_a_wrong_name_is_refused(pki: Path, authority: Authority, name: str) -> None:
    files = issue_server_certificate(authority, hosts=HOSTS)
    with _server(files) as port, pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        _connect(port, ca_files(pki).certificate, name=name)


def test_a_server_certificate_cannot_issue_another(pki: Path, authority: Authority, tmp_path: Path) -> None:
    files = issue_server_certificate(authority, hosts=HOSTS)
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    key = serialization.load_pem_private_key(files.private_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    rogue = tmp_path / "rogue"
    rogue.mkdir()
    issued = issue_server_certificate(Authority(rogue, certificate, key), hosts=HOSTS)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(issued.certificate.read_bytes() + files.certificate.read_bytes())
    with _server(KeyPair(chain, issued.private_key)) as port, pytest.raises(ssl.SSLCertVerificationError):
        _connect(port, ca_files(pki).certificate, name="localhost")


def test_private_keys_are_readable_by_their_owner_alone(pki: Path, authority: Authority) -> None:
    files = issue_server_certificate(authority, hosts=HOSTS)
    for path in (files.private_key, ca_files(pki).private_key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("cut_off", ["before its certificate is written", "before its key is in its place"])
def test_a_server_s_pair_fits_wherever_its_renewal_is_cut_off(
    pki: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, cut_off: str
) -> None:
    """What would be found out at the next restart, months later, with every site shut out."""
    former = issue_server_certificate(authority, hosts=HOSTS).certificate.read_bytes()

    def full(*_: object) -> None:
        raise DiskFull("a certificate could not be written")

    step = "_write_certificate" if "certificate" in cut_off else "settle_server_key"
    with monkeypatch.context() as patch:
        patch.setattr(pki_module, step, full)
        with pytest.raises(DiskFull):
            issue_server_certificate(authority, hosts=HOSTS)
    settle_server_key(pki)
    files = server_files(pki)
    assert (files.certificate.read_bytes() == former) == (step == "_write_certificate")
    with _server(files) as port:
        _connect(port, ca_files(pki).certificate, name="localhost")
    issue_server_certificate(authority, hosts=HOSTS)
    with _server(files) as port:
        _connect(port, ca_files(pki).certificate, name="localhost")
    assert {path.name for path in pki.glob("server.*")} == {"server.pem", "server.key"}


def test_the_validity_is_ninety_days_and_two_years(pki: Path, authority: Authority) -> None:
    now = datetime.datetime.now(datetime.UTC)
    files = issue_server_certificate(authority, hosts=HOSTS)
    assert (expires_at(files.certificate) - now).days in (89, 90)
    assert (expires_at(ca_files(pki).certificate) - now).days in (729, 730)


def test_an_authority_is_never_overwritten(pki: Path) -> None:
    before = ca_files(pki).certificate.read_bytes()
    with pytest.raises(ConfigurationError, match="already here"):
        make_ca(pki, name="another", passphrase=PASSPHRASE)
    assert ca_files(pki).certificate.read_bytes() == before


def test_a_certificate_needs_the_authority(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        open_authority(tmp_path, PASSPHRASE)


def test_the_authority_is_opened_by_its_passphrase_alone(pki: Path, authority: Authority) -> None:
    assert open_authority(pki, PASSPHRASE).certificate == authority.certificate
    with pytest.raises(InvalidSetting, match="does not open"):
        open_authority(pki, "four words of a tria1")


def test_the_key_may_be_kept_elsewhere(pki: Path, tmp_path: Path) -> None:
    ca_files(pki).private_key.rename(tmp_path / "on-a-stick.key")
    with pytest.raises(FileMissing, match="--ca-key"):
        open_authority(pki, PASSPHRASE)
    open_authority(pki, PASSPHRASE, key=tmp_path / "on-a-stick.key")


def test_the_key_of_another_authority_is_refused(pki: Path, tmp_path: Path) -> None:
    make_ca(tmp_path / "other", name="trial", passphrase=PASSPHRASE)
    with pytest.raises(InvalidSetting, match="not that of its certificate"):
        open_authority(pki, PASSPHRASE, key=tmp_path / "other" / "ca.key")


def test_a_passphrase_can_be_changed(pki: Path) -> None:
    change_passphrase(pki, former=PASSPHRASE, passphrase="another passphrase")
    open_authority(pki, "another passphrase")
    with pytest.raises(InvalidSetting):
        open_authority(pki, PASSPHRASE)


def test_a_key_without_a_passphrase_is_refused_until_it_has_one(pki: Path, authority: Authority) -> None:
    plain = authority.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    ca_files(pki).private_key.write_bytes(plain)
    with pytest.raises(InvalidSetting, match="not encrypted"):
        open_authority(pki, PASSPHRASE)
    change_passphrase(pki, former=None, passphrase=PASSPHRASE)
    open_authority(pki, PASSPHRASE)


def test_a_sites_certificate_is_a_clients_and_nothing_else(authority: Authority) -> None:
    certificate = issue_site_certificate(authority, "sms", _key().public_key())
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.subject.rfc4514_string() == "CN=sms"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_sites_certificate_ends_with_its_authority_at_the_latest(tmp_path: Path) -> None:
    short = make_ca(tmp_path / "short", name="trial", passphrase=PASSPHRASE, days=10)
    certificate = issue_site_certificate(short, "sms", _key().public_key(), days=90)
    assert certificate.not_valid_after_utc == short.certificate.not_valid_after_utc


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())
