"""The federation's own certificate authority and the server's certificate.

    pki/ca.pem      the authority's certificate; every site gets it in its kit
    pki/ca.key      its private key; needed to issue a certificate, not to run the server
    pki/server.pem  the server's certificate
    pki/server.key  its private key

EC P-384 throughout, as for the sites' keys. TLS as Flower uses it knows no revocation list, so a server's
certificate is short-lived: issue the next one before it expires and restart the server.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from minet_core.runtime.durable import replacing
from minet_core.runtime.errors import ConfigurationError, FileMissing, InvalidSetting

CA_DAYS = 730
SERVER_DAYS = 90
CLOCK_SKEW = datetime.timedelta(minutes=10)
"""A certificate is valid this long before it is made: a site's clock may be behind."""

_CURVE = ec.SECP384R1()


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, as files."""

    certificate: Path
    private_key: Path


def ca_files(folder: Path) -> KeyPair:
    """Where the authority of `folder` is kept."""
    return KeyPair(folder / "ca.pem", folder / "ca.key")


def server_files(folder: Path) -> KeyPair:
    """Where the server's certificate of `folder` is kept."""
    return KeyPair(folder / "server.pem", folder / "server.key")


def make_ca(folder: Path, *, name: str, days: int = CA_DAYS, now: datetime.datetime | None = None) -> KeyPair:
    """Make the authority of the federation `name`. Raises ConfigurationError (FM-C100) where there is one."""
    files = ca_files(folder)
    if files.certificate.exists() or files.private_key.exists():
        raise ConfigurationError(
            "a certificate authority is already here",
            got=folder,
            action="Every site trusts the present one; make another in another folder",
        )
    key = ec.generate_private_key(_CURVE)
    subject = _name(f"{name} federation CA")
    certificate = (
        _certificate(subject, subject, key.public_key(), days=days, now=now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    _write(files, certificate, key)
    return files


def issue_server_certificate(
    folder: Path, *, hosts: Sequence[str], days: int = SERVER_DAYS, now: datetime.datetime | None = None
) -> KeyPair:
    """Issue the server's certificate for `hosts`, names and IP addresses; replaces an earlier one.

    Raises FileMissing (FM-C103) where `folder` holds no authority, InvalidSetting (FM-C102) for no host.
    """
    if not hosts:
        raise InvalidSetting("a server certificate needs a host", got="none", expected="names or addresses")
    ca_certificate, ca_key = _read_ca(folder)
    key = ec.generate_private_key(_CURVE)
    certificate = (
        _certificate(_name(hosts[0]), ca_certificate.subject, key.public_key(), days=days, now=now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA384())
    )
    files = server_files(folder)
    _write(files, certificate, key)
    return files


def expires_at(certificate: Path) -> datetime.datetime:
    """When the certificate ends to be valid, UTC."""
    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc


def write_private(path: Path, content: bytes) -> None:
    """Write a file durably that only its owner may read, from its first byte on."""
    with replacing(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)


def _read_ca(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    files = ca_files(folder)
    for path in (files.certificate, files.private_key):
        if not path.is_file():
            raise FileMissing(
                "the certificate authority is incomplete", got=path, expected="an existing file"
            )
    key = serialization.load_pem_private_key(files.private_key.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidSetting("the authority's key is of another kind", got=type(key).__name__, expected="EC")
    return x509.load_pem_x509_certificate(files.certificate.read_bytes()), key


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    *,
    days: int,
    now: datetime.datetime | None,
) -> x509.CertificateBuilder:
    start = now or datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - CLOCK_SKEW)
        .not_valid_after(start + datetime.timedelta(days=days))
    )


def _write(files: KeyPair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    files.certificate.parent.mkdir(parents=True, exist_ok=True)
    write_private(
        files.private_key,
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    with replacing(files.certificate) as temporary:
        temporary.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])]
    )  # 64: RFC 5280, ub-common-name


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
